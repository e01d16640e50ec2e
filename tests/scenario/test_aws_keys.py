"""AWS KMS beyond one key in one Region: replicas, aliases, and what the identity may do to the key."""

import json

import pytest

from cloud_tool import aws, cloud, settings  # noqa: F401
from cli_tool import Cli
from fakes.cloud import Cloud
from test_aws import SECRET, decrypts_not, oracle, wrap_of


@pytest.fixture(scope="module")
def machine():
    with Cloud(moto=True) as cloud:
        yield cloud


def test_a_replica_opens_what_was_wrapped_in_another_region(cloud, tmp_path):
    """A multi-Region key has one id (moto's reads otherwise than AWS's); what is asked is always the
    key of the region that is set."""
    first = cloud.env["AWS_MRK_ARN"]
    there = first.replace("us-east-1", "eu-west-1")
    cli = Cli(tmp_path, **{**settings(cloud), "AWS_KMS_KEY_ID": first})
    cli.ok("init")
    old = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    values = []
    for number, form in enumerate((there, first.rpartition("/")[2], "alias/mrk",
                                   there.rpartition("key/")[0] + "alias/mrk")):
        cli.env.update(AWS_REGION="eu-west-1", AWS_KMS_KEY_ID=form)
        cloud.control("requests", clear=True)
        assert cli.ok("decrypt", "--tenant", "acme", stdin=old) == SECRET, form
        asked = [one for one in cloud.requests() if one["operation"] == "Decrypt"]
        assert asked and all(json.loads(one["body"])["KeyId"] == there
                             and "/eu-west-1/kms/" in one["headers"]["authorization"]
                             for one in asked)
        values.append(cli.ok("encrypt", "--tenant", f"t{number}", stdin=SECRET))
        assert wrap_of(cli, f"t{number}")[0] == there
    cli.env.update(AWS_REGION="us-east-1", AWS_KMS_KEY_ID=first)
    for number, value in enumerate(values):
        assert cli.ok("decrypt", "--tenant", f"t{number}", stdin=value) == SECRET
    cli.ok("audit", "verify")


def test_I32_F31_only_a_replica_of_the_key_itself_is_asked_and_only_its_answer_counts(cloud,
                                                                                     tmp_path):
    mrk, there = cloud.env["AWS_MRK_ARN"], cloud.env["AWS_MRK_ARN"].replace("us-east-1", "eu-west-1")
    cli = Cli(tmp_path, **{**settings(cloud), "AWS_KMS_KEY_ID": mrk})
    cli.ok("init")
    used = cli, cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    cli.env["AWS_REGION"] = "eu-west-1"
    before = cloud.counts()["kms.Decrypt"]
    for other in (there[:-1] + ("0" if there[-1] != "0" else "1"),  # another key
                  there.replace("111122223333", "999999999999"), there.replace(":aws:", ":aws-cn:"),
                  cloud.env["AWS_KEY_ARN"].replace("us-east-1", "eu-west-1")):
        cli.env["AWS_KMS_KEY_ID"] = other
        decrypts_not(used, 2, "E_NO_MASTER_KEY")
    assert cloud.counts()["kms.Decrypt"] == before
    cli.env["AWS_KMS_KEY_ID"] = there
    cloud.control("script", service="kms", operation="Decrypt", times=-1,
                  answers=[{"real": True, "fault": "wrong_key_id"}])
    decrypts_not(used, 1, "E_PROVIDER", "AWS KMS answered with the key")
    cloud.control("unscript")
    cloud.control("script", service="kms", operation="Decrypt", times=-1, answers=[
        {"status": 200, "json": {"KeyId": mrk, "Plaintext": "QUFB" * 10 + "QUE="}}])
    decrypts_not(used, 1, "E_PROVIDER", f"AWS KMS answered with the key {mrk}, asked was {there}")


@pytest.mark.parametrize("names", ["alias/also, alias/dekhand", "alias/also"])
def test_doctor_tells_by_which_names_the_key_is_known(aws, cloud, names):
    """At the fake, and at moto."""
    if names == "alias/also":
        endpoint = aws.env["AWS_ENDPOINT_URL"] = cloud.env["MOTO"]
        aws.env["AWS_KMS_KEY_ID"] = oracle(cloud, "key", endpoint, "-")
        oracle(cloud, "alias", endpoint, aws.env["AWS_KMS_KEY_ID"])
    else:
        cloud.control("key", id=aws.env["AWS_KMS_KEY_ID"], alias="alias/also")
    aws.ok("init")
    for verb in ("doctor", "health"):
        assert f"{aws.env['AWS_KMS_KEY_ID']} is known as {names}\n" in aws.ok(verb).decode()


def test_aliases_of_many_pages_and_those_that_may_not_be_listed(aws, cloud):
    aws.ok("init")
    for number in range(45):
        cloud.control("key", id=cloud.env["AWS_KEY_ARN"], alias=f"alias/number-{number}")
    cloud.control("set", service="kms", aliases_a_page=7)
    assert b"is known as alias/dekhand, alias/number-0, alias/number-1, alias/number-10" in aws.ok(
        "doctor")
    assert cloud.counts()["kms.ListAliases"] == 5
    cloud.control("deny", action="kms:ListAliases")
    told = aws.ok("doctor")
    assert b"known as" not in told and b"ListAliases" not in told


def test_doctor_warns_of_an_identity_that_may_take_the_key_away(aws, cloud):
    aws.ok("init")
    user, key = "arn:aws:iam::111122223333:user/dekhand", cloud.env["AWS_KEY_ARN"]
    assert (f"ok       master key    the policies of {user} let it neither schedule the deletion of "
            f"{key}") in aws.ok("doctor").decode()
    cloud.control("set", service="iam", allowed=["kms:ScheduleKeyDeletion"])
    told = aws.run("doctor")
    assert told.returncode == 7
    assert (f"warning  master key    {user} has the right kms:ScheduleKeyDeletion on {key}: whoever "
            "gets hold of it destroys every data key under it; fix: attach the deny statement that "
            "dekhand doctor --print-policy prints") in told.stdout.decode()
    cloud.control("set", service="iam", denied=["kms:ScheduleKeyDeletion"],
                  allowed=["kms:ScheduleKeyDeletion", "kms:PutKeyPolicy"])
    assert b"has the right kms:PutKeyPolicy" in aws.run("doctor").stdout
    before = cloud.counts()["iam.SimulatePrincipalPolicy"]
    assert b"PutKeyPolicy" not in aws.ok("health")  # which is asked often, and asks this never
    assert cloud.counts()["iam.SimulatePrincipalPolicy"] == before
    asked = [one["body"] for one in cloud.requests() if one["service"] == "iam"]
    assert all("ResourceArns.member.1=" + key.replace(":", "%3A").replace("/", "%2F") in body
               for body in asked)


def test_IAM_is_asked_in_the_one_region_that_it_has(aws, cloud):
    aws.env.update(AWS_REGION="eu-west-1",
                   AWS_KMS_KEY_ID=cloud.env["AWS_MRK_ARN"].replace("us-east-1", "eu-west-1"))
    aws.ok("init")
    assert "let it neither schedule the deletion of" in aws.ok("doctor").decode()
    scopes = {one["headers"]["authorization"].split("/")[2] for one in cloud.requests()
              if one["service"] == "iam"}
    assert scopes == {"us-east-1"}


def test_a_session_has_the_rights_of_its_role_and_root_has_all(aws, cloud, tmp_path):
    aws.ok("init")
    role = "arn:aws:iam::111122223333:role/dekhand"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del aws.env[name]
    aws.env.update(AWS_ROLE_ARN=cloud.env["AWS_ROLE_ARN"],
                   AWS_WEB_IDENTITY_TOKEN_FILE=cloud.env["AWS_WEB_IDENTITY_TOKEN_FILE"])
    assert f"the policies of {role} let it neither" in aws.ok("doctor").decode()
    cloud.control("set", service="sts", caller="arn:aws:iam::111122223333:root")
    told = aws.run("doctor")
    assert told.returncode == 7
    assert b"dekhand runs as arn:aws:iam::111122223333:root, who may do everything" in told.stdout
    cloud.control("set", service="sts",
                  caller="arn:aws:sts::111122223333:federated-user/somebody")
    assert b"is not known (it is neither a user nor a role)" in aws.ok("doctor")


@pytest.mark.parametrize("more,why", [
    ({"AWS_ENDPOINT_URL_IAM": "https://evil.example"}, "AWS_ENDPOINT_URL_IAM: evil.example is no "
     "host of this service"),
    ({"AWS_ENDPOINT_URL_IAM": "ftp://x"}, "AWS_ENDPOINT_URL_IAM: ")])
def test_an_endpoint_of_iam_that_will_not_do_is_no_finding(aws, cloud, more, why):
    """Only the doctor would ask there."""
    aws.env.update(more)
    aws.ok("init")
    value = aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    assert aws.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET
    assert (f"whether this identity may schedule the deletion of {cloud.env['AWS_KEY_ARN']} is not "
            f"known ({why}") in aws.ok("doctor").decode()
    assert "iam.SimulatePrincipalPolicy" not in cloud.counts()


def test_what_may_not_be_asked_of_iam_is_no_finding(aws, cloud):
    aws.ok("init")
    unknown = "whether this identity may schedule the deletion of"
    cloud.control("deny", action="iam:SimulatePrincipalPolicy")
    told = aws.ok("doctor").decode()
    assert "\nwarning" not in told and f"note     master key    {unknown}" in told
    assert ("is not known (AWS IAM: HTTP 403 AccessDenied); fix: ask as somebody who may: aws iam "
            "simulate-principal-policy --policy-source-arn arn:aws:iam::111122223333:user/dekhand "
            "--action-names kms:ScheduleKeyDeletion kms:PutKeyPolicy --resource-arns "
            f"{cloud.env['AWS_KEY_ARN']}\n") in told
    cloud.control("deny", action="iam:SimulatePrincipalPolicy", on=False)
    for service, answer, why in (("iam", {"fault": "reset"}, "AWS IAM does not answer"),
                                 ("iam", {"status": 500}, "AWS IAM: HTTP 500"),
                                 ("iam", {"status": 200, "body": "<html/>"},
                                  "AWS IAM does not say whether kms:ScheduleKeyDeletion"),
                                 ("sts", {"status": 403}, "AWS STS: HTTP 403"),
                                 ("sts", {"fault": "reset"}, "AWS STS does not answer")):
        cloud.control("script", service=service, times=-1, answers=[answer])
        told = aws.ok("doctor").decode()
        assert f"{unknown} {cloud.env['AWS_KEY_ARN']} is not known ({why}" in told
        cloud.control("unscript")
    cloud.control("set", service="iam", principals=[])  # a role with a path is not found
    assert "AWS IAM: HTTP 404 NoSuchEntity" in aws.ok("doctor").decode()
