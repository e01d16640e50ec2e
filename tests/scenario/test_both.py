"""Two providers at once, from outside: the first is killed for good, the second opens everything, and
a third takes its place; values stay as they are."""

import pytest

from cloud_tool import cloud, machine  # noqa: F401
from cloud_tool import settings_by_arn as aws
from cli_tool import Cli

SECRET = b"+44 20 7946 0018"
TENANTS = ("acme", "globex", "initech")


def azure(cloud):
    return {"AZURE_KEY_VAULT_URL": cloud.env["AZURE_VAULT"], "AZURE_KEY_NAME": "kek",
            "AZURE_TENANT_ID": cloud.env["AZURE_TENANT"],
            "AZURE_CLIENT_ID": cloud.env["AZURE_CLIENT"],
            "AZURE_CLIENT_SECRET": cloud.env["AZURE_SECRET"],
            "AZURE_AUTHORITY_HOST": cloud.env["FAKE_TLS"], "KMS_CA_FILE": cloud.env["FAKE_CA"]}


def with_settings(cli, **env):
    """The same folder with other settings."""
    other = Cli(cli.folder)
    other.env.update(env)
    return other


def all_open(cli, values):
    for tenant, value in values:
        assert cli.ok("decrypt", "--tenant", tenant, stdin=value) == SECRET


def rows(cli):
    return cli.query("SELECT tenant_id, version, provider FROM encryption_keys ORDER BY 1, 2")


def test_R5_the_first_dies_the_second_serves_a_third_takes_over(cloud, tmp_path):
    first = Cli(tmp_path, **azure(cloud), KMS_PROVIDER="azure-key-vault",
                KMS_SECONDARY_PROVIDER="local")
    first.ok("init")
    values = [(tenant, first.ok("encrypt", "--tenant", tenant, stdin=SECRET))
              for tenant in TENANTS]
    first.ok("rotate", "--tenant", "acme")
    values.append(("acme", first.ok("encrypt", "--tenant", "acme", stdin=SECRET)))
    assert {provider for _, _, provider in rows(first)} == {"azure-key-vault"}
    first.ok("doctor")
    # Killed for good: nothing answers there, and then nothing is known of it any more.
    cloud.control("script", service="vault", times=-1, answers=[{"fault": "reset"}])
    told = first.run("decrypt", "--tenant", "acme", stdin=values[0][1])
    assert told.stdout == SECRET and b"second_provider_served" in told.stderr
    all_open(first, values)
    alone = with_settings(first, KMS_PROVIDER="local")
    all_open(alone, values)
    third = with_settings(first, **aws(cloud), KMS_PROVIDER="aws-kms",
                          KMS_SECONDARY_PROVIDER="local")
    all_open(third, values)
    done = third.json("rewrap", "--to", "aws-kms", schema="rewrap")
    assert (done["rewrapped"], done["failed"], done["registry"]) == (4, 0, True)
    assert done["kmsKeyId"] == cloud.env["AWS_KEY_ARN"]
    assert {provider for _, _, provider in rows(third)} == {"aws-kms"}
    assert {provider for provider, in third.query("SELECT provider FROM wraps")} == {"local"}
    third.ok("audit", "verify")
    third.ok("doctor")
    all_open(third, values)  # each by a fresh process: nothing was encrypted again
    (tmp_path / "state" / "master.key").unlink()
    only = with_settings(first, **aws(cloud))
    all_open(only, values)
    assert only.json("rewrap", "--to", "aws-kms", schema="rewrap")["rewrapped"] == 0
    assert only.query("SELECT count(*) FROM wraps") == [(4,)]  # a shell may lack a setting
    assert "it is configured" in only.fails(2, "rewrap", "--to", "aws-kms", "--drop", "aws-kms")
    done = only.json("rewrap", "--to", "aws-kms", "--drop", "local", schema="rewrap")
    assert (done["rewrapped"], done["kept"], done["dropped"]) == (0, 4, 4)
    assert only.query("SELECT count(*) FROM wraps") == [(0,)]
    assert only.query("SELECT count(*) FROM registry_wraps") == [(0,)]
    only.ok("audit", "verify")


def test_from_one_key_of_aws_to_another(cloud, tmp_path):
    cli = Cli(tmp_path, **aws(cloud))
    cli.ok("init")
    value = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    moved = with_settings(cli, **{**aws(cloud), "AWS_KMS_KEY_ID": cloud.env["AWS_OTHER_ARN"]})
    done = moved.json("rewrap", "--to", "aws-kms", schema="rewrap")
    assert (done["rewrapped"], done["kmsKeyId"]) == (1, cloud.env["AWS_OTHER_ARN"])
    assert cloud.counts()["kms.ReEncrypt"] == 1
    assert cloud.counts()["kms.Encrypt"] == 1  # the registry's key
    moved.ok("audit", "verify")
    cloud.control("key", id=cloud.env["AWS_KEY_ARN"], state="PendingDeletion")
    assert moved.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET
    moved.ok("doctor")


def test_from_one_version_of_an_azure_key_to_the_next(cloud, tmp_path):
    cli = Cli(tmp_path, **azure(cloud))
    cli.ok("init")
    value = cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    before = cli.query("SELECT kms_key_id FROM encryption_keys")
    cloud.control("key", name="kek", rotate=True)
    assert cli.json("rewrap", "--to", "azure-key-vault", schema="rewrap")["rewrapped"] == 1
    assert cli.query("SELECT kms_key_id FROM encryption_keys") != before
    assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == SECRET


def test_only_one_tenant(cloud, tmp_path):
    cli = Cli(tmp_path, **aws(cloud), KMS_PROVIDER="local", KMS_SECONDARY_PROVIDER="aws-kms")
    cli.ok("init")
    for tenant in TENANTS:
        cli.ok("encrypt", "--tenant", tenant, stdin=SECRET)
    done = cli.json("rewrap", "--to", "aws-kms", "--tenant", "globex", schema="rewrap")
    assert (done["rewrapped"], done["registry"]) == (1, False)
    assert rows(cli) == [("acme", 1, "local"), ("globex", 1, "aws-kms"), ("initech", 1, "local")]


def test_what_is_asked_for_wrongly(cloud, tmp_path):
    cli = Cli(tmp_path, **aws(cloud), KMS_PROVIDER="local")
    cli.ok("init")
    assert "--to" in cli.fails(2, "rewrap")
    assert "KMS_SECONDARY_PROVIDER" in cli.fails(2, "rewrap", "--to", "aws-kms")
    cli.env["KMS_SECONDARY_PROVIDER"] = "local"
    assert "KMS_SECONDARY_PROVIDER" in cli.fails(2, "keys", "list")
    cli.env["KMS_SECONDARY_PROVIDER"] = "nowhere"
    assert "KMS_SECONDARY_PROVIDER" in cli.fails(2, "keys", "list")


def test_health_tells_what_lacks_a_second_wrap(cloud, tmp_path):
    cli = Cli(tmp_path, **aws(cloud), KMS_PROVIDER="local")
    cli.ok("init")
    cli.ok("encrypt", "--tenant", "acme", stdin=SECRET)
    cli.env["KMS_SECONDARY_PROVIDER"] = "aws-kms"
    told = cli.run("health").stdout
    assert b"no wrap of aws-kms" in told and b"dekhand rewrap --to local" in told
    cli.ok("rewrap", "--to", "local")
    assert b"every key version has a wrap of both" in cli.ok("health")
    cloud.control("key", id=cloud.env["AWS_KEY_ARN"], state="Disabled")
    told = cli.run("health").stdout
    assert b"E_MASTER_KEY_DISABLED" in told and b"nothing is lacking" in told


def test_R5_many_move_by_reencrypt_and_what_is_denied_is_opened_and_wrapped(cloud, tmp_path):
    cli = Cli(tmp_path, **aws(cloud))
    cli.ok("init")
    values = [(f"t{i}", cli.ok("encrypt", "--tenant", f"t{i}", stdin=SECRET)) for i in range(70)]
    there = with_settings(cli, **{**aws(cloud), "AWS_KMS_KEY_ID": cloud.env["AWS_OTHER_ARN"]})
    before = cloud.counts()
    assert there.json("rewrap", "--to", "aws-kms", schema="rewrap")["rewrapped"] == 70
    after = cloud.counts()
    assert after["kms.ReEncrypt"] - before.get("kms.ReEncrypt", 0) == 70
    assert after.get("kms.Encrypt", 0) - before.get("kms.Encrypt", 0) == 1
    all_open(there, values[::23])
    cloud.control("deny", action="kms:ReEncryptFrom")
    back = with_settings(cli, **aws(cloud))
    done = back.run("rewrap", "--to", "aws-kms")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"E_PROVIDER_DENIED") == 1  # asked once, and not for each
    assert cloud.counts()["kms.Encrypt"] - after.get("kms.Encrypt", 0) == 71
    assert {key for key, in cli.query("SELECT kms_key_id FROM encryption_keys")} == {
        cloud.env["AWS_KEY_ARN"]}
    all_open(back, values[::23])
    back.ok("audit", "verify")
