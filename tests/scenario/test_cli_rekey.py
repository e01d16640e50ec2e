"""registry rekey from outside: what is said, the pin, an old anchor, a registry of schema 2."""

import shutil
import sqlite3
from contextlib import closing

import pytest

import cli_tool


@pytest.fixture
def used(cli):
    cli.value = cli.ok("encrypt", "--tenant", "acme", stdin=b"x")
    cli.ok("rotate", "--tenant", "acme")
    cli.ok("encrypt", "--tenant", "globex", stdin=b"y")
    return cli


def pin(cli):
    return cli.json("registry", "show", schema="registry-show")["registryPin"]


def test_rekey_tells_the_new_pin_and_show_who_and_when(used):
    before = used.json("registry", "show", schema="registry-show")
    assert (before["generation"], before["rekeyedAt"], before["rekeyedBy"]) == (1, None, None)
    done = used.run("registry", "rekey", "--json")
    assert done.returncode == 0
    found = used.json("registry", "show", schema="registry-show")
    assert found["generation"] == 2 and not found["rekeying"]
    assert found["rekeyedAt"] > before["createdAt"] and found["rekeyedBy"].startswith("cli:")
    assert found["registryPin"] != before["registryPin"]
    assert found["registryPin"].encode() in done.stdout and found["registryPin"].encode() in done.stderr
    again = used.json("registry", "rekey", schema="registry-rekey")
    assert again == {"generation": 3, "registryPin": pin(used), "begun": True, "tenants": 2, "keys": 3,
                     "damaged": 0}
    assert b"number 3, of " in used.ok("registry", "show")
    operations = [row[0] for row in used.query("SELECT operation FROM key_rotation_log WHERE "
                                               "tenant_id = '*' AND operation <> 'decrypt'")]
    assert operations == ["rekey", "rekey-end"] * 2
    used.ok("audit", "verify")
    assert used.ok("decrypt", "--tenant", "acme", stdin=used.value) == b"x"


def test_an_old_pin_is_told_and_never_followed(used):
    old = {"KMS_REGISTRY_PIN": pin(used)}
    used.ok("registry", "rekey", env=old)  # who holds the key goes on
    said = used.fails(2, "decrypt", "--tenant", "acme", stdin=used.value, env=old)
    assert "E_CONFIG" in said and "key 1" in said and "rekeyed by cli:" in said
    assert pin(used) not in said  # not to be copied from here
    new = {"KMS_REGISTRY_PIN": pin(used)}
    assert used.ok("decrypt", "--tenant", "acme", stdin=used.value, env=new) == b"x"
    said = used.fails(1, "decrypt", "--tenant", "acme", stdin=used.value,
                      env={"KMS_REGISTRY_PIN": "0" * 64})
    assert "E_TAMPERED" in said


def test_I04_an_anchor_of_an_earlier_key_leads_to_the_new_one(used):
    anchor = used.state / "anchor"
    old = anchor.read_bytes()
    for _ in range(2):
        used.ok("registry", "rekey")
    anchor.write_bytes(old)
    assert used.ok("decrypt", "--tenant", "acme", stdin=used.value) == b"x"
    assert f"pin {pin(used)}".encode() in anchor.read_bytes()
    used.ok("audit", "verify")
    # but not past seals that are another's
    anchor.write_bytes(old)
    with closing(sqlite3.connect(used.database)) as db:
        db.execute("DROP TRIGGER seals_fixed")
        [(last,)] = db.execute("SELECT last_seal FROM registry_keys WHERE generation = 1")
        db.execute("UPDATE seals SET heads = replace(heads, 'rekey 2 ', 'rekey 3 ') WHERE n = ?", (last,))
        db.commit()
    assert "E_TAMPERED" in used.fails(1, "decrypt", "--tenant", "acme", stdin=used.value)


def test_a_copy_from_before_is_refused_and_the_way_through_works(used, tmp_path):
    before = tmp_path / "before.db"
    shutil.copy(used.database, before)
    used.ok("registry", "rekey")
    shutil.copy(before, used.database)
    assert "from before a rekey" in used.fails(1, "encrypt", "--tenant", "acme", stdin=b"x")
    (used.state / "anchor").unlink()
    used.ok("audit", "verify")
    assert used.json("registry", "rekey", schema="registry-rekey")["generation"] == 2
    assert used.ok("decrypt", "--tenant", "acme", stdin=used.value) == b"x"


# ---- schema 2 ------------------------------------------------------------------------------------

def make_schema_2(cli):
    """The database as the program of schema 2 made it: its own migrations, and these rows."""
    old = cli.folder / "schema2.db"
    with closing(sqlite3.connect(old, isolation_level=None)) as db:
        for migration in sorted((cli_tool.ROOT / "sql" / "sqlite").glob("000[12]_*.sql")):
            db.executescript(migration.read_text())
        db.execute("ATTACH ? AS new", (str(cli.database),))
        for table in ("registry", "tenants", "encryption_keys", "key_rotation_log", "seals"):
            names = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        db.execute("UPDATE registry SET schema_version = 2")
        [(application,)] = db.execute("PRAGMA new.application_id")
        db.execute(f"PRAGMA application_id = {application}")
        db.execute("PRAGMA user_version = 2")
    for suffix in ("-wal", "-shm"):
        (cli.state / f"dekhand.db{suffix}").unlink(missing_ok=True)
    shutil.move(old, cli.database)


def test_F80_init_brings_a_registry_of_schema_2_up_to_date(used):
    before = pin(used)
    make_schema_2(used)
    assert "run `dekhand init`" in used.fails(2, "decrypt", "--tenant", "acme", stdin=used.value)
    used.ok("init")
    assert used.query("SELECT schema_version, generation, rekeying FROM registry") == [(6, 1, 0)]
    assert pin(used) == before
    assert used.ok("decrypt", "--tenant", "acme", stdin=used.value) == b"x"
    used.ok("audit", "verify")
    assert used.json("registry", "rekey", schema="registry-rekey")["tenants"] == 2
    used.ok("audit", "verify")
