"""The master key lies in Azure Key Vault: the program against the fake, Azure's SDK as the judge."""

import json
import re
import time
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from azure_tool import (DENIED, UNREACHABLE, azure, beside, cloud, driver_settings,  # noqa: F401
                        machine, opens, ready, rows, sdk, seal, secret_of, settings_of)
from cli_tool import ROOT, told
from driver_tool import Driver

# ---- credentials --------------------------------------------------------------------------------

def with_certificate(cloud):
    found = secret_of(cloud, AZURE_CLIENT_CERTIFICATE_PATH=cloud.env["AZURE_CERT"])
    del found["AZURE_CLIENT_SECRET"]
    return found


def with_workload_identity(cloud):
    found = secret_of(cloud, AZURE_FEDERATED_TOKEN_FILE=cloud.env["AZURE_FEDERATED"])
    del found["AZURE_CLIENT_SECRET"]
    return found


def with_app_service(cloud):
    return {"IDENTITY_ENDPOINT": cloud.env["FAKE_PLAIN"] + cloud.env["AZURE_IDENTITY_PATH"],
            "IDENTITY_HEADER": cloud.env["AZURE_IDENTITY_HEADER"]}


def with_machine(cloud):
    return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": cloud.env["FAKE_PLAIN"]}


def with_identity_of_its_own(cloud):
    return {**with_machine(cloud), "AZURE_CLIENT_ID": cloud.env["AZURE_IDENTITY_CLIENT"]}


SOURCES = {"secret": secret_of, "certificate": with_certificate,
           "workload identity": with_workload_identity, "app service": with_app_service,
           "machine": with_machine, "identity of its own": with_identity_of_its_own}


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_of_credentials(cloud, fresh, source):
    fresh.env.update(settings_of(cloud), **SOURCES[source](cloud))
    fresh.ok("init")
    value = seal(fresh, "acme")
    assert opens(fresh, "acme", value)
    fresh.ok("rotate", "--tenant", "acme")
    assert opens(fresh, "acme", value)
    assert fresh.run("health").returncode == 0
    assert fresh.run("doctor").returncode == 0
    counts = cloud.counts()
    assert ("token.Token" in counts) == ("AZURE_TENANT_ID" in fresh.env)
    answered = [one for one in cloud.requests() if one["service"] == "vault"]
    assert {one["status"] for one in answered} == {200, 401}
    assert all("authorization" in one["headers"] for one in answered if one["status"] == 200)


def test_secret_comes_before_certificate_before_workload(cloud, fresh):
    fresh.env.update(settings_of(cloud), **secret_of(
        cloud, AZURE_CLIENT_CERTIFICATE_PATH="/nowhere", AZURE_FEDERATED_TOKEN_FILE="/nowhere",
        IDENTITY_ENDPOINT="http://127.0.0.1:1", IDENTITY_HEADER="x"))
    fresh.ok("init")
    del fresh.env["AZURE_CLIENT_SECRET"]
    assert "AZURE_CLIENT_CERTIFICATE_PATH: /nowhere" in fresh.fails(2, "encrypt", "--tenant", "a")
    del fresh.env["AZURE_CLIENT_CERTIFICATE_PATH"]
    assert "AZURE_FEDERATED_TOKEN_FILE: " in fresh.fails(2, "encrypt", "--tenant", "a", stdin=b"x")


def test_token_file_is_read_at_each_refresh(cloud, fresh):
    fresh.env.update(settings_of(cloud), **with_workload_identity(cloud))
    fresh.ok("init")
    cloud.control("rotate_credentials", service="token")
    value = seal(fresh, "acme")
    cloud.control("rotate_credentials", service="token", seconds=-1)
    assert "AADSTS700024" in fresh.fails(DENIED, "decrypt", "--tenant", "acme", stdin=value)
    cloud.control("rotate_credentials", service="token")
    cloud.control("set", service="token", subject="of another")
    assert "for this workload's subject" in fresh.fails(DENIED, "decrypt", "--tenant", "acme",
                                                        stdin=value)
    cloud.control("set", service="token", subject="system:serviceaccount:dekhand:dekhand")
    assert opens(fresh, "acme", value)


def test_certificate_that_others_can_read_is_refused(cloud, fresh, tmp_path):
    copy = tmp_path / "client.pem"
    copy.write_bytes(Path(cloud.env["AZURE_CERT"]).read_bytes())
    copy.chmod(0o644)
    fresh.env.update(settings_of(cloud), **with_certificate(cloud))
    fresh.env["AZURE_CLIENT_CERTIFICATE_PATH"] = str(copy)
    assert "AZURE_CLIENT_CERTIFICATE_PATH: " in fresh.fails(2, "init")
    assert cloud.requests() == []
    copy.chmod(0o600)
    fresh.ok("init")


@pytest.mark.parametrize("change, says", [
    (dict(AZURE_CLIENT_SECRET="wrong"), "AZURE_CLIENT_SECRET is not the application's secret"),
    (dict(AZURE_CLIENT_ID="00000000-0000-4000-8000-000000000000"),
     "the directory has no application AZURE_CLIENT_ID"),
    (dict(AZURE_TENANT_ID="nobody.example"), "there is no directory AZURE_TENANT_ID")])
def test_credentials_that_are_wrong(cloud, ready, change, says):
    value = seal(ready, "acme")
    text = ready.fails(DENIED, "decrypt", "--tenant", "acme", stdin=value, env=change)
    assert says in text and "asking for an Azure token (AZURE_CLIENT_SECRET)" in text
    assert "canary" not in text and "Trace ID" not in text
    assert cloud.counts()["token.Token"] <= 3
    assert opens(ready, "acme", value)


def test_directory_of_another_vault_is_told_before_anybody_is_asked(cloud, azure):
    other = {"AZURE_TENANT_ID": "00000000-0000-4000-8000-000000000000"}
    text = azure.fails(2, "init", env=other)
    assert f"belongs to the directory {cloud.env['AZURE_TENANT']}" in text
    assert "token.Token" not in cloud.counts()


def test_machine_without_an_identity_is_told_what_to_set(cloud, fresh):
    fresh.env.update(settings_of(cloud), AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:1")
    text = fresh.fails(UNREACHABLE, "init")
    assert "no Azure credentials: AZURE_CLIENT_SECRET, " in text


@pytest.mark.parametrize("lacks, says", [
    ("AZURE_KEY_NAME", "AZURE_KEY_NAME is required"),
    ("AZURE_TENANT_ID", "AZURE_TENANT_ID is required"),
    ("AZURE_CLIENT_ID", "AZURE_CLIENT_ID is required")])
def test_settings_that_are_required(cloud, azure, lacks, says):
    assert says in azure.without(lacks).fails(2, "init")
    assert says in azure.fails(2, "init", env={lacks: ""})
    assert cloud.requests() == []


@pytest.mark.parametrize("change, says", [
    (dict(AZURE_KEY_VAULT_URL="https://kv.example"), "is no host of this service"),
    (dict(AZURE_KEY_VAULT_URL="http://kv.vault.azure.net"), "https://"),
    (dict(AZURE_KEY_VAULT_URL="https://kv.vault.azure.net/keys/kek"), "AZURE_KEY_NAME"),
    (dict(AZURE_KEY_VAULT_URL="https://169.254.169.254"), "is no host of this service"),
    (dict(AZURE_KEY_NAME="kek/0123"), "the name alone"),
    (dict(AZURE_TENANT_ID="a/../b"), "the directory's id"),
    (dict(AZURE_AUTHORITY_HOST="https://evil.example"), "AZURE_AUTHORITY_HOST: evil.example"),
    (dict(KMS_AZURE_KEY_OPS="sign"), "neither auto nor encrypt nor wrapkey"),
    (dict(KMS_AZURE_API_VERSION="7.4&x=y"), "KMS_AZURE_API_VERSION"),
    (dict(KMS_AZURE_API_VERSION="1.0"), "The specified version (1.0) is not recognized")])
def test_settings_that_are_wrong(azure, change, says):
    assert says in azure.fails(2, "init", env=change)


# ---- keys ---------------------------------------------------------------------------------------

def algorithms(cloud):
    """{operation: {alg}} of what the vault was asked."""
    found = {}
    for one in cloud.requests():
        if one["service"] == "vault" and one["method"] == "POST":
            found.setdefault(one["operation"], set()).add(json.loads(one["body"])["alg"])
    return found


@pytest.mark.parametrize("key, pair, form", [
    ("kek", ("encrypt", "decrypt"), 256), ("kek-wrap", ("wrapkey", "unwrapkey"), 384),
    ("kek-4096", ("encrypt", "decrypt"), 512), ("kek-oct", ("encrypt", "decrypt"), None)])
def test_R24_each_kind_of_key_and_the_sdk_opens_what_it_wraps(cloud, azure, key, pair, form):
    azure.env["AZURE_KEY_NAME"] = key
    azure.ok("init")
    values = {tenant: seal(azure, tenant) for tenant in ("acme", "globex")}
    azure.ok("rotate", "--tenant", "acme")
    assert all(opens(azure, tenant, value) for tenant, value in values.items())
    alg = "A256GCM" if form is None else "RSA-OAEP-256"
    assert algorithms(cloud) == {operation: {alg} for operation in pair}
    found = rows(azure)
    for row in found:
        raw = b64decode(row["encrypted_data_key"], validate=True)
        assert (raw[0], len(raw)) == ((2, 61) if form is None else (1, 3 + form + 60))
        assert row["kms_key_id"].startswith(f"{cloud.env['AZURE_VAULT']}/keys/{key}/")
    asked = "".join(json.dumps({
        "kid": row["kms_key_id"], "blob": row["encrypted_data_key"], "context": {
            "TenantId": row["tenant_id"], "Purpose": "DataEncryption",
            "Timestamp": row["context_timestamp"]}}) + "\n" for row in found)
    exported = [b64encode(azure.export(row["tenant_id"], row["version"])).decode() for row in found]
    assert sdk(cloud, "unwrap", stdin=asked) == exported and len(set(exported)) == 3


def test_setting_chooses_the_operations(cloud, azure):
    azure.env.update(AZURE_KEY_NAME="kek-4096", KMS_AZURE_KEY_OPS="wrapkey")
    azure.ok("init")
    assert opens(azure, "acme", seal(azure, "acme"))
    assert set(algorithms(cloud)) == {"wrapkey", "unwrapkey"}
    azure.env["KMS_AZURE_KEY_OPS"] = "encrypt"
    cloud.control("requests", clear=True)
    assert opens(azure, "globex", seal(azure, "globex"))
    assert set(algorithms(cloud)) == {"encrypt", "decrypt"}
    cloud.control("deny", action="vault:decrypt")
    text = azure.fails(DENIED, "encrypt", "--tenant", "initech", stdin=b"x")
    assert "permission needed: keys/decrypt (Forbidden, ForbiddenByRbac, key kek-4096" in text


def test_identity_that_may_only_wrap_finds_out(cloud, azure):
    azure.env["AZURE_KEY_NAME"] = "kek-4096"
    for operation in ("encrypt", "decrypt"):
        cloud.control("deny", action=f"vault:{operation}")
    azure.ok("init")
    cloud.control("counts", clear=True)
    assert opens(azure, "acme", seal(azure, "acme"))
    counts = cloud.counts()
    assert counts["vault.wrapkey"] == 1 and counts["vault.unwrapkey"] >= 2
    cloud.control("deny", action="vault:unwrapkey")
    text = azure.fails(DENIED, "encrypt", "--tenant", "globex", stdin=b"x")
    assert "permission needed: keys/decrypt" in text
    assert "Access denied to the key in Azure Key Vault" in text


@pytest.mark.parametrize("key", ["kek", "kek-wrap"])
def test_identity_that_may_not_get_the_key_wraps_all_the_same(cloud, azure, key):
    azure.env["AZURE_KEY_NAME"] = key
    cloud.control("deny", action="vault:get")
    azure.ok("init")
    assert opens(azure, "acme", seal(azure, "acme"))


def test_key_without_get_that_is_no_rsa_is_told(cloud, azure):
    azure.env["AZURE_KEY_NAME"] = "kek-oct"
    cloud.control("deny", action="vault:get")
    assert "does not take keys/encrypt of the key kek-oct: BadParameter" in azure.fails(2, "init")


@pytest.mark.parametrize("kind", ["EC", "EC-HSM", "oct"])
def test_kind_of_key_that_cannot_wrap(cloud, azure, kind):
    kid = f"{cloud.env['AZURE_VAULT']}/keys/kek/{'0' * 32}"
    cloud.control("script", service="vault", operation="get", times=-1, answers=[
        {"real": True}, {"json": {"key": {"kid": kid, "kty": kind}, "attributes": {}}}])
    text = azure.fails(2, "init")
    assert f"AZURE_KEY_NAME: a key of the kind {kind} cannot wrap; RSA or RSA-HSM of 2048, " in text


def test_rotation_in_the_vault_leaves_old_values_open(cloud, ready):
    old = seal(ready, "acme")
    cloud.control("key", name="kek", rotate=True)
    new = seal(ready, "globex")
    ready.ok("rotate", "--tenant", "acme")
    newest = seal(ready, "acme")
    kids = [row["kms_key_id"] for row in rows(ready)]
    assert kids[0] != kids[1] == kids[2]
    assert opens(ready, "acme", old) and opens(ready, "acme", newest)
    assert opens(ready, "globex", new)
    cloud.control("key", id=kids[1], state="Disabled")
    assert opens(ready, "acme", old)
    text = ready.fails(1, "decrypt", "--tenant", "globex", stdin=new)
    assert "the master key is disabled (KeyDisabled, keys/decrypt, key kek" in text


def test_disabled_key_opens_nothing_until_it_is_enabled(cloud, ready):
    value = seal(ready, "acme")
    cloud.control("key", name="kek", state="Disabled")
    text = ready.fails(1, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_MASTER_KEY_DISABLED" in text and "KeyDisabled" in text
    cloud.control("key", name="kek", state="Enabled")
    assert opens(ready, "acme", value)


def test_disabled_key_is_seen_before_the_vault_encrypts_under_it(cloud, ready):
    """So the live service was seen to do."""
    cloud.control("key", name="kek", state="Disabled", lax_disabled=True)
    text = beside(ready).fails(1, "init")
    assert "E_MASTER_KEY_DISABLED" in text
    assert "the master key is disabled: nothing is wrapped under https://localhost" in text
    assert "vault.encrypt" not in cloud.counts()


@pytest.mark.parametrize("what, says", [
    (dict(exp=1000), "the master key has expired at 1970-01-01T00:16:40.000000Z"),
    (dict(nbf=4000000000), "the master key is not valid before 2096-10-02T07:06:40.000000Z")])
def test_key_out_of_its_time_opens_and_wraps_nothing(cloud, ready, what, says):
    value = seal(ready, "acme")
    cloud.control("key", name="kek", **what)
    cloud.control("counts", clear=True)
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        assert driver.ok("decrypt", "acme", value.decode().strip()) == "a value"
        for _ in range(2):
            refused = driver.ask("encrypt", "globex", "x")
            assert refused.code == "E_MASTER_KEY_DISABLED" and says in refused.text
        assert "vault.encrypt" not in cloud.counts()
        cloud.control("key", name="kek", exp=None, nbf=None)
        assert driver.ok("encrypt", "globex", "x")  # it was looked at again


def test_key_of_another_name(ready):
    value = seal(ready, "acme")
    ready.env["AZURE_KEY_NAME"] = "kek-wrap"
    text = ready.fails(2, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_NO_MASTER_KEY" in text and "which is no version of kek-wrap (AZURE_KEY_NAME)" in text
    ready.env["AZURE_KEY_NAME"] = "none"
    assert "E_NO_MASTER_KEY" in ready.fails(2, "decrypt", "--tenant", "acme", stdin=value)
    assert "Azure Key Vault has no key none" in beside(ready).fails(2, "init")


def test_name_of_the_key_in_another_case_is_the_same_key(ready):
    """Azure's names are so; the fake's are not, and its answers name the key as it was made."""
    value = seal(ready, "acme")
    ready.env["AZURE_KEY_VAULT_URL"] = ready.env["AZURE_KEY_VAULT_URL"].replace("localhost",
                                                                                "LocalHost")
    assert opens(ready, "acme", value)


# ---- doctor -------------------------------------------------------------------------------------

@pytest.mark.parametrize("what, level, says", [
    (dict(), "note", "the vault has no purge protection"),
    (dict(recoveryLevel="Recoverable"), "ok", "is enabled (RSA)"),
    (dict(recoveryLevel="CustomizedRecoverable", exp=4000000000), "ok", "is enabled (RSA)"),
    (dict(soon=86400), "warning", "from then on nothing is wrapped under it"),
    (dict(exp=1000), "error", "the master key has expired at 1970-01-01T00:16:40.000000Z"),
    (dict(nbf=4000000000), "error", "the master key is not valid before 2096-10-02")])
def test_doctor_tells_what_the_key_is(cloud, ready, what, level, says):
    if "soon" in what:
        what = {"exp": int(time.time()) + what["soon"]}
    cloud.control("key", name="kek", **what)
    done = ready.run("doctor")
    lines = [line for line in done.stdout.decode().splitlines() if says in line]
    assert len(lines) >= 1 and any(line.startswith(level) for line in lines), told(done)
    assert done.returncode == (7 if level in ("warning", "error") else 0)


def test_doctor_without_the_right_to_look(cloud, ready):
    cloud.control("deny", action="vault:get")
    text = ready.ok("doctor").decode()
    assert "the state of kek is not known: keys/get is denied" in text
    assert "allow keys/get" in text


def test_doctor_while_the_vault_is_down(cloud, ready):
    cloud.control("script", service="vault", answers=[{"fault": "reset"}], times=-1)
    assert ready.run("doctor").returncode in (6, 7)


@pytest.mark.parametrize("key, words", [("kek", ("encrypt", "decrypt")),
                                        ("kek-wrap", ("wrap", "unwrap"))])
def test_print_policy_has_the_operations_of_the_key(cloud, azure, key, words):
    azure.env["AZURE_KEY_NAME"] = key
    azure.ok("init")
    role = json.loads(azure.ok("doctor", "--print-policy"))
    assert role["DataActions"] == ["Microsoft.KeyVault/vaults/keys/read", *(
        f"Microsoft.KeyVault/vaults/keys/{word}/action" for word in words)]
    assert role["Name"] == f"dekhand {key}" and role["Actions"] == []
    cloud.control("script", service="vault", answers=[{"fault": "reset"}], times=-1)
    assert "encrypt/action" in azure.ok("doctor", "--print-policy").decode()


# ---- docs/AZURE.md ------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "AZURE.md").read_text()


def said_in_sources():
    """All string literals, as the compiler joins them."""
    texts = [path.read_text() for room in ("provider", "net")
             for path in sorted((ROOT / "src" / room).glob("*.c"))]
    joined = re.sub(r'"\s*\n?\s*"', "", "\n".join(texts))
    named = re.findall(r'"((?:\\.|[^"\\\n])*)"', joined)
    return "\n".join(named).replace("%s does not answer at", "Azure Key Vault does not answer at")


def test_page_has_the_messages_of_the_program():
    table = PAGE.partition("| it says |")[2]
    said = [text for row in re.findall(r"^\| (`.*?) \|", table, re.M)
            for text in re.findall(r"`([^`]+)`", row)]
    sources = said_in_sources()
    lacks = [text for text in said if text.rstrip() not in sources]
    assert len(said) > 30 and not lacks, lacks


def test_page_names_settings_and_sections_that_exist():
    options = (ROOT / "src" / "base" / "options.def").read_text()
    for name in set(re.findall(r"\b(?:AZURE|KMS|IDENTITY)_[A-Z_]+\b", PAGE)):
        assert f'"{name}"' in options, name
    titles = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
              for title in re.findall(r"^## (.*)$", PAGE, re.M)}
    for target in re.findall(r"\]\(#([a-z-]+)\)", PAGE):
        assert target in titles, target
