"""AWS KMS from outside: the program against our fake and against moto, and boto3 as the judge."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from cloud_tool import aws, cloud, settings  # noqa: F401
from cli_tool import ROOT, Cli
from fakes.cloud import PYTHON, Cloud

SECRET = b"+44 20 7946 0018"
ARN = "arn:aws:kms:us-east-1:111122223333:key/"


@pytest.fixture(scope="module")
def machine():
    with Cloud(moto=True) as cloud:
        yield cloud


def oracle(cloud, verb, endpoint, key_id, **asked):
    """What boto3 says."""
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "oracle_aws.py", verb, endpoint, cloud.env["FAKE_CA"], key_id],
        input=json.dumps(asked).encode(), stdout=subprocess.PIPE, check=True, timeout=60,
        env={"AWS_ACCESS_KEY_ID": cloud.env["AWS_ID"], "PATH": "/usr/bin:/bin",
             "AWS_SECRET_ACCESS_KEY": cloud.env["AWS_SECRET"]})
    return done.stdout.decode().strip()


@pytest.fixture(params=["fake", "moto"])
def anywhere(request, cloud, tmp_path):
    """On the fake and on moto: dekhand, and the endpoint."""
    env = settings(cloud)
    endpoint = env["AWS_ENDPOINT_URL"]
    if request.param == "moto":
        endpoint = env["AWS_ENDPOINT_URL"] = cloud.env["MOTO"]
        env["AWS_KMS_KEY_ID"] = oracle(cloud, "key", endpoint, "-")
    return Cli(tmp_path, **env), endpoint


def wrap_of(cli, tenant):
    """The wrap of its first version, as boto3 takes it."""
    [(key_id, blob, timestamp)] = cli.query(
        "SELECT kms_key_id, encrypted_data_key, context_timestamp FROM encryption_keys "
        f"WHERE tenant_id = '{tenant}' AND version = 1")
    return key_id, blob, {"TenantId": tenant, "Purpose": "DataEncryption", "Timestamp": timestamp}


# ---- the whole road ------------------------------------------------------------------------------

def test_R5_a_registry_on_kms_serves_new_processes(anywhere):
    cli, _ = anywhere
    made = cli.json("init", schema="init")
    assert made["kmsKeyId"] == cli.env["AWS_KMS_KEY_ID"] and made["masterKeyFile"] is None
    old = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    cli.ok("rotate", "--tenant", "acme")
    new = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    assert (old[:6], new[:6]) == (b"dk1.1.", b"dk1.2.")
    for value in (old, new):
        assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET
    listed = cli.json("keys", "list", schema="keys-list")["keys"]
    assert {(key["provider"], key["kmsKeyId"]) for key in listed} == {
        ("aws-kms", cli.env["AWS_KMS_KEY_ID"])}
    cli.ok("doctor")
    cli.ok("audit", "verify")


def test_demo_here_runs_on_it(anywhere):
    cli, _ = anywhere
    cli.ok("init")
    assert b"All as it should be" in cli.ok("demo", "--here")


def test_I02_boto3_opens_what_dekhand_wrapped_and_for_no_other_tenant(anywhere, cloud):
    cli, endpoint = anywhere
    cli.ok("init")
    cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    key_id, blob, context = wrap_of(cli, "acme")
    exported = cli.json("keys", "export", "--tenant", "acme", "--version", "1",
                        "--allow-key-export")["dataKey"]
    assert oracle(cloud, "open", endpoint, key_id, blob=blob, context=context) == exported
    for name, value in (("TenantId", "globex"), ("Purpose", "Registry"),
                        ("Timestamp", "2026-01-01T00:00:00.000000Z")):
        refused = oracle(cloud, "open", endpoint, key_id, blob=blob,
                         context={**context, name: value})
        assert refused == "InvalidCiphertextException", name


def test_the_key_is_named_by_every_form(cloud, tmp_path):
    arn = cloud.env["AWS_KEY_ARN"]
    forms = [arn.rpartition("/")[2], arn, "alias/dekhand",
             arn.rpartition("key/")[0] + "alias/dekhand", cloud.env["AWS_MRK_ARN"]]
    for number, form in enumerate(forms):
        (tmp_path / str(number)).mkdir()
        cli = Cli(tmp_path / str(number), **{**settings(cloud), "AWS_KMS_KEY_ID": form})
        expected = form if "mrk-" in form else arn
        assert cli.json("init")["kmsKeyId"] == expected, form
        value = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
        assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET
        assert wrap_of(cli, "acme")[0] == expected


def test_R23_a_moved_alias_leaves_old_keys_readable(cloud, tmp_path):
    cli = Cli(tmp_path, **{**settings(cloud), "AWS_KMS_KEY_ID": "alias/dekhand"})
    cli.ok("init")
    old = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    cloud.control("key", id=cloud.env["AWS_OTHER_ARN"], alias="alias/dekhand")
    new = cli.ok("encrypt", "--tenant", "globex", stdin=SECRET)
    assert cli.ok("decrypt", "--tenant", "acme", stdin=old) == SECRET
    assert cli.ok("decrypt", "--tenant", "globex", stdin=new) == SECRET
    assert wrap_of(cli, "acme")[0] == cloud.env["AWS_KEY_ARN"]
    assert wrap_of(cli, "globex")[0] == cloud.env["AWS_OTHER_ARN"]


def test_new_material_of_the_key_changes_nothing(aws, cloud):
    aws.ok("init")
    old = aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    cloud.control("key", id=cloud.env["AWS_KEY_ARN"], rotate=True)
    assert aws.ok("decrypt", "--tenant", "acme", stdin=old) == SECRET


# ---- credentials ---------------------------------------------------------------------------------

def without_keys(cloud, **env):
    kept = {name: value for name, value in settings(cloud).items()
            if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return {**kept, **env}


def profile(tmp_path, config, credentials):
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    (tmp_path / "home" / ".aws" / "config").write_text(config)
    (tmp_path / "home" / ".aws" / "credentials").write_text(credentials)


def sources(cloud):
    """The environment of each, and the files of the profile."""
    keys = (f"aws_access_key_id = {cloud.env['AWS_ID']}\n"
            f"aws_secret_access_key = {cloud.env['AWS_SECRET']}\n")
    role = cloud.env["AWS_ROLE_ARN"]
    token = cloud.env["AWS_WEB_IDENTITY_TOKEN_FILE"]
    printed = {"Version": 1, "AccessKeyId": cloud.env["AWS_ID"],
               "SecretAccessKey": cloud.env["AWS_SECRET"]}
    return {
        "web identity": (without_keys(cloud, AWS_WEB_IDENTITY_TOKEN_FILE=token, AWS_ROLE_ARN=role),
                         "", ""),
        "profile": (without_keys(cloud, AWS_PROFILE="work"), "[profile work]\nregion = us-east-1\n",
                    f"[work]\n{keys}"),
        "default profile": (without_keys(cloud), "", f"[default]\n{keys}"),
        "role of a profile": (
            without_keys(cloud, AWS_PROFILE="work"),
            f"[profile work]\nrole_arn = {role}\nsource_profile = base\n", f"[base]\n{keys}"),
        "credential_process": (
            without_keys(cloud, AWS_PROFILE="work"),
            f"[profile work]\ncredential_process = /bin/echo '{json.dumps(printed)}'\n", ""),
        "container": (
            without_keys(cloud,
                         AWS_CONTAINER_CREDENTIALS_FULL_URI=cloud.env["FAKE_PLAIN"]
                         + cloud.env["AWS_CONTAINER_PATH"],
                         AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=cloud.env[
                             "AWS_CONTAINER_TOKEN_FILE"]), "", ""),
        "instance": (without_keys(cloud, AWS_EC2_METADATA_SERVICE_ENDPOINT=cloud.env["FAKE_PLAIN"]),
                     "", ""),
    }


SOURCES = ("web identity", "profile", "default profile", "role of a profile", "credential_process",
           "container", "instance")


@pytest.mark.parametrize("source", SOURCES)
def test_R16_credentials_come_from(cloud, tmp_path, source):
    env, config, credentials = sources(cloud)[source]
    profile(tmp_path, config, credentials)
    cli = Cli(tmp_path, **env)
    cli.ok("init")
    value = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET


def test_R16_an_hour_of_skew_costs_one_retry(aws, cloud):
    cloud.control("clock", offset=3600)
    aws.ok("init")
    before = cloud.counts()
    aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    after = cloud.counts()
    asked = sum(after.get(name, 0) - before.get(name, 0)
                for name in ("kms.Decrypt", "kms.GenerateDataKey"))
    assert asked == 5  # registry, a new key and its two openings, and one again


# ---- troubleshooting: docs/AWS.md ----------------------------------------------------------------

def test_F74_what_is_required_is_named(cloud, tmp_path):
    env = settings(cloud)
    for gone, said in (("AWS_KMS_KEY_ID", "AWS_KMS_KEY_ID is required"),
                       ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY is required"),
                       ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID is required")):
        kept = {name: value for name, value in env.items() if name != gone}
        assert said in Cli(tmp_path, **kept, KMS_PROVIDER="aws-kms").fails(2, "init")
    kept = {name: value for name, value in env.items() if name != "AWS_REGION"}
    assert "AWS_REGION is required" in Cli(
        tmp_path, **{**kept, "AWS_KMS_KEY_ID": "alias/dekhand"}).fails(2, "init")
    Cli(tmp_path, **kept).ok("init")  # the ARN says it


@pytest.mark.parametrize("env, said", [
    ({"AWS_KMS_KEY_ID": "dekhand"},
     "AWS_KMS_KEY_ID: it is neither a key id, nor an ARN of a key or alias, nor alias/NAME"),
    ({"AWS_REGION": "eu-west-1"},
     "AWS_KMS_KEY_ID is a key of us-east-1, and the region is eu-west-1"),
    ({"AWS_USE_FIPS_ENDPOINT": "true"},
     "AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT exclude each other"),
    ({"AWS_PROFILE": "work"}, "AWS_PROFILE: there is no profile work in the AWS files"),
    ({"KMS_CA_FILE": "/nowhere.pem"}, "KMS_CA_FILE: error setting certificate file: /nowhere.pem"),
], ids=["name", "region", "fips", "profile", "authorities"])
def test_F74_settings_of_aws_that_do_not_fit_are_named(aws, env, said):
    aws.env.update(env)
    assert said in aws.fails(2, "init")


@pytest.mark.parametrize("code, env, said", [
    (2, {"AWS_EC2_METADATA_DISABLED": "true"},
     "AWS_ACCESS_KEY_ID is required, or another source of AWS credentials"),
    (6, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"},
     "no AWS credentials: none in the environment, the profile or a container, and the instance's "
     "metadata service does not answer"),
    (2, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": "arn:aws:iam::1:role/app"},
     "AWS_WEB_IDENTITY_TOKEN_FILE: /nowhere is not there"),
], ids=["none", "no instance", "no token"])
def test_F74_credentials_that_are_missing_are_told(cloud, tmp_path, code, env, said):
    assert said in Cli(tmp_path, **without_keys(cloud, **env)).fails(code, "init")


def test_a_registry_on_kms_without_its_setting(used):
    cli, value = used
    told = cli.without("AWS_KMS_KEY_ID").fails(2, "decrypt", "--tenant", "acme", stdin=value)
    assert "AWS_KMS_KEY_ID is required: the registry's key is wrapped by aws-kms" in told
    assert not cli.master_key.exists()


def test_a_local_registry_stays_local(cloud, cli):
    cli.env.update(settings(cloud))
    told = cli.fails(2, "encrypt", "--tenant", "acme", stdin=SECRET)
    assert "the registry key is wrapped by local, which is neither KMS_PROVIDER (aws-kms)" in told
    assert "kms.Decrypt" not in cloud.counts()


@pytest.fixture
def used(aws):
    """With a value of one tenant."""
    aws.ok("init")
    return aws, aws.ok("encrypt", "--tenant", "acme", stdin=SECRET)


def decrypts_not(used, code, *said):
    cli, value = used
    told = cli.fails(code, "decrypt", "--tenant", "acme", stdin=value)
    for text in said:
        assert text in told, told
    assert cli.env["AWS_SECRET_ACCESS_KEY"] not in told
    return told


def test_F28_denied_names_the_permission(used, cloud):
    cloud.control("deny", action="kms:Decrypt", on=True)
    before = cloud.counts()["kms.Decrypt"]
    told = decrypts_not(used, 5, "E_PROVIDER_DENIED", "Access denied to KMS key: ",
                        "(permission needed: kms:Decrypt,", "--print-policy", "never rotate")
    assert "Invalid ciphertext" not in told
    assert cloud.counts()["kms.Decrypt"] - before == 1


def refused_with(cloud, name):
    cloud.control("reset")
    cloud.control("script", service="kms", operation="Decrypt", times=-1,
                  answers=[{"status": 400, "json": {"__type": name}}])


def test_F28_credentials_that_are_refused_are_told(used, cloud, tmp_path):
    cli, value = used
    refused_with(cloud, "ExpiredTokenException")
    decrypts_not(used, 5, "E_PROVIDER_DENIED", "the AWS credentials have expired")
    cloud.control("reset")
    (tmp_path / "token").write_text("no token")
    container = cloud.env["FAKE_PLAIN"] + cloud.env["AWS_CONTAINER_PATH"]
    for env, said in (
            ({"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
              "AWS_ROLE_ARN": cloud.env["AWS_ROLE_ARN"]},
             "AWS STS gave no credentials: HTTP 400 InvalidIdentityToken"),
            ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": container,
              "AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong"},
             "the container's credentials service gave no credentials: HTTP 401")):
        other = cli.without("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        other.env.update(env)
        assert said in other.fails(5, "decrypt", "--tenant", "acme", stdin=value)
    cloud.control("deny", action="sts:AssumeRole", on=True)
    env, config, credentials = sources(cloud)["role of a profile"]
    (cli.home / ".aws").mkdir()
    (cli.home / ".aws" / "config").write_text(config)
    (cli.home / ".aws" / "credentials").write_text(credentials)
    cli = Cli(tmp_path, **env)
    assert "AWS STS gave no credentials: HTTP 403 AccessDenied" in cli.fails(
        5, "decrypt", "--tenant", "acme", stdin=value)


def test_invalid_ciphertext_is_no_reason_to_rotate(used, cloud):
    for name, said in (
            ("InvalidCiphertextException", "Invalid ciphertext: the wrapped key was changed, or "
             "belongs to another tenant, purpose or time"),
            ("IncorrectKeyException",
             "Invalid ciphertext: the wrapped key was made under another master key")):
        refused_with(cloud, name)
        decrypts_not(used, 1, "E_TAMPERED", said)


def test_F28_a_disabled_key_and_one_about_to_be_deleted(used, cloud):
    for state, said in (("Disabled", "the master key is disabled"),
                        ("PendingDeletion", "the master key is disabled or pending deletion")):
        cloud.control("key", id=cloud.env["AWS_KEY_ARN"], state=state)
        decrypts_not(used, 1, "E_MASTER_KEY_DISABLED", said, "never rotate")
        cli, _ = used
        checks = cli.run("doctor").stdout.decode()
        assert f"master key    {cloud.env['AWS_KEY_ARN']} is {state}" in checks
        assert "aws kms enable-key" in checks


def test_what_the_doctor_says_of_a_key_that_waits(used, cloud):
    cli, _ = used
    key = cloud.env["AWS_KEY_ARN"]
    for state, said in (
            ("PendingImport", f"{key} is PendingImport: it has no key material, and no data key "
             "under it opens; fix: import the same key material again"),
            ("PendingReplicaDeletion", f"{key} is PendingReplicaDeletion: on a day that it does not "
             "tell it is deleted, and every data key under it is lost for ever; fix: aws kms "
             f"cancel-key-deletion --key-id {key}"),
            ("Updating", f"{key} is Updating: no data key under it opens")):
        cloud.control("key", id=key, state=state)
        told = cli.run("doctor").stdout.decode()
        assert f"error    master key    {said}" in told
        assert ("cancel-key-deletion" in told) == (state == "PendingReplicaDeletion")


def test_an_unknown_key_is_named(cloud, tmp_path):
    nobody = ARN + "00000000-0000-0000-0000-000000000000"
    cli = Cli(tmp_path, **{**settings(cloud), "AWS_KMS_KEY_ID": nobody})
    told = cli.fails(2, "init")
    assert nobody in told and "AWS KMS has no such key here" in told
    cloud.control("script", service="kms", times=-1, answers=[
        {"status": 400, "json": {"__type": "InvalidKeyUsageException"}}])
    assert ("the key is none for encryption: a symmetric key with the usage ENCRYPT_DECRYPT is "
            "needed") in cli.fails(2, "init")


def test_I32_a_key_of_another_account_or_region_is_not_asked(used, cloud):
    before = cloud.counts()["kms.Decrypt"]
    key = "key/00000000-0000-0000-0000-000000000000"
    cli, _ = used
    for region, arn in (("us-east-1", f"arn:aws:kms:us-east-1:999999999999:{key}"),
                        ("eu-west-1", f"arn:aws:kms:eu-west-1:111122223333:{key}")):
        cli.env.update(AWS_REGION=region, AWS_KMS_KEY_ID=arn)
        decrypts_not(used, 2, "E_NO_MASTER_KEY", "the data key was wrapped by ",
                     "which is no key of the account and region of AWS_KMS_KEY_ID")
    assert cloud.counts()["kms.Decrypt"] == before


def test_F27_throttling_has_a_code_of_its_own_and_makes_no_storm(used, cloud):
    cloud.control("script", service="kms", times=-1, answers=[{"fault": "throttle"}])
    before = cloud.counts()["kms.Decrypt"]
    decrypts_not(used, 6, "E_THROTTLED", "AWS KMS throttles", "KMS_MAX_CALLS_PER_SECOND")
    assert cloud.counts()["kms.Decrypt"] - before == 3


def test_R15_a_throttled_call_is_made_again(used, cloud):
    cli, value = used
    cloud.control("script", service="kms", times=1, answers=[{"fault": "throttle"}])
    assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET


def test_F26_unreachable(used):
    cli, value = used
    cli.env["AWS_ENDPOINT_URL"] = "https://localhost:1"
    told = cli.fails(6, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_UNREACHABLE" in told and "AWS KMS does not answer at localhost:1" in told


def test_F26_a_service_that_fails(used, cloud):
    cloud.control("script", service="kms", times=-1, answers=[{"fault": "html500"}])
    decrypts_not(used, 6, "E_UNREACHABLE", "AWS KMS failed at Decrypt: HTTP 500")


def test_a_slow_kms_is_told(aws, cloud):
    aws.ok("init")
    cloud.control("latency", service="kms", seconds=0.3)
    done = aws.run("health")
    assert done.returncode == 3
    assert re.search("aws-kms took [0-9]+ ms to make and open a canary, more than 500",
                     done.stdout.decode())


@pytest.mark.parametrize("port, said", [
    ("FAKE_EXPIRED", "SSL certificate problem: certificate has expired"),
    ("FAKE_WRONG_HOST", "no alternative certificate subject name matches"),
    ("FAKE_SELF_SIGNED", "SSL certificate problem: self-signed certificate")])
def test_F26_R29_a_certificate_that_does_not_hold(used, cloud, port, said):
    cli, value = used
    cli.env["AWS_ENDPOINT_URL"] = cloud.env[port]
    before = cloud.counts()["kms.Decrypt"]
    told = cli.fails(6, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_UNREACHABLE" in told and said in told
    assert cloud.counts()["kms.Decrypt"] == before


def test_F35_a_redirect_is_not_followed(used, cloud):
    cloud.control("script", service="kms", times=-1,
                  answers=[{"fault": "redirect", "to": "http://169.254.169.254/latest/meta-data/"}])
    decrypts_not(used, 1, "E_PROVIDER", "what answers Decrypt is not AWS KMS: HTTP 307, a "
                 "redirect, which is not followed")


def test_I29_an_endpoint_of_a_stranger_is_refused(cloud, tmp_path):
    strange = "is no host of this service; one of your own is named in KMS_ALLOWED_ENDPOINTS"
    for url, said in (("https://kms.example.com", strange), ("https://169.254.169.254", strange),
                      ("https://amazonaws.com.evil.example", strange),
                      ("http://kms.us-east-1.amazonaws.com",
                       "http:// is for loopback only, use https://")):
        cli = Cli(tmp_path, **{**settings(cloud), "AWS_ENDPOINT_URL": url})
        told = cli.fails(2, "init")
        assert "AWS_ENDPOINT_URL" in told and said in told, url


def test_R29_no_environment_leads_around_the_proxy(used, cloud):
    cli, _ = used
    cli.env.update(KMS_PROXY="http://127.0.0.1:1", no_proxy="*", NO_PROXY="*")
    before = cloud.counts()["connections"]
    decrypts_not(used, 6, "E_UNREACHABLE")
    assert cloud.counts()["connections"] == before


def test_wrong_credentials(used, cloud):
    cli, value = used
    cli.env["AWS_SECRET_ACCESS_KEY"] = "x" * 40
    told = cli.fails(5, "decrypt", "--tenant", "acme", stdin=value)
    assert ("AWS does not accept the signature: is AWS_SECRET_ACCESS_KEY right, and the clock?"
            in told)
    cli.env["AWS_ACCESS_KEY_ID"] = "AKIAXXXXXXXXXXXXXXXX"
    told = cli.fails(5, "decrypt", "--tenant", "acme", stdin=value)
    assert "AWS does not know these credentials" in told


# ---- docs/AWS.md ---------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "AWS.md").read_text()


def test_each_message_of_the_page_is_made_by_the_test_that_it_names():
    text = re.sub(r'"\s+"', "", Path(__file__).read_text())
    tests = {name: part for part in text.split("\n\n\n")
             for name in re.findall(r"^def (test_\w+)", part, re.M)}
    rows = re.findall(r"^\| (`.*) \| (.*?) \| (the same|`test_\w+`) \|$",
                      PAGE.partition("## Troubleshooting")[2], re.M)
    assert len(rows) > 30
    last = None
    for messages, _, name in rows:
        last = last if name == "the same" else name.strip("`")
        for message in re.findall(r"`(.*?)`", messages):
            for part in message.split(".."):
                assert part.strip(" :(),") in tests[last], (last, part)


def test_the_story_of_the_page_runs_as_written(aws, tmp_path):
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S))
    assert script.count("dekhand") > 5
    done = subprocess.run(["bash", "-euc", f"set -o pipefail\n{script}"], cwd=tmp_path,
                          env={**aws.env, "PATH": f"{ROOT / 'build'}:{aws.env['PATH']}"},
                          capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith(SECRET)
    policy = json.loads((tmp_path / "policy.json").read_text())["Statement"]
    for action in re.findall(r"kms:(\w+)", json.dumps([one["Action"] for one in policy])):
        assert re.search(rf"`(kms:)?{action}`", PAGE), action


# ---- doctor --------------------------------------------------------------------------------------

def test_doctor_tells_rotation_and_missing_rights(aws, cloud):
    aws.ok("init")
    cloud.control("deny", action="kms:GetKeyRotationStatus", on=True)
    assert b"allow kms:GetKeyRotationStatus" in aws.ok("doctor")
    cloud.control("deny", action="kms:DescribeKey", on=True)
    assert b"allow kms:DescribeKey" in aws.ok("doctor")


def test_print_policy_names_the_key_and_what_is_needed(aws, cloud):
    for form in (cloud.env["AWS_KEY_ARN"], "alias/dekhand"):
        aws.env["AWS_KMS_KEY_ID"] = form
        policy = json.loads(aws.ok("doctor", "--print-policy"))
        allowed, listed, denied = policy["Statement"]
        assert allowed["Resource"] == denied["Resource"] == cloud.env["AWS_KEY_ARN"]
        assert {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey",
                "kms:GetKeyRotationStatus"} <= set(allowed["Action"])
        assert listed["Action"] == "kms:ListAliases"
        assert denied["Effect"] == "Deny" and "kms:ScheduleKeyDeletion" in denied["Action"]


def test_the_local_provider_has_no_policy(cli):
    assert "knows no rights" in cli.fails(2, "doctor", "--print-policy")


def test_settings_hide_the_secret(aws):
    told = aws.ok("config").decode()
    assert aws.env["AWS_SECRET_ACCESS_KEY"] not in told and "AWS_SECRET_ACCESS_KEY" in told
