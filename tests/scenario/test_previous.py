"""KMS_PREVIOUS_KEYS: master keys of before open and never wrap, until `rewrap` has moved all; and no
row leads anywhere that is not in it."""

import json

import pytest

from cloud_tool import cloud, machine  # noqa: F401
from cloud_tool import settings_by_arn as aws
from cli_tool import Cli
from test_both import SECRET, TENANTS, all_open, azure, with_settings

AWAY = "999988887777"


def filled(cli):
    """The registry of before, with a value of each tenant."""
    cli.ok("init")
    cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    cli.ok("rotate", "--tenant", "acme")
    return [(tenant, cli.ok("encrypt", "--tenant", tenant, stdin=SECRET)) for tenant in TENANTS]


def asked(cloud, operation):
    """(key, region) of the requests to KMS."""
    return {(json.loads(one["body"])["KeyId"], one["headers"]["authorization"].split("/")[2])
            for one in cloud.requests() if one["operation"] == operation}


def moves(cli, cloud, before, new, provider):
    """From the key of before to the new one, with everything readable all the while."""
    values = filled(cli)
    moved = with_settings(cli, **new)
    told = moved.fails(2, "decrypt", "--tenant", "acme", stdin=values[0][1])
    assert "E_NO_MASTER_KEY" in told and "not in KMS_PREVIOUS_KEYS" in told
    moved.env["KMS_PREVIOUS_KEYS"] = before
    cloud.control("requests", clear=True)
    all_open(moved, values)
    values.append(("hooli", moved.ok("encrypt", "--tenant", "hooli", stdin=SECRET)))
    done = moved.json("rewrap", "--to", provider, schema="rewrap")
    assert (done["rewrapped"], done["failed"], done["registry"]) == (4, 0, True)
    assert done["kept"] == 1 and not done["kmsKeyId"].startswith(f"{before}/")
    all_open(moved, values)
    del moved.env["KMS_PREVIOUS_KEYS"]
    all_open(moved, values)
    moved.ok("audit", "verify")
    moved.ok("doctor")
    return moved


def test_R5_from_a_key_of_aws_to_one_of_another_region(cloud, tmp_path):
    before = cloud.env["AWS_KEY_ARN"]
    new = cloud.env["AWS_MRK_ARN"].replace("us-east-1", "eu-west-1")
    moved = moves(Cli(tmp_path, **aws(cloud)), cloud, before,
                  {**aws(cloud), "AWS_KMS_KEY_ID": new, "AWS_REGION": "eu-west-1"}, "aws-kms")
    assert (before, "us-east-1") in asked(cloud, "Decrypt")
    assert asked(cloud, "GenerateDataKey") == {(new, "eu-west-1")}
    assert asked(cloud, "Encrypt") == {(new, "eu-west-1")}
    assert {key for key, in moved.query("SELECT kms_key_id FROM encryption_keys")} == {new}


@pytest.mark.parametrize("form", ["arn", "alias"])
def test_from_a_key_of_another_account(cloud, tmp_path, form):
    before = cloud.control("key", name="alias/dekhand", create=True, account=AWAY)["Arn"]
    new = cloud.env["AWS_KEY_ARN"] if form == "arn" else "alias/dekhand"
    moves(Cli(tmp_path, **{**aws(cloud), "AWS_KMS_KEY_ID": before, "AWS_REGION": "us-east-1"}),
          cloud, before, {**aws(cloud), "AWS_KMS_KEY_ID": new, "AWS_REGION": "us-east-1"},
          "aws-kms")


def test_a_replica_of_a_key_of_before_opens_too(cloud, tmp_path):
    first, new = cloud.env["AWS_MRK_ARN"], cloud.env["AWS_KEY_ARN"]
    there = first.replace("us-east-1", "eu-west-1")
    moves(Cli(tmp_path, **{**aws(cloud), "AWS_KMS_KEY_ID": there}), cloud, first,
          {**aws(cloud), "AWS_KMS_KEY_ID": new}, "aws-kms")
    assert (first, "us-east-1") in asked(cloud, "Decrypt")


@pytest.mark.parametrize("form", ["arn", "id", "alias", "alias arn"])
def test_of_two_replicas_the_configured_one_opens(cloud, tmp_path, form):
    """Whatever becomes of the Region of before: it is not asked."""
    first = cloud.env["AWS_MRK_ARN"]
    there = first.replace("us-east-1", "eu-west-1")
    cli = Cli(tmp_path, **{**aws(cloud), "AWS_KMS_KEY_ID": first})
    values = filled(cli)
    moved = with_settings(cli, **{
        **aws(cloud), "AWS_KMS_KEY_ID": {
            "arn": there, "id": there.rpartition("/")[2], "alias": "alias/mrk",
            "alias arn": there.rpartition("key/")[0] + "alias/mrk"}[form]},
        AWS_REGION="eu-west-1", KMS_PREVIOUS_KEYS=first)
    cloud.control("requests", clear=True)
    all_open(moved, values)
    values.append(("hooli", moved.ok("encrypt", "--tenant", "hooli", stdin=SECRET)))
    all_open(moved, values)
    assert asked(cloud, "Decrypt") == {(there, "eu-west-1")}
    assert all("/us-east-1/" not in one["headers"]["authorization"] for one in cloud.requests())


def test_a_key_of_before_opens_while_the_configured_one_cannot_be_asked(cloud, tmp_path):
    """Which key an alias stands for is not known then: the row goes to the one that names it."""
    first = cloud.env["AWS_MRK_ARN"]
    cli = Cli(tmp_path, **{**aws(cloud), "AWS_KMS_KEY_ID": first})
    values = filled(cli)
    moved = with_settings(cli, **{**aws(cloud), "AWS_KMS_KEY_ID": "alias/mrk"},
                          AWS_REGION="eu-west-1", KMS_PREVIOUS_KEYS=first)
    for action in ("kms:DescribeKey", "kms:GenerateDataKey"):
        cloud.control("deny", action=action)
    cloud.control("requests", clear=True)
    all_open(moved, values)
    assert asked(cloud, "Decrypt") == {(first, "us-east-1")}


@pytest.mark.parametrize("name", ["kek-wrap", "kek-oct"])
def test_R5_from_a_key_of_azure_to_another_one(cloud, tmp_path, name):
    before = f"{cloud.env['AZURE_VAULT']}/keys/kek"
    moves(Cli(tmp_path, **azure(cloud)), cloud, before,
          {**azure(cloud), "AZURE_KEY_NAME": name}, "azure-key-vault")
    assert cloud.counts()["vault.decrypt"] > 0


def test_a_key_of_before_wraps_by_its_own_operations(cloud, tmp_path):
    """KMS_AZURE_KEY_OPS is said of the configured key: the one of before knows no unwrapKey."""
    moves(Cli(tmp_path, **azure(cloud)), cloud, f"{cloud.env['AZURE_VAULT']}/keys/kek",
          {**azure(cloud), "AZURE_KEY_NAME": "kek-wrap", "KMS_AZURE_KEY_OPS": "wrapkey"},
          "azure-key-vault")
    refused = [one for one in cloud.requests() if one["service"] == "vault"
               and one["operation"] == "unwrapkey" and "/kek/" in one["path"]]
    assert refused == []


def test_from_azure_to_aws_with_a_key_of_before(cloud, tmp_path):
    """Each provider takes its own entries of the list."""
    cli = Cli(tmp_path, **azure(cloud))
    values = filled(cli)
    moved = with_settings(cli, **{**aws(cloud), **azure(cloud), "AZURE_KEY_NAME": "kek-wrap"},
                          KMS_PROVIDER="aws-kms", KMS_SECONDARY_PROVIDER="azure-key-vault",
                          KMS_PREVIOUS_KEYS=f"{cloud.env['AZURE_VAULT']}/keys/kek, "
                                            f"{cloud.env['AWS_OTHER_ARN']}")
    assert moved.json("rewrap", "--to", "aws-kms", schema="rewrap")["rewrapped"] == 4
    all_open(with_settings(cli, **aws(cloud)), values)


def test_a_key_of_before_that_is_disabled_is_told(cloud, tmp_path):
    cli = Cli(tmp_path, **aws(cloud))
    values = filled(cli)
    moved = with_settings(cli, **{
        **aws(cloud), "AWS_KMS_KEY_ID": cloud.env["AWS_MRK_ARN"].replace("us-east-1", "eu-west-1")},
        KMS_PREVIOUS_KEYS=cloud.env["AWS_KEY_ARN"])
    all_open(moved, values)
    cloud.control("key", id=cloud.env["AWS_KEY_ARN"], state="Disabled")
    assert "E_MASTER_KEY_DISABLED" in moved.run(
        "decrypt", "--tenant", "acme", stdin=values[0][1]).stderr.decode()


def test_the_doctor_looks_at_keys_of_before(cloud, tmp_path):
    before, other = cloud.env["AWS_KEY_ARN"], cloud.env["AWS_OTHER_ARN"]
    there = cloud.env["AWS_MRK_ARN"].replace("us-east-1", "eu-west-1")
    cli = Cli(tmp_path, **{**aws(cloud), "AWS_KMS_KEY_ID": there, "KMS_PREVIOUS_KEYS":
                           f"{before},{other}"})
    cli.ok("init")
    told = cli.ok("doctor").decode()
    for key in (before, other):
        assert (f"ok       master key    KMS_PREVIOUS_KEYS: {key} is Enabled, not scheduled for "
                "deletion\n") in told
    assert b"KMS_PREVIOUS_KEYS" not in cli.ok("health")  # which is asked often
    cloud.control("key", id=before, state="PendingDeletion")
    told = cli.run("doctor")
    assert told.returncode == 7
    assert (f"error    master key    KMS_PREVIOUS_KEYS: {before} is PendingDeletion: on 2" in
            told.stdout.decode())
    assert f"fix: aws kms cancel-key-deletion --key-id {before}" in told.stdout.decode()
    cloud.control("deny", action="kms:DescribeKey")
    told = cli.ok("doctor").decode()
    assert f"KMS_PREVIOUS_KEYS: the state of {before} is not known" in told
    cloud.control("deny", action="kms:DescribeKey", on=False)
    cloud.control("script", service="kms", operation="DescribeKey", times=-1,
                  answers=[{"fault": "reset"}])
    assert f"KMS_PREVIOUS_KEYS: {other}: E_UNREACHABLE" in cli.run("doctor").stdout.decode()


def test_the_doctor_looks_at_vault_keys_of_before(cloud, tmp_path):
    """One that is expired wraps nothing, and opens."""
    before = f"{cloud.env['AZURE_VAULT']}/keys/kek"
    cli = Cli(tmp_path, **{**azure(cloud), "AZURE_KEY_NAME": "kek-wrap"}, KMS_PREVIOUS_KEYS=before)
    cli.ok("init")
    cloud.control("key", name="kek", exp=1700000000)
    assert f"KMS_PREVIOUS_KEYS: {before}/" in cli.ok("doctor").decode()
    cloud.control("key", name="kek", enabled=False)
    told = cli.run("doctor")
    assert told.returncode == 7 and b"error    master key    KMS_PREVIOUS_KEYS: " in told.stdout


def test_the_policy_has_the_keys_of_before(cloud, tmp_path):
    keys = [cloud.env["AWS_MRK_ARN"], cloud.env["AWS_OTHER_ARN"]]
    cli = Cli(tmp_path, **aws(cloud), KMS_PREVIOUS_KEYS=",".join(
        [keys[0], f"{cloud.env['AZURE_VAULT']}/keys/kek", keys[1]]))
    _, _, before, denied = json.loads(cli.ok("doctor", "--print-policy"))["Statement"]
    assert before == {"Sid": "DekhandOpensWrapsOfBefore", "Effect": "Allow", "Resource": keys,
                      "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:ReEncryptFrom"]}
    assert denied["Resource"] == cloud.env["AWS_KEY_ARN"]


def test_a_key_of_before_that_serves_nobody_is_told(cloud, tmp_path):
    vault = f"{cloud.env['AZURE_VAULT']}/keys/kek"
    cli = Cli(tmp_path, **aws(cloud), KMS_PREVIOUS_KEYS=f"{vault},{cloud.env['AWS_OTHER_ARN']}")
    told = cli.run("init").stderr.decode()
    assert told.count("previous_key_unused") == 1 and vault in told
    assert "neither KMS_PROVIDER nor KMS_SECONDARY_PROVIDER" in told
    both = with_settings(cli, **{**aws(cloud), **azure(cloud)}, KMS_PROVIDER="aws-kms",
                         KMS_SECONDARY_PROVIDER="azure-key-vault", KMS_PREVIOUS_KEYS=vault)
    assert b"previous_key_unused" not in both.run("keys", "list").stderr


@pytest.mark.parametrize("entry,said", [
    ("alias/dekhand", "alias/dekhand is neither the ARN of a key in AWS KMS nor the id of a key"),
    ("arn:aws:kms:us-east-1:111122223333:alias/x", "alias/x is neither the ARN"),
    ("arn:aws:kms:cn-north-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
     "is neither the ARN"),  # its region is none of its partition
    ("https://kv.vault.azure.net/keys/kek/0123456789abcdef0123456789abcdef", "without its version"),
    ("https://kv.vault.azure.net/kek", "is neither the ARN"),
    ("https://u:p@kv.vault.azure.net/keys/kek", "an entry with an @ is neither the ARN"),
    ("a" * 600, "an entry is longer than 511 bytes")])
def test_an_entry_that_is_none_is_named(cli, entry, said):
    """Whatever the provider is."""
    cli.env["KMS_PREVIOUS_KEYS"] = entry
    told = cli.fails(2, "init")
    assert "E_CONFIG: KMS_PREVIOUS_KEYS: " in told and said in told and "u:p" not in told


@pytest.mark.parametrize("vault,said", [
    ("https://evil.example", "evil.example is no host of this service"),
    ("https://kv.vault.azure.net.evil.example", "is no host of this service"),
    ("http://kv.vault.azure.net", "http:// is for loopback only"),
    ("https://169.254.169.254", "169.254.169.254 is no host of this service")])
def test_I29_a_vault_of_before_is_judged_as_the_configured_one(cloud, tmp_path, vault, said):
    cli = Cli(tmp_path, **azure(cloud), KMS_PREVIOUS_KEYS=f"{vault}/keys/kek")
    told = cli.fails(2, "init")
    assert f"KMS_PREVIOUS_KEYS: {vault}/keys/kek: AZURE_KEY_VAULT_URL: " in told and said in told
    assert cloud.counts() == {"connections": 0}


def test_I32_a_row_leads_nowhere_that_is_not_in_the_list(cloud, tmp_path):
    before = cloud.env["AWS_KEY_ARN"]
    cli = Cli(tmp_path, **aws(cloud))
    values = filled(cli)
    moved = with_settings(cli, **{
        **aws(cloud), "AWS_KMS_KEY_ID": cloud.env["AWS_MRK_ARN"].replace("us-east-1", "eu-west-1")})
    decrypts = cloud.counts()["kms.Decrypt"]
    for other in (cloud.env["AWS_OTHER_ARN"], before.replace("us-east-1", "us-west-2"),
                  before.replace("111122223333", AWAY),
                  f"{cloud.env['AZURE_VAULT']}/keys/kek"):
        moved.env["KMS_PREVIOUS_KEYS"] = other
        assert "E_NO_MASTER_KEY" in moved.fails(2, "decrypt", "--tenant", "acme",
                                                stdin=values[0][1])
    assert cloud.counts()["kms.Decrypt"] == decrypts
