"""health and doctor from outside: what an operator, a monitor and a script at night see."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest

from cli_tool import check_schema, told

WARN = {"KMS_ROTATION_DAYS": "1", "KMS_WARNING_DAYS": "0"}  # keys made so are near their expiry


@pytest.fixture
def used(cli):
    for tenant in ("acme", "globex"):
        cli.ok("encrypt", "--tenant", tenant, stdin=b"x")
    return cli


def health(cli, code=0, **more):
    done = cli.run("health", "--json", **more)
    assert done.returncode == code, told(done)
    body = json.loads(done.stdout)
    check_schema("health", body)
    return body


def test_a_registry_that_is_well_has_the_guides_body(used):
    body = health(used)
    assert body["status"] == "healthy"
    assert body["checks"]["kms"] == {"status": "ok", "provider": "local", "connectivity": True,
                                     "latency": body["checks"]["kms"]["latency"],
                                     "cacheHitRate": None}
    assert body["checks"]["database"]["anchor"] == "ok"
    assert body["checks"]["keys"] == {"status": "ok", "totalKeys": 2, "activeKeys": 2,
                                      "expiredKeys": 0, "keysNearExpiration": 0}
    assert body["checks"]["rotation"] == {"status": "ok", "healthy": True,
                                          "tenantsNeedingRotation": 0, "failedRotations": 0}
    assert body["issues"] == body["recommendations"] == []
    assert used.ok("health").decode().splitlines()[-1].startswith("healthy, 20")


def test_keys_near_their_expiry_degrade_it(cli):
    cli.ok("encrypt", "--tenant", "acme", stdin=b"x", env=WARN)
    body = health(cli, 3)
    assert body["status"] == "degraded"
    assert body["checks"]["keys"]["status"] == body["checks"]["rotation"]["status"] == "warning"
    assert body["checks"]["rotation"]["healthy"] is True  # as in the guide
    assert body["checks"]["rotation"]["tenantsNeedingRotation"] == 1
    assert re.fullmatch(r"1 active key expires within 7 days, the first on \d{4}-\d\d-\d\d "
                        r"\(tenant acme, version 1\): .*\.", body["issues"][0])
    assert body["recommendations"] == ["Run `dekhand rotate --due`, and see that it runs every "
                                       "day."]
    cli.ok("rotate", "--due")  # what it recommends mends it
    assert health(cli)["status"] == "healthy"


def test_without_anchor_it_says_none(used):
    (used.state / "anchor").unlink()
    body = health(used)
    assert body["checks"]["database"]["anchor"] == "none"


def test_I04_F54_an_older_copy_is_unhealthy(used):
    shutil.copy(used.database, used.folder / "old.db")
    used.ok("rotate", "--all")
    shutil.copy(used.folder / "old.db", used.database)
    body = health(used, 7)
    assert body["status"] == "unhealthy"
    assert body["checks"]["database"]["anchor"] == "older"
    assert body["checks"]["database"]["status"] == "error"
    [advice] = body["recommendations"]
    command = re.search(r"`dekhand (registry accept-restore --confirm \S+)`", advice)[1]
    used.ok(*command.split())  # what it recommends mends it
    assert health(used)["status"] == "healthy"


@pytest.mark.parametrize("what, code, broken", [
    ("master.key", 2, "kms"), ("dekhand.db", 2, "database"), ("everything", 2, "database"),
])
def test_a_registry_that_does_not_open_has_a_body_too(used, what, code, broken):
    if what == "everything":
        shutil.rmtree(used.state)
    else:
        (used.state / what).unlink()
    body = health(used, code)
    assert body["status"] == "unhealthy"
    assert body["checks"][broken]["status"] == "error"
    assert body["checks"][broken]["connectivity"] is False
    assert body["checks"]["keys"]["totalKeys"] is None
    assert len(body["issues"]) == 1 and body["issues"][0].startswith("E_")
    assert len(body["recommendations"]) == 1


def mode_0644(cli):
    cli.master_key.chmod(0o644)


def a_link(cli):
    cli.master_key.rename(cli.folder / "elsewhere")
    cli.master_key.symlink_to(cli.folder / "elsewhere")


def of_another_user(cli):
    os.chown(cli.master_key, 65534, 65534)


def cut_short(cli):
    cli.master_key.write_bytes(cli.master_key.read_bytes()[:20])


def a_folder(cli):
    cli.master_key.unlink()
    cli.master_key.mkdir(0o700)


@pytest.mark.parametrize("breaking", [
    mode_0644, a_link, cut_short, a_folder,
    pytest.param(of_another_user, marks=pytest.mark.skipif(os.geteuid() != 0, reason="root only")),
])
def test_a_master_key_file_that_is_refused_is_the_providers_trouble(used, breaking):
    breaking(used)
    body = health(used, 2)
    assert body["checks"]["kms"]["status"] == "error"
    assert body["checks"]["kms"]["provider"] == "local"
    assert body["checks"]["database"]["status"] == "unknown"
    [issue] = body["issues"]
    assert str(used.master_key) in issue and "nothing is lost" in issue
    [line] = used.run("health").stdout.decode().splitlines()[1:-1]
    assert line.startswith("error    master key ") and "; fix: " in line


def test_a_folder_of_the_master_key_that_others_can_write_is_named(used):
    used.state.chmod(0o777)
    body = health(used, 3)
    assert body["checks"]["kms"]["status"] == "warning"
    [issue], [advice] = body["issues"], body["recommendations"]
    assert "can be written by others (mode 0777)" in issue
    subprocess.run(advice[0].lower() + advice[1:-1], shell=True, check=True)
    assert health(used)["status"] == "healthy"


BAD_SETTINGS = [
    ({"KMS_POLL_SECONDS": "abc"}, ["KMS_POLL_SECONDS: not a whole number of seconds"]),
    ({"KMS_ROTATION_DAYS": "0"}, ["KMS_ROTATION_DAYS: 0 is below 1 days"]),
    ({"KMS_POLL_SECONDS": "", "KMS_ROTATION_DAYS": "99999999"},
     ["KMS_POLL_SECONDS is empty", "KMS_ROTATION_DAYS: 99999999 is above"]),
    ({"KMS_WARNING_DAYS": "100"}, ["KMS_WARNING_DAYS: 100 is not below"]),
    ({"KMS_REGISTRY_PIN": "none"}, ["KMS_REGISTRY_PIN is not 64 hex digits"]),
]


@pytest.mark.parametrize("env, texts", BAD_SETTINGS)
def test_a_setting_that_is_none_is_told_with_a_body(used, env, texts):
    body = health(used, 2, env=env)
    assert body["status"] == "unhealthy"
    assert {check["status"] for check in body["checks"].values()} == {"unknown"}
    assert body["checks"]["keys"]["totalKeys"] is None
    for text in texts:
        assert any(text in issue for issue in body["issues"])
    assert len(body["issues"]) == len(texts) and len(body["recommendations"]) == 1
    assert used.fails(2, "keys", "list", env=env).startswith("dekhand: E_CONFIG: KMS_")


def test_I30_looking_changes_nothing(used):
    before = used.database.read_bytes()
    used.ok("health")
    used.ok("doctor")
    assert used.database.read_bytes() == before


# ---- events ----------------------------------------------------------------------------------


def test_a_key_that_enters_its_warning_phase_is_told_once(cli):
    cli.ok("encrypt", "--tenant", "acme", stdin=b"x", env=WARN)
    cli.ok("encrypt", "--tenant", "globex", stdin=b"x")
    done = cli.run("health", "--events")
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    assert done.returncode == 3
    assert [(e["tenantId"], e["version"]) for e in events] == [("acme", 1)]
    for event in events:
        check_schema("event", event)
    assert b"key_expires_soon" in done.stderr  # the log line
    again = cli.run("health", "--events")
    assert again.stderr == b"" and again.returncode == 3
    row = json.loads(cli.ok("audit", "list", "--operation", "warning", "--json"))
    check_schema("audit-entry", row)
    assert (row["tenantId"], row["fromVersion"], row["toVersion"]) == ("acme", 1, None)
    assert cli.json("audit", "verify")["ok"] is True


def test_the_hook_gets_each_event(cli):
    for tenant in ("acme", "globex"):
        cli.ok("encrypt", "--tenant", tenant, stdin=b"x", env=WARN)
    done = cli.run("health", "--exec", "cat >> told; echo heard", "--json")
    assert done.returncode == 3
    json.loads(done.stdout)  # what the hook writes is not among the data
    assert done.stderr.count(b"heard") == 2
    events = [json.loads(line) for line in (cli.folder / "told").read_bytes().splitlines()]
    assert [e["tenantId"] for e in events] == ["acme", "globex"]
    for event in events:
        check_schema("event", event)


def test_a_hook_that_fails_is_named(cli):
    cli.ok("encrypt", "--tenant", "acme", stdin=b"x", env=WARN)
    done = cli.run("health", "--exec", "exit 9")
    assert done.returncode == 3
    assert b"the command of --exec failed for tenant acme, version 1" in done.stderr


def test_a_hook_need_not_read(used):
    used.ok("rotate", "--all", env=WARN)
    done = used.run("health", "--exec", "true")
    assert b"failed" not in done.stderr and done.returncode == 3


# ---- doctor ----------------------------------------------------------------------------------


def doctor(cli, code=0, **more):
    done = cli.run("doctor", "--json", **more)
    assert done.returncode == code, told(done)
    found = json.loads(done.stdout)
    check_schema("doctor", found)
    assert found["ok"] == (found["findings"] == 0) == (code == 0)
    levels = [check["level"] for check in found["checks"]]
    assert found["notes"] == levels.count("note")
    assert found["findings"] == levels.count("warning") + levels.count("error")
    for check in found["checks"]:
        assert check["level"] in ("ok", "note") or check["fix"], check
    return found


def of(found, name, level=None):
    return [c for c in found["checks"] if c["name"] == name and level in (None, c["level"])]


def test_a_fresh_registry_has_notes_and_no_findings(cli):
    found = doctor(cli)
    assert of(found, "pin", "note") and of(found, "anchor place", "note")
    for name in ("settings", "state folder", "master key", "registry", "provider", "database",
                 "integrity", "schema", "rows", "anchor", "keys", "budget", "rotation", "clock", "core files"):
        assert len(of(found, name, "ok")) == 1, name
    text = cli.ok("doctor").decode().splitlines()
    assert len(text) == len(found["checks"]) + 1  # one line a check
    assert text[-1] == f"{len(found['checks'])} checks, {found['notes']} notes, 0 findings"


def test_what_is_set_apart_is_no_note(cli):
    pin = cli.json("registry", "show")["registryPin"]
    (cli.folder / "apart").mkdir(0o700)
    shutil.move(cli.state / "anchor", cli.folder / "apart" / "anchor")
    found = doctor(cli, env={"KMS_REGISTRY_PIN": pin,
                             "KMS_ANCHOR_FILE": str(cli.folder / "apart" / "anchor")})
    assert not of(found, "anchor place") and of(found, "pin", "ok")


def break_mode(cli):
    cli.master_key.chmod(0o644)


def break_state(cli):
    cli.state.chmod(0o755)


def lose_key(cli):
    cli.master_key.unlink()


def edit_row(cli):
    with closing(sqlite3.connect(cli.database)) as registry, registry:
        registry.execute("DROP TRIGGER encryption_keys_fixed")
        registry.execute("UPDATE encryption_keys SET expires_at = '2099-01-01T00:00:00.000000Z' "
                         "WHERE tenant_id = 'acme'")


def damage(cli):
    [(page,)] = cli.query("SELECT rootpage FROM sqlite_master "
                          "WHERE name = 'key_rotation_log_time'")
    with open(cli.database, "r+b") as file:  # an index of which nothing else reads
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 4096)


def other_anchor(cli):
    (cli.state / "anchor").write_text("dekhand-anchor 1\n")
    (cli.state / "anchor").chmod(0o600)


@pytest.mark.parametrize("breaking, name", [
    (break_mode, "master key"), (break_state, "state folder"), (lose_key, "master key"),
    (edit_row, "rows"), (other_anchor, "registry"),
])
def test_each_trouble_is_named_with_its_fix(used, breaking, name):
    breaking(used)
    found = doctor(used, 7)
    assert of(found, name, "error") or of(found, name, "warning"), found


def test_a_damaged_page_is_named(used):
    damage(used)
    found = doctor(used, 7)
    assert of(found, "integrity", "error"), found


@pytest.mark.parametrize("table", ["key_rotation_log", "seals", "encryption_keys", "tenants",
                                   "registry", "registry_keys"])
def test_a_damaged_table_is_named_and_health_agrees(used, table):
    used.ok("registry", "rekey")
    whole = used.database.read_bytes()
    [(page,)] = used.query(f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    with open(used.database, "r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 4096)
    found = doctor(used, 7)
    [check] = of(found, "integrity", "error")
    assert f"damaged in table {table}: " in check["text"]
    assert "newest copy back" in check["fix"] and "`mv " in check["fix"]
    done = used.run("health", "--json")
    check_schema("health", json.loads(done.stdout))
    opens = bool(of(found, "registry", "ok"))
    assert opens == (json.loads(done.stdout)["checks"]["keys"]["status"] != "unknown")
    assert done.returncode != 0
    used.database.write_bytes(whole)  # what it recommends mends it
    doctor(used)
    health(used)


def test_each_check_is_one_line(used):
    [(page,)] = used.query("SELECT rootpage FROM sqlite_master WHERE name = 'encryption_keys'")
    with open(used.database, "r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 4096)
    found = doctor(used, 7)
    assert len(of(found, "integrity", "error")) == 1
    assert not any("\n" in check["text"] + (check["fix"] or "") for check in found["checks"])


def fix_of(cli, name, level="error", **more):
    [check] = of(doctor(cli, 7, **more), name, level)
    return check["text"], check["fix"]


def test_a_database_that_was_lost_is_put_back_not_made_again(used):
    shutil.move(used.database, used.folder / "away")
    text, fix = fix_of(used, "registry")
    assert "is not at" in text and "dekhand init" not in text
    assert "put its newest copy back" in fix
    used.fails(2, "init")
    assert not list(used.state.glob("dekhand.db*"))
    assert "put its newest copy back" in fix_of(used, "registry")[0]
    assert "dekhand init" not in health(used, 2)["issues"][0]
    shutil.move(used.folder / "away", used.database)
    doctor(used)


def test_nothing_at_all_does_not_ask_for_a_master_key(cli):
    shutil.rmtree(cli.state)
    assert of(doctor(cli, 7), "master key", "note")


def test_a_wrong_pin_is_not_a_row(used):
    assert "KMS_REGISTRY_PIN" in fix_of(used, "registry", env={"KMS_REGISTRY_PIN": "ab" * 32})[1]


def test_an_anchor_that_cannot_be_written_is_a_warning(used):
    env = {"KMS_ANCHOR_FILE": str(used.folder / "nowhere" / "anchor")}
    assert "KMS_ANCHOR_FILE" in fix_of(used, "anchor", "warning", env=env)[1]
    assert health(used, 3, env=env)["checks"]["database"]["status"] == "warning"
    (used.folder / "nowhere").mkdir(0o700)  # what it recommends mends it
    doctor(used, env=env)


def test_a_master_key_cut_short_is_copied_back(used):
    whole = used.master_key.read_bytes()
    used.master_key.write_bytes(whole[:20])
    assert "copy it from its safe place" in fix_of(used, "registry")[1]
    used.master_key.write_bytes(whole)
    doctor(used)


def test_no_registry_says_init(cli):
    shutil.rmtree(cli.state)
    found = doctor(cli, 7)
    assert "dekhand init" in of(found, "registry", "error")[0]["text"]


def test_a_provider_that_is_none_is_a_finding(cli):
    found = doctor(cli, 7, env={"KMS_PROVIDER": "nobody"})
    assert of(found, "settings", "error")


@pytest.mark.parametrize("env, texts", BAD_SETTINGS)
def test_settings_that_are_none_are_findings_and_the_rest_is_looked_at(cli, env, texts):
    found = doctor(cli, 7, env=env)
    told_of = of(found, "settings", "error")
    assert len(told_of) == len(texts) == found["findings"]
    for text in texts:
        assert any(text in check["text"] for check in told_of)
    assert of(found, "state folder", "ok") and of(found, "master key", "ok")
    assert not of(found, "registry")
    cli.master_key.chmod(0o644)
    assert of(doctor(cli, 7, env=env), "master key", "error")


def test_a_settings_file_is_named_with_the_line(cli):
    (cli.folder / ".env").write_text("KMS_STATE=x\nKMS_LOG=text\nKMS_POLL_SECONDS=x\nKMS_LOG\n")
    texts = [check["text"] for check in of(doctor(cli, 7), "settings", "error")]
    assert [re.search(r"line \d", text)[0] for text in texts] == ["line 1", "line 3", "line 4"]
    assert ".env, line 3: KMS_POLL_SECONDS: not a whole number" in texts[1]
    assert ".env, line 3" in health(cli, 2)["issues"][1]
    (cli.folder / ".env").unlink()
    assert of(doctor(cli), "settings", "ok")
    done = cli.run("doctor", "--env-file", "nowhere")
    assert done.returncode == 7 and b"nowhere cannot be opened" in done.stdout


def test_it_is_quick_on_a_thousand_tenants(cli, tmp_path):
    rows = "tenant,v\n" + "".join(f"t{i},x\n" for i in range(1000))
    cli.ok("encrypt", "--csv", "--columns", "v", "--tenant-column", "tenant", stdin=rows.encode())
    began = time.monotonic()
    doctor(cli)
    assert time.monotonic() - began < 30
