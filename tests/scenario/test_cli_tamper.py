"""Somebody who can write to the database edits it: docs/SECURITY.md says what follows, row by row.

Each row of its tables is done to a copy of one registry: tenants `acme`, with a value of version 1
and one of version 2, and `globex`, with one version. Then each command runs on a copy of its own.
The names that must come out are read from the page.
"""

import base64
import json
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timezone

import pytest

import cli_tool
from cli_tool import Cli, told
from format import dk1

PAGE = cli_tool.ROOT / "docs" / "SECURITY.md"
TABLES = ("tenants", "encryption_keys", "key_rotation_log", "seals", "registry", "registry_keys")
# Empty with one provider: scenario/both_test.c edits each column of them.
BY_TWO = ("wraps", "registry_wraps")
COUNTED = ("call_counts",)  # empty with a local master key: figures for people, no rule reads them
FINDINGS = 7
RANDOM_MAC = base64.b64encode(b"\x01" + b"m" * 32).decode()
NEW_ID = "'00000000-0000-4000-8000-000000000000'"


# ---- the page ------------------------------------------------------------------------------------

def read_page():
    """{id: what the commands say} of the rows that begin with an id in backticks.

    At rest: encrypt, the old value of version 1, that of version 2, audit verify. Live: encrypt.
    """
    rest, live = {}, {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) in (4, 7):
            rows = rest if len(cells) == 7 else live
            assert cells[0] not in rows, f"{cells[0]} has two rows"
            rows[cells[0]] = cells[2:6] if len(cells) == 7 else cells[2]
    return rest, live


REST, LIVE = read_page()


# ---- the registry that is attacked ---------------------------------------------------------------

class Place:
    """A registry, what it sealed, and its database as it was before the rotation."""

    def __init__(self, cli, values, before):
        self.cli = cli
        self.values = values
        self.before = before

    def copy(self, folder):
        """The same state somewhere else."""
        folder.mkdir()
        cli = Cli(folder)
        shutil.copytree(self.cli.state, cli.state)
        return Place(cli, self.values, self.before)

    @property
    def anchor(self):
        return self.cli.state / "anchor"

    def sql(self, *statements):
        """Run as the owner of the database: no trigger and no check in the way, and no trace."""
        with closing(sqlite3.connect(self.cli.database, isolation_level=None)) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            ours = db.execute("SELECT name, type, sql FROM sqlite_master WHERE type IN ('trigger', "
                              "'index') AND sql IS NOT NULL").fetchall()
            for name, kind, _ in ours:
                if kind == "trigger":
                    db.execute(f"DROP TRIGGER {name}")
            db.execute("ATTACH ? AS before", (str(self.before),))
            for statement in statements:
                done = db.execute(*statement) if isinstance(statement, tuple) else db.execute(
                    statement)
                assert done.rowcount != 0, f"nothing was changed by {statement}"
            left = {name for (name,) in db.execute("SELECT name FROM main.sqlite_master")}
            for name, kind, sql in ours:
                if name not in left:
                    with suppress(sqlite3.IntegrityError):  # an index that the rows forbid now
                        db.execute(re.sub(r"(TRIGGER|INDEX) ", r"\1 main.", sql, count=1))

    def script(self, sql):
        """Run as it stands."""
        with closing(sqlite3.connect(self.cli.database, isolation_level=None)) as db:
            db.executescript(sql)

    def query(self, sql):
        return self.cli.query(sql)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """acme and globex at version 1, a copy of that, then acme at version 2."""
    folder = tmp_path_factory.mktemp("tamper")
    cli = Cli(folder)
    cli.ok("init")
    values = {("acme", 1): cli.ok("encrypt", "--tenant", "acme", stdin=b"acme 1"),
              ("globex", 1): cli.ok("encrypt", "--tenant", "globex", stdin=b"globex 1")}
    before = folder / "before.db"
    shutil.copy(cli.database, before)
    cli.ok("rotate", "--tenant", "acme")
    values["acme", 2] = cli.ok("encrypt", "--tenant", "acme", stdin=b"acme 2")
    return Place(cli, values, before)


@pytest.fixture(scope="module")
def rekeyed(place, tmp_path_factory):
    """The same under a second registry key; its `before` is the database under the first."""
    folder = tmp_path_factory.mktemp("rekeyed")
    copy = place.copy(folder / "place")
    copy.before = folder / "before.db"
    shutil.copy(copy.cli.database, copy.before)
    copy.cli.ok("registry", "rekey")
    return copy


@pytest.fixture(scope="module")
def pruned(place, tmp_path_factory):
    """The same with a pruned log, and acme at version 3; its `before` is that of before."""
    folder = tmp_path_factory.mktemp("pruned")
    copy = place.copy(folder / "place")
    copy.before = folder / "before.db"
    shutil.copy(copy.cli.database, copy.before)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    copy.cli.ok("audit", "prune", "--before", now)
    copy.cli.ok("rotate", "--tenant", "acme")
    return copy


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The state of another registry."""
    other = Cli(tmp_path_factory.mktemp("foreign"))
    other.ok("init")
    other.ok("encrypt", "--tenant", "acme", stdin=b"x")
    return other.state


# ---- columns -------------------------------------------------------------------------------------

KEY_1 = "tenant_id = 'acme' AND version = 1"
KEY_2 = "tenant_id = 'acme' AND version = 2"
ROTATE = "tenant_id = 'acme' AND operation = 'rotate'"
UNWRAP = "tenant_id = 'acme' AND operation = 'decrypt' AND from_version = 2"
LATER = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+400 days')"


def other(column, at=9):
    """The text with one other character, of the alphabet that the column has there."""
    return (f"substr({column}, 1, {at - 1}) || CASE substr({column}, {at}, 1) WHEN '1' THEN '2' "
            f"ELSE '1' END || substr({column}, {at + 1})")


def second(column):
    """Another second of a timestamp."""
    return other(column, 19)


# table: (which row, {column: the values that it gets, each in a registry of its own})
EDITS = {
    "tenants": ("tenant_id = 'acme'", {
        "tenant_id": ["'acmf'"],
        "next_version": ["next_version + 1", "2"],
        "epoch": ["epoch + 1", "1"],
        "rotation_days": ["3650"],
        "changed_xid": ["changed_xid + 1", "0", "'x'"],
        "row_mac": [other("row_mac"), f"'{RANDOM_MAC}'", "''"],
        "log_head": [other("log_head"), "NULL"],
        "keys_digest": [other("keys_digest"), "NULL"],
    }),
    "encryption_keys": (KEY_2, {
        "id": [other("id")],
        "tenant_id": ["'acmf'"],
        "kms_key_id": [other("kms_key_id")],
        "encrypted_data_key": [other("encrypted_data_key", 40)],
        "version": ["3"],
        "created_at": [second("created_at")],
        "expires_at": [second("expires_at"), LATER],
        "rotated_at": ["created_at"],
        "state": ["'retired'", "'disabled'"],
        "provider": ["'locam'"],
        "context_timestamp": [second("context_timestamp")],
        "check_value": ["zeroblob(32)"],
        "compromised_at": ["created_at"],
        "disabled_at": ["created_at"],
        "purged_at": ["created_at"],
        "messages": ["0", "messages + 1000000"],
        "row_mac": [other("row_mac"), f"'{RANDOM_MAC}'", "''"],
    }),
    "key_rotation_log": (ROTATE, {
        "id": [other("id")],
        "tenant_id": ["'globex'"],
        "operation": ["'export'"],
        "from_version": ["2", "NULL"],
        "to_version": ["3", "NULL"],
        "success": ["0"],
        "error_message": ["'x'"],
        "performed_at": [second("performed_at")],
        "performed_by": ["'cli:mallory'", "NULL"],
        "node": ["'elsewhere/0000000000000000'", "NULL"],
        "detail": ["'x'", "NULL"],
        "prev": [other("prev"), "NULL"],
        "mac": [other("mac"), "NULL"],
    }),
    "seals": ("n = 4", {
        "n": ["1000"],
        "at": [second("at")],
        "heads": ["''", "replace(heads, 'globex 1 ', 'globex 2 ')"],
        "prev": [other("prev"), "NULL"],
        "mac": [other("mac"), f"'{RANDOM_MAC}'"],
    }),
    "registry": ("id = 1", {
        "id": ["2"],
        "registry_uuid": [other("registry_uuid")],
        "schema_version": ["1", "5", "7"],
        "created_at": [second("created_at")],
        "provider": ["'locam'"],
        "kms_key_id": [other("kms_key_id")],
        "encrypted_data_key": [other("encrypted_data_key", 40)],
        "context_timestamp": [second("context_timestamp"),
                              "CAST(x'FF' AS TEXT)"],
        "generation": ["2", "100000"],
        "rekeying": ["1"],
        "pruned_seq": ["1", "1000"],
    }),
    "registry_keys": ("generation = 1", {
        "generation": ["3"],
        "provider": ["'locam'"],
        "kms_key_id": [other("kms_key_id")],
        "encrypted_data_key": [other("encrypted_data_key", 40)],
        "context_timestamp": [second("context_timestamp")],
        "last_seal": ["last_seal + 1", "1"],
    }),
}


def edits(*tables):
    """Parameters (id on the page, statement) of every edit of these tables."""
    return [pytest.param(f"{table}.{column}", f"UPDATE main.{table} SET {column} = {value} WHERE "
                         f"{EDITS[table][0]}", id=f"{table}.{column}-{number}")
            for table in tables for column, values in EDITS[table][1].items()
            for number, value in enumerate(values, 1)]


# ---- rows ----------------------------------------------------------------------------------------

KEY_COLUMNS = ("id, tenant_id, kms_key_id, encrypted_data_key, version, created_at, expires_at, "
               "rotated_at, state, provider, context_timestamp, check_value, compromised_at, "
               "disabled_at, purged_at, messages, row_mac")
NO_INDEX = "DROP INDEX encryption_keys_one_active"
OLD_KEY = (f"INSERT OR REPLACE INTO main.encryption_keys ({KEY_COLUMNS}) SELECT {KEY_COLUMNS} "
           "FROM before.encryption_keys WHERE tenant_id = 'acme'")
OLD_TENANT = ("DELETE FROM main.tenants WHERE tenant_id = 'acme'",
              "INSERT INTO main.tenants SELECT * FROM before.tenants WHERE tenant_id = 'acme'")
DELETE_2 = f"DELETE FROM main.encryption_keys WHERE {KEY_2}"
DELETE_KEYS = "DELETE FROM main.encryption_keys WHERE tenant_id = 'acme'"
DELETE_TENANT = "DELETE FROM main.tenants WHERE tenant_id = 'acme'"
CUT_ROTATE = f"DELETE FROM main.key_rotation_log WHERE {ROTATE}"
NEWEST_SEAL = "(SELECT max(n) FROM main.seals)"


def forged_log(mac):
    return (f"INSERT INTO main.key_rotation_log SELECT {NEW_ID}, tenant_id, 'export', 2, NULL, 1, "
            f"NULL, performed_at, 'cli:alice', node, NULL, mac, {mac} "
            f"FROM main.key_rotation_log WHERE {ROTATE}")


def forged_seal(number):
    return (f"INSERT INTO main.seals SELECT {number}, at, 'tenant acme 99 {RANDOM_MAC}' || "
            f"char(10), prev, '{RANDOM_MAC}' FROM main.seals WHERE n = {NEWEST_SEAL}")


def changed(table, column, value, where):
    return f"UPDATE main.{table} SET {column} = {value} WHERE {where}"


SQL_ATTACKS = {
    "swap.tenants": (changed("tenants", "tenant_id", "'x'", "tenant_id = 'acme'"),
                     changed("tenants", "tenant_id", "'acme'", "tenant_id = 'globex'"),
                     changed("tenants", "tenant_id", "'globex'", "tenant_id = 'x'")),
    "key.revive": (changed("encryption_keys", "state", "'retired'", KEY_2),
                   f"UPDATE main.encryption_keys SET state = 'active', rotated_at = NULL, "
                   f"expires_at = {LATER} WHERE {KEY_1}"),
    "key.old": (DELETE_2, OLD_KEY),
    "key.old-beside": (NO_INDEX, OLD_KEY),
    "key.delete-newest": (DELETE_2,),
    "key.delete-old": (f"DELETE FROM main.encryption_keys WHERE {KEY_1}",),
    "key.delete-all": (DELETE_KEYS,),
    "key.forge": (f"INSERT INTO main.encryption_keys ({KEY_COLUMNS}) SELECT {NEW_ID}, tenant_id, "
                  "kms_key_id, encrypted_data_key, 3, created_at, expires_at, created_at, "
                  "'retired', provider, context_timestamp, randomblob(32), NULL, NULL, NULL, 0, "
                  f"'{RANDOM_MAC}' FROM main.encryption_keys WHERE {KEY_2}",),
    "key.full": (changed("encryption_keys", "messages", "4294967296", KEY_2),),
    "tenant.old": OLD_TENANT,
    "tenant.old-and-keys": (DELETE_2, OLD_KEY, *OLD_TENANT),
    "tenant.old-keys-and-log": (DELETE_2, OLD_KEY, *OLD_TENANT, CUT_ROTATE),
    "tenant.delete": (DELETE_TENANT,),
    "tenant.delete-and-keys": (DELETE_TENANT, DELETE_KEYS),
    "tenant.delete-keys-and-log": (DELETE_TENANT, DELETE_KEYS,
                                   "DELETE FROM main.key_rotation_log WHERE tenant_id = 'acme'"),
    "tenant.forge": ("INSERT INTO main.tenants (tenant_id, next_version, epoch, changed_xid, "
                     f"row_mac) VALUES ('initech', 2, 1, 5, '{RANDOM_MAC}')",),
    "tenant.days-0": (changed("tenants", "rotation_days", "0", "tenant_id = 'acme'"),),
    "tenant.xid-max": (changed("tenants", "changed_xid", "9223372036854775807",
                               "tenant_id = 'acme'"),),
    "log.cut": (CUT_ROTATE,),
    "log.cut-unwrap": (f"DELETE FROM main.key_rotation_log WHERE {UNWRAP}",),
    "log.delete": ("DELETE FROM main.key_rotation_log WHERE tenant_id = 'acme' AND operation = "
                   "'create'",),
    "log.delete-all": ("DELETE FROM main.key_rotation_log",),
    "log.reorder": (changed("key_rotation_log", "rowid", "900",
                            "tenant_id = 'acme' AND operation = 'create'"),),
    "log.reorder-chains": (changed("key_rotation_log", "rowid", "900", UNWRAP),),
    "log.forge": (forged_log(f"'{RANDOM_MAC}'"),),
    "log.forge-unchained": (forged_log("NULL"),),
    "seal.delete-newest": (f"DELETE FROM main.seals WHERE n = {NEWEST_SEAL}",),
    "seal.delete-middle": ("DELETE FROM main.seals WHERE n = 4",),
    "seal.delete-first": ("DELETE FROM main.seals WHERE n = 1",),
    "seal.delete-all": ("DELETE FROM main.seals",),
    "seal.forge": (forged_seal(f"1 + {NEWEST_SEAL}"),),
    "seal.forge-high": (forged_seal(10 ** 18),),
    "seal.forge-last": (forged_seal(2 ** 63 - 1),),
    "unreadable.tenants": (changed("tenants", "epoch", "'x'", "tenant_id = 'acme'"),),
    "unreadable.encryption_keys": (changed("encryption_keys", "created_at", "'yesterday'", KEY_2),),
    "unreadable.key_rotation_log": (changed("key_rotation_log", "success", "2", ROTATE),),
    "unreadable.seals": (changed("seals", "at", "'yesterday'", "n = 4"),),
    "registry.delete": ("DELETE FROM main.registry",),
    "registry.empty": ("UPDATE main.registry SET provider = NULL, kms_key_id = NULL, "
                       "encrypted_data_key = NULL, context_timestamp = NULL",),
}


# Columns that change places between acme's active row and globex's, or between their first rows.
WRAP = ("kms_key_id", "encrypted_data_key", "context_timestamp")
SWAPS = {
    "swap.wrapped": (KEY_2, WRAP),
    "swap.wrapped-and-check": (KEY_2, (*WRAP, "check_value")),
    "swap.ids": (KEY_2, ("id",)),
    "swap.tenant-ids": (KEY_1, ("tenant_id",)),
    "swap.rows": (KEY_2, ("id", *WRAP, "created_at", "expires_at", "check_value", "row_mac")),
}


def swap(place, where, columns):
    with closing(sqlite3.connect(place.cli.database)) as db:
        mine, theirs = (db.execute(f"SELECT rowid, {', '.join(columns)} FROM encryption_keys WHERE "
                                   f"{which}").fetchone() for which in (where,
                                                                        "tenant_id = 'globex'"))
    sets = ", ".join(f"{column} = ?" for column in columns)
    update = f"UPDATE main.encryption_keys SET {sets} WHERE rowid = ?"
    parked = [bytes(32) if isinstance(value, bytes) else "parked" for value in mine[1:]]
    place.sql(NO_INDEX, (update, (*parked, mine[0])), (update, (*mine[1:], theirs[0])),
              (update, (*theirs[1:], mine[0])))


def forge_known(place):
    """A key that the forger chose, wrapped as a stolen master key would: all but the row's MAC."""
    [(number, _, master)] = dk1.parse_master_key_file(place.cli.master_key.read_bytes())
    now = "2026-01-02T03:04:05.000006Z"
    key = bytes(range(32))
    wrapped = dk1.local_wrap(master, number, key, dk1.data_key_context("acme", now))
    place.sql((f"UPDATE main.encryption_keys SET encrypted_data_key = ?, context_timestamp = ?, "
               f"check_value = ? WHERE {KEY_2}", (wrapped, now, dk1.check_value(key))))


def edit_is_active(place):
    """The column is made from `state`: only another schema can make it lie."""
    place.sql("PRAGMA writable_schema = ON", "UPDATE main.sqlite_master SET sql = replace(sql, "
              "'(state = ''active'')', '(state = ''retired'')') WHERE name = 'encryption_keys'")
    assert place.query(f"SELECT is_active FROM encryption_keys WHERE {KEY_2}") == [(0,)]


def old_then_rotate(place):
    """Rows and log of acme from before its rotation; then it is rotated in good faith."""
    place.sql(*SQL_ATTACKS["tenant.old-keys-and-log"])
    place.cli.ok("rotate", "--tenant", "acme")


def delete_young(place):
    """globex, of one version, with all of its rows but the unwraps; then it encrypts again."""
    place.sql("DELETE FROM main.tenants WHERE tenant_id = 'globex'",
              "DELETE FROM main.encryption_keys WHERE tenant_id = 'globex'",
              "DELETE FROM main.key_rotation_log WHERE tenant_id = 'globex' AND operation = "
              "'create'")
    place.cli.ok("encrypt", "--tenant", "globex", stdin=b"x")


def swallow(place, *tables):
    """Triggers that swallow new rows, and an encryption that wants to write some."""
    place.sql(*(f"CREATE TRIGGER main.swallow_{table} BEFORE INSERT ON {table} BEGIN SELECT "
                "RAISE(IGNORE); END" for table in tables))
    place.cli.run("encrypt", "--tenant", "acme", stdin=b"x")


def damage_anchor(place):
    text = bytearray(place.anchor.read_bytes())
    text[100] ^= 1
    place.anchor.write_bytes(text)


def old_file(place):
    shutil.copy(place.before, place.cli.database)


def old_file_no_anchor(place):
    old_file(place)
    place.anchor.unlink()


def no_anchor_no_seals(place):
    place.sql("DELETE FROM main.seals")
    place.anchor.unlink()


# ---- what the rows are made of -------------------------------------------------------------------

HOLLOW = "DROP TRIGGER {0}; CREATE TRIGGER {0} BEFORE {1} ON {2} BEGIN SELECT 1; END;"
SCHEMA = {
    "schema.hollow-trigger": HOLLOW.format("seals_stay", "DELETE", "seals"),
    "schema.delete-on-insert": HOLLOW.format("key_rotation_log_stays", "DELETE", "key_rotation_log")
    + "CREATE TRIGGER t AFTER INSERT ON key_rotation_log BEGIN DELETE FROM key_rotation_log WHERE "
      "operation = 'rotate'; END",
    "schema.edit-on-insert": HOLLOW.format("key_rotation_log_fixed", "UPDATE", "key_rotation_log")
    + "CREATE TRIGGER t AFTER INSERT ON KEY_ROTATION_LOG BEGIN UPDATE key_rotation_log SET "
      "performed_by = 'cli:mallory' WHERE id = NEW.id; END",
    "schema.keys-on-insert": "CREATE TRIGGER t AFTER INSERT ON seals BEGIN UPDATE encryption_keys "
                             f"SET expires_at = {LATER} WHERE state = 'active'; END",
    "schema.index": "CREATE UNIQUE INDEX i ON key_rotation_log (operation, prev)",
    "schema.no-index": NO_INDEX,
    "schema.no-view": "DROP VIEW key_rotation_health",
    "schema.other-view": "DROP VIEW key_rotation_health; CREATE VIEW key_rotation_health AS SELECT "
                         "tenant_id, version, 'OK' AS health_status FROM encryption_keys",
    "schema.more-columns": "ALTER TABLE tenants ADD COLUMN plan TEXT",
    "schema.of-the-application": "CREATE TABLE contacts (id INTEGER PRIMARY KEY, tenant REFERENCES "
                                 "tenants (tenant_id), phone TEXT); CREATE INDEX c ON contacts "
                                 "(tenant); CREATE VIEW due AS SELECT tenant_id FROM "
                                 "encryption_keys; CREATE TRIGGER log AFTER INSERT ON contacts "
                                 "BEGIN UPDATE contacts SET phone = '' WHERE id = 0; END",
}


def no_triggers(place):
    place.script("".join(f"DROP TRIGGER {name};" for (name,) in place.query(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'")))


def fewer_columns(place):
    no_triggers(place)
    place.script("ALTER TABLE key_rotation_log DROP COLUMN detail")


# ---- who knows the key before a rekey ------------------------------------------------------------

class OldKey:
    """The registry key of before, as who stole it has it."""

    def __init__(self, place):
        [(number, _, master)] = dk1.parse_master_key_file(place.cli.master_key.read_bytes())
        [(self.uuid, wrapped, key_id, at)] = place.query(
            "SELECT registry_uuid, k.encrypted_data_key, k.kms_key_id, k.context_timestamp FROM "
            "registry, registry_keys k WHERE k.generation = 1")
        self.key = dk1.local_unwrap({number: master}, key_id, wrapped,
                                    dk1.registry_key_context(self.uuid, at))
        self.place = place

    def row(self, table, where):
        with closing(sqlite3.connect(self.place.cli.database)) as db:
            db.row_factory = sqlite3.Row
            return dict(db.execute(f"SELECT * FROM {table} WHERE {where}").fetchone())

    def store(self, table, row, where=None):
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        what = (f"INSERT INTO main.{table} ({names}) VALUES ({marks})" if where is None else
                f"UPDATE main.{table} SET ({names}) = ({marks}) WHERE {where}")
        self.place.sql((what, tuple(row.values())))

    def tenant(self, **edit):
        row = {**self.row("tenants", "tenant_id = 'acme'"), **edit}
        row["row_mac"] = dk1.row_mac(self.key, self.uuid, "tenants", row)
        self.store("tenants", row, "tenant_id = 'acme'")

    def log_mac(self, row):
        row["mac"] = dk1.log_mac(self.key, self.uuid, row)
        return row

    def seal_mac(self, row):
        row["mac"] = dk1.seal_mac(self.key, self.uuid, row)
        return row


def old_key_log(place):
    old = OldKey(place)
    row = old.row("key_rotation_log", ROTATE)
    old.store("key_rotation_log", old.log_mac({**row, "id": "0" * 8 + row["id"][8:],
                                               "operation": "export", "prev": row["mac"]}))


def old_key_edit_log(place):
    old = OldKey(place)
    row = old.row("key_rotation_log", ROTATE)
    old.store("key_rotation_log", old.log_mac({**row, "performed_by": "cli:mallory"}), ROTATE)


def old_key_seal(place):
    old = OldKey(place)
    row = old.row("seals", f"n = {NEWEST_SEAL.replace('main.', '')}")
    old.store("seals", old.seal_mac({**row, "n": row["n"] + 1, "prev": dk1.seal_hash(row["mac"])}))


def old_key_edit_seals(place):
    """Seal 4 and all after it, up to the last under that key, made anew."""
    old = OldKey(place)
    [(last,)] = place.query("SELECT last_seal FROM registry_keys")
    prev = None
    for n in range(4, last + 1):
        row = old.row("seals", f"n = {n}")
        other_at = row["at"][:-2] + ("8Z" if row["at"][-2] == "9" else "9Z")
        row.update({"at": other_at} if n == 4 else {"prev": prev})
        old.store("seals", old.seal_mac(row), f"n = {n}")
        prev = dk1.seal_hash(row["mac"])


OLD_ROWS = ("DELETE FROM main.tenants", "INSERT INTO main.tenants SELECT * FROM before.tenants",
            "DELETE FROM main.encryption_keys",
            f"INSERT INTO main.encryption_keys ({KEY_COLUMNS}) SELECT {KEY_COLUMNS} FROM "
            "before.encryption_keys")
REKEYED = {
    "rekey.delete-key": lambda place: place.sql("DELETE FROM main.registry_keys"),
    "rekey.old-registry-row": lambda place: place.sql(
        "DELETE FROM main.registry", "INSERT INTO main.registry SELECT * FROM before.registry"),
    "rekey.old-rows": lambda place: place.sql(*OLD_ROWS),
    "rekey.old-rows-and-hint": lambda place: place.sql(
        *OLD_ROWS, "UPDATE main.registry SET rekeying = 1"),
    "rekey.old-file": old_file,
    "rekey.old-key-tenant": lambda place: OldKey(place).tenant(rotation_days=3650),
    "rekey.old-key-log": old_key_log,
    "rekey.old-key-edit-log": old_key_edit_log,
    "rekey.old-key-seal": old_key_seal,
    "rekey.old-key-edit-seals": old_key_edit_seals,
}

LOG_COLUMNS = ("id, tenant_id, operation, from_version, to_version, success, error_message, "
               "performed_at, performed_by, node, detail, prev, mac")
FURTHER = f"'seal ' || {NEWEST_SEAL} || substr(detail, instr(substr(detail, 6), ' ') + 5)"
PRUNED = {
    "prune.delete-younger": (CUT_ROTATE,),
    "prune.delete-younger-and-hint": (CUT_ROTATE, "UPDATE main.registry SET pruned_seq = 1000"),
    "prune.delete-proof": ("DELETE FROM main.key_rotation_log WHERE operation = 'prune'",),
    "prune.edit-proof": (changed("key_rotation_log", "detail", FURTHER, "operation = 'prune'"),
                         CUT_ROTATE),
    "prune.forge-proof": (f"INSERT INTO main.key_rotation_log ({LOG_COLUMNS}) SELECT {NEW_ID}, '*', "
                          f"'prune', NULL, NULL, 1, NULL, performed_at, 'cli:alice', node, "
                          f"{FURTHER}, mac, '{RANDOM_MAC}' FROM main.key_rotation_log WHERE "
                          "operation = 'prune'", CUT_ROTATE),
    "prune.hint": ("UPDATE main.registry SET pruned_seq = 0",),
    "prune.rows-back": (f"INSERT INTO main.key_rotation_log (rowid, {LOG_COLUMNS}) SELECT rowid, "
                        f"{LOG_COLUMNS} FROM before.key_rotation_log",),
}

ROW_ATTACKS = {
    **{name: lambda place, sql=sql: place.sql(*sql) for name, sql in SQL_ATTACKS.items()},
    **{name: lambda place, args=args: swap(place, *args) for name, args in SWAPS.items()},
    "key.forge-known": forge_known,
    **{name: lambda place, sql=sql: place.script(sql) for name, sql in SCHEMA.items()},
    "schema.no-triggers": no_triggers,
    "schema.fewer-columns": fewer_columns,
    "tenant.old-then-rotate": old_then_rotate,
    "tenant.delete-young": delete_young,
    "encryption_keys.is_active": edit_is_active,
    "log.swallow": lambda place: swallow(place, "key_rotation_log"),
    "log.swallow-and-seals": lambda place: swallow(place, "key_rotation_log", "seals"),
    "seal.swallow": lambda place: swallow(place, "seals"),
    "file.old": old_file,
    "file.old-no-anchor": old_file_no_anchor,
    "file.missing": lambda place: place.cli.database.unlink(),
    "anchor.missing": lambda place: place.anchor.unlink(),
    "anchor.missing-no-seals": no_anchor_no_seals,
    "anchor.damaged": damage_anchor,
}
FOREIGN = {"file.foreign": "dekhand.db", "anchor.foreign": "anchor"}


def rows(*prefixes):
    return [name for name in ROW_ATTACKS if name.split(".")[0] in prefixes]


# ---- what the commands say -----------------------------------------------------------------------

def code_of(done, stdout=None):
    """OK, or the name of the refusal."""
    if done.returncode == 0:
        assert stdout is None or done.stdout == stdout, told(done)
        return "OK"
    found = re.search(rb"^dekhand: (E_\w+): ", done.stderr, re.M)
    assert found and done.stdout == b"", told(done)
    return found[1].decode()


def encrypt(place, tenant):
    done = place.cli.run("encrypt", "--tenant", tenant, stdin=b"new")
    if done.returncode == 0:
        code_of(place.cli.run("decrypt", "--tenant", tenant, stdin=done.stdout), b"new")
    return code_of(done)


def decrypt(place, tenant, version):
    done = place.cli.run("decrypt", "--tenant", tenant, stdin=place.values[tenant, version])
    return code_of(done, f"{tenant} {version}".encode())


def verify(place):
    """OK, a refusal, or the findings: each table with the tenant that is named."""
    done = place.cli.run("audit", "verify", "--json")
    if done.returncode != FINDINGS:
        return code_of(done)
    findings = json.loads(done.stdout)["findings"]
    return ", ".join(sorted({f"{one['table']} {one['tenantId'] or ''}".strip()
                             for one in findings}))


def doctor(place):
    """Whether the doctor finds the registry well; each line that is wrong has its fix."""
    done = place.cli.run("doctor", "--json")
    assert done.returncode in (0, FINDINGS), told(done)
    wrong = [check for check in json.loads(done.stdout)["checks"]
             if check["level"] in ("warning", "error")]
    assert bool(wrong) == (done.returncode == FINDINGS)
    assert all(check["fix"] for check in wrong)
    return not wrong


def four(place, folder, tenant="acme"):
    """The four cells of the page, how verify sees what encrypt left, and whether all is well."""
    copies = [place.copy(folder / str(number)) for number in range(5)]
    newest = 2 if tenant == "acme" else 1
    with ThreadPoolExecutor() as pool:
        cells = [pool.submit(encrypt, copies[0], tenant),
                 pool.submit(decrypt, copies[1], tenant, 1),
                 pool.submit(decrypt, copies[2], tenant, newest),
                 pool.submit(verify, copies[3])]
        well = pool.submit(doctor, copies[4])
        cells = [cell.result() for cell in cells]
    return cells, verify(copies[0]), well.result()


def look(place, tmp_path, name, tenant="acme"):
    cells, after, well = four(place, tmp_path, tenant)
    assert cells == REST[name]
    # Whatever verify names or stumbles over, the doctor names too; a used-up budget it alone.
    assert well == (cells[3] == "OK" and cells[0] != "E_KEY_EXHAUSTED")
    assert (after == "OK") == (cells[3] == "OK"), f"after an encryption verify says {after}"


# ---- at rest -------------------------------------------------------------------------------------

def test_I01_every_column_has_a_row_on_the_page(place):
    columns = {f"{table}.{column[1]}" for table in TABLES
               for column in place.query(f"PRAGMA table_xinfo({table})")}
    assert columns <= set(REST)
    there = place.query("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {row[0] for row in there} == set(TABLES) | set(BY_TWO) | set(COUNTED)


def test_every_row_of_the_page_is_done_here():
    done = {f"{table}.{column}" for table in EDITS for column in EDITS[table][1]}
    assert done | set(ROW_ATTACKS) | set(REKEYED) | set(PRUNED) | set(FOREIGN) == set(REST)
    assert set(LIVE) == set(LIVE_ATTACKS)


def test_I01_untouched_copy_passes(place, tmp_path):
    for tenant in ("acme", "globex"):
        (tmp_path / tenant).mkdir()
        assert four(place, tmp_path / tenant, tenant) == (["OK"] * 4, "OK", True)


@pytest.mark.parametrize("name, sql", edits("tenants", "encryption_keys", "registry"))
def test_I01_F51_edited_column(place, tmp_path, name, sql):
    attacked = place.copy(tmp_path / "attacked")
    attacked.sql(sql)
    look(attacked, tmp_path, name)


@pytest.mark.parametrize("name, sql", edits("key_rotation_log", "seals"))
def test_I26_F56_edited_column(place, tmp_path, name, sql):
    attacked = place.copy(tmp_path / "attacked")
    attacked.sql(sql)
    look(attacked, tmp_path, name)


@pytest.mark.parametrize("name, sql", edits("registry_keys"))
def test_I01_edited_column_of_an_earlier_key(rekeyed, tmp_path, name, sql):
    attacked = rekeyed.copy(tmp_path / "attacked")
    attacked.sql(sql)
    look(attacked, tmp_path, name)


@pytest.mark.parametrize("name", REKEYED)
def test_I03_I04_after_a_rekey(rekeyed, tmp_path, name):
    attacked = rekeyed.copy(tmp_path / "attacked")
    REKEYED[name](attacked)
    look(attacked, tmp_path, name)


def test_untouched_copy_of_a_rekeyed_registry_passes(rekeyed, tmp_path):
    assert four(rekeyed, tmp_path) == (["OK"] * 4, "OK", True)


@pytest.mark.parametrize("name", PRUNED)
def test_R28_I26_after_a_prune(pruned, tmp_path, name):
    attacked = pruned.copy(tmp_path / "attacked")
    attacked.sql(*PRUNED[name])
    look(attacked, tmp_path, name)


def test_R28_untouched_copy_of_a_pruned_registry_passes(pruned, tmp_path):
    assert four(pruned, tmp_path) == (["OK"] * 4, "OK", True)


def attack(place, tmp_path, name):
    attacked = place.copy(tmp_path / "attacked")
    ROW_ATTACKS[name](attacked)
    look(attacked, tmp_path, name, "globex" if name == "tenant.delete-young" else "acme")
    return attacked


@pytest.mark.parametrize("name", rows("swap"))
def test_I02_F50_swapped_between_tenants(place, tmp_path, name):
    attacked = attack(place, tmp_path, name)
    (tmp_path / "globex").mkdir()
    cells, _, _ = four(attacked, tmp_path / "globex", "globex")
    assert "OK" not in cells


@pytest.mark.parametrize("name", [name for name in rows("key", "tenant") if "forge" in name])
def test_I03_F53_forged_row(place, tmp_path, name):
    attack(place, tmp_path, name)


@pytest.mark.parametrize("name", [name for name in rows("key", "tenant", "encryption_keys",
                                                        "registry") if "forge" not in name])
def test_I04_F51_F52_old_or_missing_rows(place, tmp_path, name):
    attack(place, tmp_path, name)


@pytest.mark.parametrize("name", rows("log", "seal", "unreadable"))
def test_I26_F56_rows_of_log_and_seals(place, tmp_path, name):
    attack(place, tmp_path, name)


@pytest.mark.parametrize("name", rows("schema"))
def test_I01_I26_what_the_rows_are_made_of(place, tmp_path, name):
    attack(place, tmp_path, name)


@pytest.mark.parametrize("name", [name for name in rows("schema") if "column" not in name])
def test_each_fix_of_the_schema_mends_it(place, tmp_path, name):
    """Not the columns of a table: those are put back from a copy."""
    attacked = place.copy(tmp_path / "attacked")
    ROW_ATTACKS[name](attacked)
    for check in json.loads(attacked.cli.run("doctor", "--json").stdout)["checks"]:
        if check["level"] in ("warning", "error"):
            assert check["name"] == "schema"
            command = re.search("`(.*?)`", check["fix"])[1]
            command = re.sub("^dekhand ", f"{cli_tool.PROGRAM} ", command)
            subprocess.run(command, shell=True, check=True, env=attacked.cli.env)
    assert doctor(attacked) and verify(attacked) == "OK"
    assert encrypt(attacked, "acme") == "OK"


@pytest.mark.parametrize("name", ["x'; touch hit; '", "$(touch hit)", "a\\x1b[2J\nb", '"', "-x"])
def test_a_name_of_the_attackers_steers_neither_shell_nor_terminal(place, tmp_path, name):
    attacked = place.copy(tmp_path / "attacked")
    quoted = name.replace('"', '""')
    attacked.script(f'CREATE TRIGGER "{quoted}" AFTER INSERT ON seals BEGIN SELECT 1; END')
    done = attacked.cli.run("doctor")
    assert done.returncode == FINDINGS and b"\x1b" not in done.stdout
    [line] = [line for line in done.stdout.decode().splitlines() if line.startswith("error")]
    command = re.search("then `(.*?)` and `dekhand", line)[1]
    subprocess.run(command, shell=True, check=True, env=attacked.cli.env, cwd=tmp_path)
    assert not (tmp_path / "hit").exists()
    assert doctor(attacked) and verify(attacked) == "OK"


@pytest.mark.parametrize("name", rows("file", "anchor"))
def test_I04_F54_files(place, tmp_path, name):
    attack(place, tmp_path, name)


@pytest.mark.parametrize("name", FOREIGN)
def test_I04_F54_file_of_another_registry(place, foreign, tmp_path, name):
    attacked = place.copy(tmp_path / "attacked")
    shutil.copy(foreign / FOREIGN[name], attacked.cli.state / FOREIGN[name])
    look(attacked, tmp_path, name)


def test_I04_F54_old_file_that_is_accepted_names_what_it_lacks(place, tmp_path):
    attacked = place.copy(tmp_path / "attacked")
    old_file(attacked)
    [(uuid,)] = attacked.query("SELECT registry_uuid FROM registry")
    attacked.cli.ok("registry", "accept-restore", "--confirm", uuid)
    assert encrypt(attacked, "acme") == "OK"
    assert decrypt(attacked, "acme", 1) == "OK"
    assert decrypt(attacked, "acme", 2) == "E_UNKNOWN_VERSION"
    assert verify(attacked) == "OK"


@pytest.mark.parametrize("name", ["log.cut", "log.delete-all", "seal.delete-newest",
                                  "seal.delete-all"])
def test_I26_F54_what_was_cut_and_accepted_works_on_and_is_still_named(place, tmp_path, name):
    attacked = place.copy(tmp_path / "attacked")
    ROW_ATTACKS[name](attacked)
    cut = verify(attacked)
    [(uuid,)] = attacked.query("SELECT registry_uuid FROM registry")
    attacked.cli.ok("registry", "accept-restore", "--confirm", uuid)
    attacked.cli.ok("rotate", "--all")
    assert encrypt(attacked, "acme") == "OK"
    assert [decrypt(attacked, "acme", version) for version in (1, 2)] == ["OK", "OK"]
    assert "OK" not in (cut, verify(attacked))
    assert b"accept-restore" in attacked.cli.ok("audit", "list", "--operation", "accept-restore")


# ---- while a process runs ------------------------------------------------------------------------

LIVE_ATTACKS = {
    "live.file.old": old_file,
    "live.tenant.old": ROW_ATTACKS["tenant.old"],
    "live.tenant.old-and-keys": ROW_ATTACKS["tenant.old-and-keys"],
    "live.tenant.delete-and-keys": ROW_ATTACKS["tenant.delete-and-keys"],
    "live.seals": lambda place: place.sql("DELETE FROM main.seals WHERE n >= 5"),
    "live.key.delete": ROW_ATTACKS["key.delete-newest"],
}


class Stream:
    """One process that encrypts values of acme, before an attack and after it."""

    ROWS = b"acme," + b"y" * 1000 + b"\n"

    def __init__(self, place):
        self.process = subprocess.Popen(
            [cli_tool.PROGRAM, "encrypt", "--csv", "--columns=v", "--tenant-column=t"],
            cwd=place.cli.folder, env={**place.cli.env, "KMS_POLL_SECONDS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.encrypts = threading.Event()

    def drain(self):
        while self.process.stdout.read1():
            self.encrypts.set()

    def write(self, rows):
        try:
            self.process.stdin.write(rows)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has refused already, and says so

    def around(self, attack_now):
        with ThreadPoolExecutor(2) as pool:
            pool.submit(self.drain)
            said = pool.submit(self.process.stderr.read)
            self.write(b"t,v\n" + self.ROWS * 1500)
            assert self.encrypts.wait(cli_tool.TIMEOUT)
            attack_now()
            time.sleep(1.1)  # a poll is due
            self.write(self.ROWS * 1500)
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
            if self.process.wait(cli_tool.TIMEOUT) == 0:
                return "OK"
            return re.search(rb"^dekhand: (E_\w+): ", said.result(), re.M)[1].decode()


@pytest.fixture(scope="module")
def live(place, tmp_path_factory):
    """{attack: (what the process says, what verify says then)}; they wait side by side."""
    folder = tmp_path_factory.mktemp("live")

    def run(name):
        attacked = place.copy(folder / name)
        said = Stream(attacked).around(lambda: LIVE_ATTACKS[name](attacked))
        return said, verify(attacked)

    with ThreadPoolExecutor(len(LIVE_ATTACKS)) as pool:
        return dict(zip(LIVE_ATTACKS, pool.map(run, LIVE_ATTACKS)))


@pytest.mark.parametrize("name", LIVE_ATTACKS)
def test_I04_F52_F54_running_process(live, name):
    said, verified = live[name]
    assert said == LIVE[name]
    assert verified != "OK"
