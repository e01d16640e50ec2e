"""keys disable and enable, tenants list and set from outside."""

import sqlite3
from contextlib import closing

import pytest


@pytest.fixture
def used(cli):
    cli.value = cli.ok("encrypt", "--tenant", "acme", stdin=b"x")
    cli.ok("rotate", "--tenant", "acme")
    return cli


def test_a_disabled_version_opens_nothing_until_it_is_enabled(used):
    done = used.json("keys", "disable", "--tenant", "acme", "--version", "1", schema="keys-disable")
    assert done == {"tenantId": "acme", "version": 1, "disabled": True, "changed": True}
    said = used.fails(1, "decrypt", "--tenant", "acme", stdin=used.value)
    assert "E_DISABLED" in said
    states = {k["version"]: k["state"] for k in used.json("keys", "list", schema="keys-list")["keys"]}
    assert states == {1: "disabled", 2: "active"}
    assert b"was disabled already" in used.ok("keys", "disable", "--tenant", "acme", "--version", "1")
    done = used.json("keys", "enable", "--tenant", "acme", "--version", "1", schema="keys-enable")
    assert done == {"tenantId": "acme", "version": 1, "disabled": False, "changed": True}
    assert used.ok("decrypt", "--tenant", "acme", stdin=used.value) == b"x"
    used.ok("audit", "verify")
    rows = used.json("keys", "show", "--tenant", "acme", schema="keys-show")["history"]
    assert [row["operation"] for row in rows[:2]] == ["enable", "disable"]
    assert b"disable" in used.ok("audit", "list", "--operation", "disable")


def test_the_active_version_is_refused_with_4_and_the_way_out(used):
    said = used.fails(4, "keys", "disable", "--tenant", "acme", "--version", "2")
    assert "E_REFUSED" in said and "`dekhand rotate` first" in said
    assert "E_UNKNOWN_VERSION" in used.fails(1, "keys", "disable", "--tenant", "acme", "--version", "9")
    assert "E_NOT_FOUND" in used.fails(1, "keys", "enable", "--tenant", "none", "--version", "1")
    assert "--version" in used.fails(2, "keys", "disable", "--tenant", "acme")
    assert "--version" in used.fails(2, "keys", "enable", "--tenant", "acme", "--version", "0x1")


def test_a_tenant_with_a_rotation_period_of_its_own(used):
    used.ok("encrypt", "--tenant", "globex", stdin=b"y")
    done = used.json("tenants", "set", "--tenant", "acme", "--rotation-days", "30", schema="tenants-set")
    assert done["tenantId"] == "acme" and done["rotationDays"] == 30
    expires = {k["tenantId"]: k["expiresAt"] for k in used.json("keys", "list", schema="keys-list")["keys"]
               if k["state"] == "active"}
    assert expires["acme"] == done["expiresAt"] < expires["globex"]
    listed = used.json("tenants", "list", schema="tenants-list")["tenants"]
    assert listed == [{"tenantId": "acme", "versions": 2, "rotationDays": 30, "tampered": False},
                      {"tenantId": "globex", "versions": 1, "rotationDays": None, "tampered": False}]
    assert b"default" in used.ok("tenants", "list", "--tenant", "globex")
    done = used.json("tenants", "set", "--tenant", "acme", "--rotation-days", "default", schema="tenants-set")
    assert done["rotationDays"] is None
    for wrong in ("0", "731", "1.5", "-1", ""):
        assert "--rotation-days" in used.fails(2, "tenants", "set", "--tenant", "acme", "--rotation-days", wrong)
    assert used.ok("tenants", "set", "--help").count(b"--rotation-days") == 1
    used.ok("audit", "verify")


def test_I04_an_edited_tenant_is_marked(used):
    with closing(sqlite3.connect(used.database)) as database, database:
        database.execute("UPDATE tenants SET rotation_days = 700")
    done = used.run("tenants", "list", "--json")
    assert done.returncode == 3 and b'"tampered":true' in done.stdout
    assert "E_TAMPERED" in used.fails(1, "tenants", "set", "--tenant", "acme", "--rotation-days", "30")
