"""Azure Key Vault and its token server throttle, break, lie, or want to be told too much."""

import json
import shutil
import sqlite3
import time
from contextlib import closing

import pytest

from azure_tool import (DENIED, UNREACHABLE, azure, beside, cloud, driver_settings,  # noqa: F401
                        machine, opens, ready, rows, seal, secret_of, settings_of)
from cli_tool import told
from driver_tool import Driver

HOUR = 3600


def script(cloud, *answers, service="vault", operation="decrypt", times=1):
    cloud.control("script", service=service, operation=operation, answers=list(answers),
                  times=times)


def count(cloud, name):
    return cloud.counts().get(name, 0)


# ---- it may pass --------------------------------------------------------------------------------

def test_throttling_is_waited_for_as_long_as_the_vault_says(cloud, ready):
    value = seal(ready, "acme")
    script(cloud, {"fault": "retry_after", "seconds": 1})
    before = time.monotonic()
    assert opens(ready, "acme", value)
    assert time.monotonic() - before >= 1
    script(cloud, {"fault": "retry_after", "date": 2})
    assert opens(ready, "acme", value)


def test_throttling_without_end_is_an_error_of_its_own(cloud, ready):
    value = seal(ready, "acme")
    script(cloud, {"fault": "throttle"}, times=-1)
    cloud.control("counts", clear=True)
    text = ready.fails(UNREACHABLE, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_THROTTLED" in text and "Azure Key Vault throttles keys/decrypt" in text
    assert count(cloud, "vault.decrypt") == 3
    cloud.control("unscript")
    script(cloud, {"fault": "retry_after", "seconds": 600}, times=-1)
    cloud.control("counts", clear=True)
    assert "E_THROTTLED" in ready.fails(UNREACHABLE, "decrypt", "--tenant", "acme", stdin=value)
    assert count(cloud, "vault.decrypt") == 1  # nobody waits for ten minutes


@pytest.mark.parametrize("fault", [{"fault": "html500"}, {"fault": "html500", "status": 503},
                                   {"fault": "reset"}, {"fault": "close"},
                                   {"status": 409, "json": {"error": {"code": "Conflict"}}},
                                   {"status": 408}])
def test_what_may_pass_is_asked_again(cloud, ready, fault):
    value = seal(ready, "acme")
    script(cloud, fault, fault)
    cloud.control("counts", clear=True)
    assert opens(ready, "acme", value)
    script(cloud, fault, times=-1)
    text = ready.fails(UNREACHABLE, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_UNREACHABLE" in text


def test_token_server_that_fails_is_asked_again(cloud, ready):
    value = seal(ready, "acme")
    script(cloud, {"fault": "html500"}, {"fault": "throttle"}, service="token", operation="Token")
    assert opens(ready, "acme", value)
    script(cloud, {"fault": "throttle"}, service="token", operation="Token", times=-1)
    text = ready.fails(UNREACHABLE, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_THROTTLED" in text and "Microsoft Entra gave no token: HTTP 429" in text


def test_machine_whose_identity_is_not_ready_yet(cloud, fresh):
    fresh.env.update(settings_of(cloud), AZURE_POD_IDENTITY_AUTHORITY_HOST=cloud.env["FAKE_PLAIN"])
    script(cloud, {"status": 404}, {"status": 410}, {"fault": "throttle"}, service="identity",
           operation="Imds")
    fresh.ok("init")


@pytest.mark.parametrize("port", ["FAKE_EXPIRED", "FAKE_WRONG_HOST", "FAKE_SELF_SIGNED",
                                  "FAKE_TLS10"])
@pytest.mark.parametrize("setting", ["AZURE_KEY_VAULT_URL", "AZURE_AUTHORITY_HOST"])
def test_tls_that_is_not_good(cloud, azure, setting, port):
    azure.env[setting] = cloud.env[port]
    assert "does not answer at localhost" in azure.fails(UNREACHABLE, "init")
    assert all("client_secret" not in one["body"] for one in cloud.requests())
    assert all("authorization" not in one["headers"] for one in cloud.requests())


# ---- answers that are none ----------------------------------------------------------------------

BROKEN = ("bad_json", "deep_json", "empty", "duplicate_keys", "nul_in_string", "not_utf8",
          "no_plaintext", "wrong_case", "oversize")
CUT = ("truncate", "bad_chunk")


@pytest.mark.parametrize("service, operation, fault", [
    (service, operation, fault) for fault in BROKEN
    for service, operation in (("vault", "get"), ("vault", "decrypt"), ("token", "Token"))
    if (operation, fault) != ("get", "no_plaintext")])  # an answer to get has none
def test_answer_that_cannot_be_one(cloud, ready, fault, service, operation):
    value = seal(ready, "acme")
    if operation == "get":
        cloud.control("set", service="vault", challenge=None)
        script(cloud, {"real": True}, {"fault": fault}, operation=operation)
    else:
        script(cloud, {"fault": fault}, service=service, operation=operation)
    text = ready.fails(1, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_PROVIDER:" in text
    assert opens(ready, "acme", value)


@pytest.mark.parametrize("fault", CUT)
def test_answer_that_is_cut(cloud, ready, fault):
    value = seal(ready, "acme")
    script(cloud, {"fault": fault}, times=-1)
    assert "E_PROVIDER:" in ready.fails(1, "decrypt", "--tenant", "acme", stdin=value)
    cloud.control("unscript")
    script(cloud, {"fault": "chunked"}, {"fault": "drip", "seconds": 0.0005})
    assert opens(ready, "acme", value)


@pytest.mark.parametrize("fault", ["swap_keys", "short_key", "long_key", "zero_key",
                                   "wrong_key_id"])
@pytest.mark.parametrize("key", ["kek", "kek-oct"])
def test_key_that_is_handed_out_wrong(cloud, azure, key, fault):
    """To open: nothing is; to make one: the fresh wrap is opened again first."""
    azure.env["AZURE_KEY_NAME"] = key
    azure.ok("init")
    value = seal(azure, "acme")
    before = rows(azure)
    script(cloud, {"real": True}, {"fault": fault})  # the registry's key, then the tenant's
    done = azure.run("decrypt", "--tenant", "acme", stdin=value)
    assert done.returncode == 1 and done.stdout == b""
    cloud.control("unscript")
    script(cloud, {"fault": fault}, operation="encrypt")
    done = azure.run("rotate", "--tenant", "acme")
    if fault in ("swap_keys", "wrong_key_id"):
        assert done.returncode != 0 and rows(azure) == before
    assert opens(azure, "acme", value)


@pytest.mark.parametrize("to", ["http://169.254.169.254/metadata", "https://localhost:1/keys"])
def test_redirect_is_not_followed(cloud, ready, to):
    value = seal(ready, "acme")
    for service, operation in (("vault", "decrypt"), ("token", "Token")):
        script(cloud, {"fault": "redirect", "to": to}, service=service, operation=operation)
        text = ready.fails(1, "decrypt", "--tenant", "acme", stdin=value)
        assert "E_PROVIDER:" in text and "a redirect, which is not followed" in text


# ---- challenges ---------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [
    {}, {"uri_form": True}, {"scope_form": True}, {"separator": " "}, {"separator": ","},
    {"reversed": True}, {"uri_form": True, "scope_form": True, "separator": " ", "reversed": True},
    {"authority": "https://login.windows.net"}])
def test_forms_of_the_challenge(cloud, azure, form):
    cloud.control("set", service="vault", **form)
    azure.ok("init")
    first, second, *rest = [one for one in cloud.requests() if one["service"] == "vault"]
    assert (first["method"], first["status"], first["body"]) == ("GET", 401, "")
    assert "authorization" not in first["headers"]
    assert second["status"] == 200 and second["headers"]["authorization"].startswith("Bearer ")
    assert all(one["status"] == 200 for one in rest if "authorization" in one["headers"])


@pytest.mark.parametrize("form", [
    {"resource": "https://evil.example"}, {"resource": "https://graph.microsoft.com"},
    {"resource": "https://azure.net"}, {"resource": "https://vault.azure.net.evil.example"},
    {"authority": "https://evil.example"}, {"authority": "http://login.microsoftonline.com"},
    {"authority": "https://login.microsoftonline.com@evil.example"},
    {"challenge": ""}, {"challenge": "Basic realm=\"a\""}, {"challenge": "Bearer"},
    {"challenge": "Bearer " + "a" * 5000}])
def test_hostile_challenge_is_told_nothing(cloud, ready, form):
    value = seal(ready, "acme")
    cloud.control("set", service="token", resources=[form.get("resource", "x"), "https://azure.net"])
    cloud.control("set", service="vault", **form)
    cloud.control("requests", clear=True)
    text = ready.fails(1, "decrypt", "--tenant", "acme", stdin=value)
    assert "E_PROVIDER:" in text
    asked = cloud.requests()
    assert {one["service"] for one in asked} == {"vault"}
    assert all("authorization" not in one["headers"] and one["body"] == "" for one in asked)


def test_challenge_that_turns_hostile_later(cloud, ready):
    """A token was given already: no other is asked for, and the program says why."""
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        driver.ok("encrypt", "acme", "x")
        cloud.control("clock", offset=2 * HOUR)  # the token is over, by the vault's clock alone
        cloud.control("set", service="vault", resource="https://evil.example")
        cloud.control("requests", clear=True)
        refused = driver.ask("encrypt", "globex", "x")
        assert refused.code == "E_PROVIDER" and "none was asked for" in refused.text
        assert {one["service"] for one in cloud.requests()} == {"vault"}


# ---- tokens -------------------------------------------------------------------------------------

def test_one_token_serves_many_calls(cloud, ready):
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        cloud.control("counts", clear=True)
        driver.tell("many", 8, "t", 0, 40)
        assert all(answer.ok for answer in driver.answers().values())
        driver.tell("batch", "u", 0, 60)
        assert all(answer.ok for answer in driver.answers().values())
        counts = cloud.counts()
    assert counts["vault.encrypt"] == 100 and counts["vault.decrypt"] == 200
    assert "token.Token" not in counts and "vault.get" not in counts
    assert counts["connections"] <= 17 * 8


def test_token_that_the_vault_refuses_is_renewed_once(cloud, ready):
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        driver.ok("encrypt", "acme", "x")
        time.sleep(5.1)  # a token that was just given is not asked for again
        cloud.control("clock", offset=2 * HOUR)
        cloud.control("counts", clear=True)
        driver.tell("batch", "u", 0, 20)
        assert all(answer.ok for answer in driver.answers().values())
        assert count(cloud, "token.Token") == 1


def test_vault_that_refuses_each_token(cloud, ready):
    value = seal(ready, "acme")
    cloud.control("set", service="vault", audience="https://other.example")
    cloud.control("counts", clear=True)
    text = ready.fails(DENIED, "decrypt", "--tenant", "acme", stdin=value)
    assert "Azure Key Vault does not accept the token: " in text and "AKV10022" in text
    assert count(cloud, "token.Token") == 1 and count(cloud, "vault.get") == 2


def test_many_callers_are_told_of_one_failure(cloud, ready):
    cloud.control("lifetime", service="token", seconds=1)
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        time.sleep(1.1)
        script(cloud, {"fault": "html500"}, service="token", operation="Token", times=-1)
        cloud.control("counts", clear=True)
        driver.tell("many", 8, "t", 0, 64)
        answers = driver.answers()
        assert {answer.code for answer in answers.values()} == {"E_UNREACHABLE"}
        assert all("Microsoft Entra gave no token: HTTP 500" in answer.text
                   for answer in answers.values())
        assert count(cloud, "token.Token") <= 9  # three tries each, and a second in between
        cloud.control("unscript")
        time.sleep(1)
        assert driver.ok("encrypt", "acme", "x")


def test_outage_leaves_cached_tenants_alone(cloud, ready):
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        value = driver.ok("encrypt", "acme", "x")
        driver.ok("decrypt", "acme", value)
        cloud.control("script", service="vault", answers=[{"fault": "reset"}], times=-1)
        assert driver.ok("decrypt", "acme", value) == "x"
        assert driver.ask("encrypt", "globex", "x").code == "E_UNREACHABLE"
        cloud.control("unscript")
        assert driver.ok("encrypt", "globex", "x")


def test_child_of_a_fork_asks_for_itself(cloud, ready):
    with Driver(driver_settings(ready)) as driver:
        driver.ok("open")
        value = driver.ok("encrypt", "acme", "x")
        cloud.control("counts", clear=True)
        driver.tell("fork", "encrypt", "globex", "y")
        assert driver.answer().ok
        assert count(cloud, "token.Token") == 1
        assert driver.ok("decrypt", "acme", value) == "x"
        assert driver.ok("encrypt", "initech", "z")
        assert count(cloud, "token.Token") == 1


# ---- the store ----------------------------------------------------------------------------------

def test_swapped_wraps_of_two_tenants(ready):
    values = {tenant: seal(ready, tenant) for tenant in ("acme", "globex")}
    first, second = rows(ready)
    with closing(sqlite3.connect(ready.database)) as registry, registry:
        for mine, other in ((first, second), (second, first)):
            registry.execute("UPDATE encryption_keys SET encrypted_data_key = ? WHERE tenant_id = ?",
                             (other["encrypted_data_key"], mine["tenant_id"]))
    for tenant, value in values.items():
        assert "E_TAMPERED" in ready.fails(1, "decrypt", "--tenant", tenant, stdin=value)


def test_kid_of_another_vault_in_a_row_is_never_asked(cloud, ready):
    value = seal(ready, "acme")
    foreign = rows(ready)[0]["kms_key_id"].replace("localhost", "evil.vault.azure.net")
    with closing(sqlite3.connect(ready.database)) as registry, registry:
        registry.execute("UPDATE encryption_keys SET kms_key_id = ?", (foreign,))
    cloud.control("requests", clear=True)
    assert "E_TAMPERED" in ready.fails(1, "decrypt", "--tenant", "acme", stdin=value)
    assert all("evil" not in json.dumps(one) for one in cloud.requests())


def test_F53_registry_made_with_the_public_key_alone_is_refused(cloud, ready):
    """RSA wraps for whoever has the public key: what they make is no registry that is known here."""
    seal(ready, "acme")
    pin = ready.json("registry", "show")["registryPin"]
    forged = beside(ready)
    forged.ok("init")  # asks the vault for nothing that the public key alone would not do
    theirs = seal(forged, "acme", b"forged")
    shutil.copyfile(forged.folder / "other" / "dekhand.db", ready.database)
    for suffix in ("-wal", "-shm"):
        ready.database.with_name(f"{ready.database.name}{suffix}").unlink(missing_ok=True)

    def is_refused():
        for command in (("encrypt", "--tenant", "acme"), ("decrypt", "--tenant", "acme")):
            done = ready.run(*command, stdin=theirs)
            assert done.returncode != 0 and b"forged" not in done.stdout, told(done)
        return done.stderr.decode()

    assert "E_TAMPERED" in is_refused()  # the anchor knows another
    (ready.state / "anchor").unlink()
    assert "KMS_REGISTRY_PIN is required" in is_refused()
    ready.env["KMS_REGISTRY_PIN"] = pin
    assert "E_TAMPERED" in is_refused()
