"""audit list, verify and export; registry show and accept-restore: what an auditor sees."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timezone

import pytest

import cli_tool
from cli_tool import check_schema


@pytest.fixture
def used(cli):
    for tenant in ("acme", "globex"):
        cli.ok("encrypt", "--tenant", tenant, stdin=b"x")
    cli.ok("rotate", "--tenant", "acme")
    return cli


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def old_copy_comes_back(cli):
    shutil.copy(cli.database, cli.folder / "old.db")
    cli.ok("rotate", "--all")
    shutil.copy(cli.folder / "old.db", cli.database)
    for beside in ("-wal", "-shm"):
        cli.database.with_name(cli.database.name + beside).unlink(missing_ok=True)


def test_list_is_newest_first_and_one_object_a_line(used):
    rows = lines(used.ok("audit", "list", "--json"))
    for row in rows:
        check_schema("audit-entry", row)
    assert [row["seq"] for row in rows] == sorted((row["seq"] for row in rows), reverse=True)
    assert [row["operation"] for row in rows] == ["rotate", "decrypt", "create", "decrypt",
                                                  "create"]
    assert rows[0]["tenantId"] == "acme"
    assert (rows[0]["fromVersion"], rows[0]["toVersion"]) == (1, 2)
    assert all(row["performedBy"].startswith("cli:") and row["mac"] for row in rows)


def test_export_is_oldest_first_and_whole(used):
    used.ok("audit", "export", "-o", "log.ndjson")
    rows = lines((used.folder / "log.ndjson").read_bytes())
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    of_acme = [row for row in rows if row["tenantId"] == "acme" and row["operation"] != "decrypt"]
    assert of_acme[0]["prev"] is None and of_acme[1]["prev"] == of_acme[0]["mac"]


@pytest.mark.parametrize("args, count", [
    (("--tenant", "acme"), 3), (("--operation", "create"), 2), (("--limit", "2"), 2),
    (("--tenant", "globex", "--operation", "decrypt"), 1), (("--tenant", "nobody"), 0),
    (("--since", "2020-01-01"), 5), (("--until", "2020-01-01T00:00:00Z"), 0),
    (("--since", "2020-01-01T00:00:00.000001Z", "--until", "2099-12-31"), 5), (("--limit", "0"), 5),
    (("--since", "2020-01-01 00:00:00.77527"), 5), (("--until", "2020-01-01T00:00:00.7Z"), 0),
    (("--until", "2099-12-31T23:59:59"), 5),
])
def test_filters(used, args, count):
    assert len(lines(used.ok("audit", "list", "--json", *args))) == count
    assert len(lines(used.ok("audit", "export", *args))) == count


@pytest.mark.parametrize("args, word", [
    (("--since", "yesterday"), "--since"), (("--until", "2026-13-01"), "--until"),
    (("--since", "2026-01-01T00:00:00."), "--since"), (("--since", "2026-01-01Z0"), "--since"),
    (("--until", "2026-01-01T00:00:00.0000001Z"), "--until"), (("--until", "2026-01-01T10"), "--until"),
    (("--since", ""), "--since"), (("--since", "Z"), "--since"),
    (("--limit", "-1"), "--limit"), (("--limit", "x"), "--limit"), (("--tenant", "a b"), "tenant"),
])
def test_wrong_filters_are_named(used, args, word):
    assert word in used.fails(2, "audit", "list", *args)


def test_I30_looking_changes_nothing(used):
    before = used.database.read_bytes()
    for command in (("audit", "list"), ("audit", "verify"), ("audit", "export"),
                    ("registry", "show"), ("keys", "list"), ("rotate", "--all", "--dry-run")):
        used.ok(*command)
    assert used.database.read_bytes() == before


def test_verify_of_an_untouched_registry_ends_0(used):
    found = used.json("audit", "verify", schema="audit-verify")
    assert found == {"findings": [], "ok": True, "logRows": 5, "seals": 6, "tenants": 2, "keys": 3}
    assert b"none is missing" in used.ok("audit", "verify")


def test_registry_show_tells_id_pin_and_anchor(used):
    found = used.json("registry", "show", schema="registry-show")
    assert found["registryPin"] == used.json("init")["registryPin"]
    assert found["anchorSeal"] == found["newestSeal"] == 6 and found["older"] is False
    assert found["registryId"] in used.ok("registry", "show").decode()


def test_I04_F54_old_copy_is_refused_until_an_operator_accepts_it(used):
    value = used.ok("encrypt", "--tenant", "acme", stdin=b"x")
    old_copy_comes_back(used)
    assert "E_ROLLBACK" in used.fails(1, "encrypt", "--tenant", "acme", stdin=b"x")
    assert used.ok("decrypt", "--tenant", "acme", stdin=value) == b"x"
    shown = used.run("registry", "show", "--json")
    ident = json.loads(shown.stdout)["registryId"]
    assert shown.returncode == 3 and json.loads(shown.stdout)["older"] is True
    assert f"--confirm {ident}" in used.run("registry", "show").stdout.decode()
    assert used.run("audit", "verify").returncode == 7
    assert ident in used.fails(2, "registry", "accept-restore", "--confirm", "me")
    assert used.json("registry", "accept-restore", "--confirm", ident,
                     schema="registry-accept-restore") == {"registryId": ident, "tenants": 0}
    assert used.ok("encrypt", "--tenant", "acme", stdin=b"x")
    assert used.json("audit", "verify")["ok"] is True
    assert lines(used.ok("audit", "list", "--json", "--operation", "accept-restore"))


def test_clearing_the_caches_is_written_down(used):
    assert used.json("cache", "clear", schema="cache-clear") == {"cleared": True}
    assert b"KMS_POLL_SECONDS" in used.ok("cache", "clear")
    rows = lines(used.ok("audit", "list", "--json", "--operation", "cache-clear"))
    assert [row["tenantId"] for row in rows] == ["*", "*"]
    for row in rows:
        check_schema("audit-entry", row)
    assert used.json("audit", "verify")["ok"] is True
    assert used.ok("encrypt", "--tenant", "acme", stdin=b"x")


def test_anchor_may_stand_elsewhere(fresh):
    elsewhere = {"KMS_ANCHOR_FILE": str(fresh.folder / "safe-anchor")}
    fresh.ok("init", env=elsewhere)
    assert (fresh.folder / "safe-anchor").exists() and not (fresh.state / "anchor").exists()
    fresh.ok("encrypt", "--tenant", "acme", stdin=b"x", env=elsewhere)


def test_anchor_that_cannot_be_written_is_a_warning(fresh):
    nowhere = {"KMS_ANCHOR_FILE": str(fresh.folder / "no/such/folder/anchor")}
    done = fresh.run("init", env=nowhere)
    assert done.returncode == 0 and b"anchor_not_written" in done.stderr
    assert fresh.run("encrypt", "--tenant", "acme", stdin=b"x", env=nowhere).returncode == 0


@pytest.mark.parametrize("text", [b"", b"dekhand-anchor 1\n", b"\x00" * 230, b"x" * 5000])
def test_damaged_anchor_is_named(used, text):
    (used.state / "anchor").write_bytes(text)
    said = used.fails(1, "encrypt", "--tenant", "acme", stdin=b"x")
    assert "E_TAMPERED" in said and "anchor" in said


# ---- prune ---------------------------------------------------------------------------------------

def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_R28_prune_deletes_what_is_old_and_the_rest_verifies(used):
    moment = now()
    used.ok("rotate", "--tenant", "globex")
    planned = used.json("audit", "prune", "--before", moment, "--dry-run", schema="audit-prune")
    assert planned == {"before": moment, "dryRun": True, "seal": 6, "rows": 5}
    assert len(lines(used.ok("audit", "export"))) == 6
    done = used.json("audit", "prune", "--before", moment, schema="audit-prune")
    assert done == {**planned, "dryRun": False}
    rows = lines(used.ok("audit", "export"))
    for row in rows:
        check_schema("audit-entry", row)
    assert [(row["seq"], row["operation"], row["tenantId"]) for row in rows] == [
        (6, "rotate", "globex"), (7, "prune", "*")]
    [(seal_hash,)] = used.query("SELECT prev FROM seals WHERE n = 7")
    assert rows[1]["detail"] == f"seal 6 {seal_hash} rows 5 seq 5"
    assert rows[1]["performedBy"].startswith("cli:")
    found = used.json("audit", "verify", schema="audit-verify")
    assert (found["ok"], found["logRows"], found["seals"]) == (True, 2, 8)
    assert b"No row of the log is that old" in used.ok("audit", "prune", "--before", moment)
    assert b"would be deleted" in used.ok("audit", "prune", "--before", now(), "--dry-run")
    assert b"2 rows of the log were deleted: those up to seal 8" in used.ok(
        "audit", "prune", "--before", now())
    used.ok("audit", "verify")
    used.ok("doctor")


@pytest.mark.parametrize("args, word", [
    ((), "--before"), (("--before", "soon"), "--before"), (("--before", "2999-01-01"), "future"),
])
def test_prune_wants_a_moment_that_was(used, args, word):
    assert word in used.fails(2, "audit", "prune", *args)
    assert len(lines(used.ok("audit", "export"))) == 5


def test_R28_prune_deletes_nothing_while_there_are_findings(used):
    with closing(sqlite3.connect(used.database, isolation_level=None)) as db:
        db.execute("DROP TRIGGER key_rotation_log_stays")
        db.execute("DELETE FROM key_rotation_log WHERE operation = 'rotate'")
    assert "findings" in used.fails(1, "audit", "prune", "--before", now())
    assert len(lines(used.ok("audit", "export"))) == 4


# ---- registries of before ------------------------------------------------------------------------

def make_schema(cli, schema):
    """The database as the program of that schema made it: its own migrations, and these rows."""
    old = cli.folder / "old_schema.db"
    with closing(sqlite3.connect(old, isolation_level=None)) as db:
        migrations = sorted((cli_tool.ROOT / "sql" / "sqlite").glob("*.sql"))
        for migration in migrations[:schema]:
            db.executescript(migration.read_text())
        db.execute("ATTACH ? AS new", (str(cli.database),))
        for (table,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'"
                                   ).fetchall():
            names = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        db.execute(f"UPDATE registry SET schema_version = {schema}")
        [(application,)] = db.execute("PRAGMA new.application_id")
        db.execute(f"PRAGMA application_id = {application}")
        db.execute(f"PRAGMA user_version = {schema}")
    for suffix in ("-wal", "-shm"):
        cli.database.with_name(cli.database.name + suffix).unlink(missing_ok=True)
    shutil.move(old, cli.database)


def test_R28_F80_the_log_of_a_registry_of_schema_3_can_be_pruned(used):
    make_schema(used, 3)
    assert "run `dekhand init`" in used.fails(2, "audit", "prune", "--before", now())
    used.ok("init")
    assert used.query("SELECT schema_version, pruned_seq FROM registry") == [(6, 0)]
    assert used.json("audit", "prune", "--before", now(), schema="audit-prune")["rows"] == 5
    used.ok("encrypt", "--tenant", "acme", stdin=b"x")
    used.ok("audit", "verify")
