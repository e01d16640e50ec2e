"""A registry that the program made, believed by the second implementation alone.

What is checked is what docs/FORMAT.md says of a whole registry: wraps, check values, MACs, digests,
chains and seals. The names carry no id of docs/BAR.md, as in test_dk1.py.
"""
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timezone

import pytest

import dk1

UUID_TENANT = "3F2504E0-4F89-41D3-9A0C-0305E82C3301"
GENERATED = ("is_active",)


# ---- reading -------------------------------------------------------------------------------------

def table(database, name, order="rowid"):
    """The rows of a table as dicts, without generated columns; text keeps bytes that are not UTF-8."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        found = db.execute(f"SELECT * FROM {name} ORDER BY {order}")
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row)) for row in found]
    return [{n: v for n, v in row.items() if n not in GENERATED} for row in rows]


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def master_keys(state):
    entries = dk1.parse_master_key_file((state / "master.key").read_bytes())
    return {number: key for number, _, key in entries}


class Registry:
    """The tables in `state`, and the registry keys that master.key opens; `key` is the newest."""

    def __init__(self, state):
        self.master_keys = master_keys(state)
        [registry] = table(state / "dekhand.db", "registry")
        self.uuid = registry["registry_uuid"]
        self.generation = registry["generation"]
        self.earlier = table(state / "dekhand.db", "registry_keys", "generation")
        self.all_keys = [self.unwrap(row) for row in [*self.earlier, registry]]
        self.key = self.all_keys[-1]
        self.keys = table(state / "dekhand.db", "encryption_keys")
        self.tenants = table(state / "dekhand.db", "tenants")
        self.log = table(state / "dekhand.db", "key_rotation_log")
        self.seals = table(state / "dekhand.db", "seals", "n")

    def unwrap(self, row):
        context = dk1.registry_key_context(self.uuid, row["context_timestamp"])
        return dk1.local_unwrap(self.master_keys, row["kms_key_id"], row["encrypted_data_key"], context)

    def key_of_seal(self, n):
        """By the hand-overs in the seals before it."""
        handed = [seal for seal in self.seals if seal["n"] < n and dk1.hand_over(seal["heads"])]
        return self.all_keys[min(len(handed), len(self.all_keys) - 1)]

    def log_keys(self):
        """{mac of a log row: the key of the seal that has it}."""
        return {mac: self.key_of_seal(seal["n"]) for seal in self.seals
                for _, _, mac in dk1.parse_heads(seal["heads"]) if mac}

    def row_mac(self, name, row):
        return dk1.row_mac(self.key, self.uuid, name, row)

    def data_key(self, row):
        context = dk1.data_key_context(row["tenant_id"], row["context_timestamp"])
        return dk1.local_unwrap(self.master_keys, row["kms_key_id"], row["encrypted_data_key"], context)

    def chains(self):
        """{chain: its rows in order}."""
        chains = {}
        for row in self.log:
            chains.setdefault(dk1.log_chain(row), []).append(row)
        return chains

    def pruned(self):
        """(seal, its hash) of the row `prune` that goes furthest and has the right MAC; or (0, None)."""
        details = [row["detail"].split(" ") for row in self.log if row["operation"] == "prune"
                   and any(dk1.log_mac(key, self.uuid, row) == row["mac"] for key in self.all_keys)]
        return max(((int(words[1]), words[2]) for words in details), default=(0, None))

    def pruned_heads(self):
        """{chain: its heads, in order, whose rows may be gone}."""
        heads = {}
        for seal in self.seals[:self.pruned()[0]]:
            for chain, _, mac in dk1.parse_heads(seal["heads"]):
                heads.setdefault(chain, []).append(mac)
        return heads

    def heads(self):
        """All lines of all seals, in order."""
        return [head for seal in self.seals for head in dk1.parse_heads(seal["heads"])]


# ---- what must hold ------------------------------------------------------------------------------

def wrong_keys(registry):
    for row in registry.keys:
        name = f"version {row['version']} of {row['tenant_id']}"
        if registry.row_mac("encryption_keys", row) != row["row_mac"]:
            yield f"{name}: row_mac"
        elif dk1.check_value(registry.data_key(row)) != row["check_value"]:
            yield f"{name}: check_value"


def wrong_tenants(registry):
    chains = registry.chains()
    for row in registry.tenants:
        name = row["tenant_id"]
        macs = [(key["version"], key["row_mac"]) for key in registry.keys if key["tenant_id"] == name]
        rows = chains.get(("tenant", name), [])
        if registry.row_mac("tenants", row) != row["row_mac"]:
            yield f"{name}: row_mac"
        if dk1.keys_digest(macs) != row["keys_digest"]:
            yield f"{name}: keys_digest"
        gone = registry.pruned_heads().get(("tenant", name), [None])
        if row["log_head"] != (rows[-1]["mac"] if rows else gone[-1]):
            yield f"{name}: log_head"


def wrong_hand_overs(registry):
    """Each earlier key's last seal names the next one's pin."""
    if [row["generation"] for row in registry.earlier] != list(range(1, registry.generation)):
        yield "registry_keys: generations"
    said = [(seal["n"], *dk1.hand_over(seal["heads"])) for seal in registry.seals
            if dk1.hand_over(seal["heads"])]
    want = [(row["last_seal"], n + 2, dk1.registry_subkeys(registry.all_keys[n + 1])["pin"].hex())
            for n, row in enumerate(registry.earlier)]
    if said != want:
        yield f"the seals hand over {said}, not {want}"


def wrong_log(registry):
    keys = registry.log_keys()
    for chain, rows in registry.chains().items():
        prev = registry.pruned_heads().get(chain, [None])[-1]
        for row in rows:
            key = keys.get(row["mac"], registry.all_keys[0])
            if dk1.log_mac(key, registry.uuid, row) != row["mac"]:
                yield f"{chain}, row {row['id']}: mac"
            if row["prev"] != prev:
                yield f"{chain}, row {row['id']}: prev"
            prev = row["mac"]


def wrong_seals(registry):
    prev = None
    for n, row in enumerate(registry.seals, 1):
        if row["n"] != n:
            yield f"seal {row['n']}: expected {n}"
        if dk1.seal_mac(registry.key_of_seal(n), registry.uuid, row) != row["mac"]:
            yield f"seal {n}: mac"
        if row["prev"] != prev:
            yield f"seal {n}: prev"
        prev = dk1.seal_hash(row["mac"])
        if n == registry.pruned()[0] and prev != registry.pruned()[1]:
            yield f"seal {n}: the log was pruned up to another"


def wrong_heads(registry, before):
    """`before` are the ids of rows that are older than the chains."""
    heads, chains, gone = registry.heads(), registry.chains(), registry.pruned_heads()
    last = {chain: (epoch, mac) for chain, epoch, mac in heads}
    want = {chain: (None, rows[-1]["mac"]) for chain, rows in chains.items() if chain[0] == "process"}
    for chain in set(gone) - set(chains):
        want.update({chain: (None, gone[chain][-1])} if chain[0] == "process" else {})
    for row in registry.tenants:
        want["tenant", row["tenant_id"]] = row["epoch"], row["log_head"]
    if last != want:
        yield f"the last heads are {last}, not {want}"
    for chain, rows in chains.items():
        lines = [mac for name, _, mac in heads if name == chain and mac is not None]
        lines = lines[len([mac for mac in gone.get(chain, []) if mac]):]
        if len(set(lines)) != len(lines) or [r["mac"] for r in rows if r["mac"] in lines] != lines:
            yield f"{chain}: the seals have heads {lines}"
        missing = [r["id"] for r in rows if r["mac"] not in lines and r["id"] not in before]
        if missing:
            yield f"{chain}: in no seal {missing}"


def findings(state, before=()):
    registry = Registry(state)
    return [*wrong_keys(registry), *wrong_tenants(registry), *wrong_log(registry),
            *wrong_seals(registry), *wrong_heads(registry, before), *wrong_hand_overs(registry)]


# ---- the registry of the program -----------------------------------------------------------------

CSV = ("--csv", "--columns", "v", "--tenant-column", "t")


@pytest.fixture
def used(cli):
    """Two tenants, rotations, an export, unwraps of one key and of several."""
    values = {tenant: cli.ok("encrypt", "--tenant", tenant, stdin=b"x") for tenant in ("acme", UUID_TENANT)}
    cli.ok("rotate", "--tenant", "acme")
    cli.ok("rotate", "--all")
    cli.ok("rotate", "--tenant", "acme", "--compromised")
    cli.ok("keys", "export", "--tenant", "acme", "--version", 1, "--allow-key-export")
    for tenant, value in values.items():
        assert cli.ok("decrypt", "--tenant", tenant, stdin=value) == b"x"
    rows = "".join(f"{tenant},y\n" for tenant in ("acme", "globex", "Acme.EU:shop_1-A"))
    sealed = cli.ok("encrypt", *CSV, stdin=b"t,v\n" + rows.encode())
    assert cli.ok("decrypt", *CSV, stdin=sealed) == b"t,v\n" + rows.encode()
    return cli


def test_new_registry_has_one_seal_without_heads(fresh):
    pin = fresh.json("init", schema="init")["registryPin"]
    registry = Registry(fresh.state)
    assert findings(fresh.state) == []
    assert dk1.registry_subkeys(registry.key)["pin"].hex() == pin
    assert [(seal["n"], seal["heads"], seal["prev"]) for seal in registry.seals] == [(1, "", None)]


def test_every_row_chain_seal_and_digest_is_right(used):
    assert findings(used.state) == []
    registry = Registry(used.state)
    assert {row["operation"] for row in registry.log} == {"create", "rotate", "compromise", "export",
                                                          "decrypt"}
    acme = registry.chains()["tenant", "acme"]
    assert [row["operation"] for row in acme] == ["create", "rotate", "rotate", "compromise", "export"]
    assert ("tenant", UUID_TENANT.lower()) in registry.chains()
    assert len(registry.seals) > 10


def test_a_rekeyed_registry_is_right_under_all_of_its_keys(used):
    first = Registry(used.state).key
    for generation in (2, 3):
        used.ok("registry", "rekey")
        assert findings(used.state) == []
        used.ok("rotate", "--tenant", "acme")
        registry = Registry(used.state)
        assert registry.generation == generation and len(registry.earlier) == generation - 1
    assert findings(used.state) == []
    assert registry.all_keys[0] == first and len(set(registry.all_keys)) == 3
    assert [seal["heads"].split("\n")[-2] for seal in registry.seals
            if "rekeyed" in seal["heads"]] == ["rekeyed 2", "rekeyed 3"]
    for table_name, statement in (
            ("registry_keys", "UPDATE registry_keys SET last_seal = last_seal + 1 WHERE generation = 1"),
            ("seals", "UPDATE seals SET heads = replace(heads, 'rekey 2 ', 'rekey 3 ')")):
        edit(used.database, statement)
        assert findings(used.state), table_name


def test_R28_a_pruned_log_is_right_by_its_proof(used):
    for _ in range(2):
        used.ok("audit", "prune", "--before", now())
        assert [row["operation"] for row in Registry(used.state).log] == ["prune"]
        assert findings(used.state) == []
        used.ok("rotate", "--tenant", "acme")
        used.ok("encrypt", "--tenant", "acme", stdin=b"x")
        assert findings(used.state) == []
    used.ok("registry", "rekey")
    used.ok("audit", "prune", "--before", now())
    assert findings(used.state) == []
    edit(used.database, "UPDATE key_rotation_log SET detail = replace(detail, 'seal ', 'seal 1')")
    assert findings(used.state)


def test_unwraps_are_chained_by_process_and_name_their_keys(used):
    unwraps = {chain: rows for chain, rows in Registry(used.state).chains().items()
               if chain[0] == "process"}
    assert len(unwraps) > 5
    several = [row for rows in unwraps.values() for row in rows if row["tenant_id"] == "*"]
    assert several and all(row["from_version"] is None for row in several)
    assert any(set(row["detail"].split(" ")) == {"acme:4", "globex:1", "Acme.EU:shop_1-A:1"}
               for row in several)
    for rows in unwraps.values():
        for row in rows:
            assert row["tenant_id"] == "*" or (row["from_version"] and row["detail"] is None)


def test_values_of_the_program_open_with_the_keys_of_the_registry(used):
    value = used.ok("encrypt", "--tenant", "acme", "--context", "a=b", stdin=b"plain").rstrip(b"\n")
    registry = Registry(used.state)
    [key] = [registry.data_key(row) for row in registry.keys
             if (row["tenant_id"], row["version"]) == ("acme", dk1.parse(value)[0])]
    assert dk1.decrypt(key, "acme", value, [("a", "b")]) == b"plain"


# ---- a registry that somebody changed ------------------------------------------------------------

def edit(database, *statements):
    """Writes past the triggers, which are there again afterwards."""
    with closing(sqlite3.connect(database)) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        changed = [db.execute(*(s if isinstance(s, tuple) else (s,))).rowcount for s in statements]
        for _, sql in triggers:
            db.execute(sql)
        db.commit()
    return changed


A_KEY = "WHERE tenant_id = 'acme' AND version = 2"
A_ROW = "WHERE tenant_id = 'acme' AND operation = 'compromise'"
AN_UNWRAP = "WHERE operation = 'decrypt' AND tenant_id = '*'"
OTHER = "'B' || substr(%s, 2)"

EDITS = [
    *(f"UPDATE encryption_keys SET {change} {A_KEY}" for change in (
        "state = 'disabled'", "created_at = replace(created_at, 'T', ' ')", "compromised_at = created_at",
        "row_mac = " + OTHER % "row_mac", "version = 77")),
    f"DELETE FROM encryption_keys {A_KEY}",
    *(f"UPDATE tenants SET {change} WHERE tenant_id = 'acme'" for change in (
        "epoch = epoch + 1", "next_version = 9", "rotation_days = 1", "log_head = NULL", "keys_digest = NULL",
        "keys_digest = " + OTHER % "keys_digest", "log_head = " + OTHER % "log_head")),
    *(f"UPDATE key_rotation_log SET {change} {A_ROW}" for change in (
        "id = '" + "0" * 36 + "'", "operation = 'rotate'", "from_version = NULL", "to_version = 9",
        "success = 0", "error_message = 'x'", "error_message = ''", "performed_at = '" + "0" * 27 + "'",
        "performed_by = 'x'", "node = NULL", "detail = NULL", "prev = NULL", "mac = " + OTHER % "mac")),
    *(f"UPDATE key_rotation_log SET {change} {AN_UNWRAP}" for change in (
        "detail = detail || ' acme:9'", "tenant_id = 'acme'", "node = 'db/0123456789abcdef'")),
    f"DELETE FROM key_rotation_log {A_ROW}", f"DELETE FROM key_rotation_log {AN_UNWRAP}",
    *(f"UPDATE seals SET {change}" for change in (
        "n = 1000 WHERE n = 3", "at = '" + "0" * 27 + "' WHERE n = 2", "heads = '' WHERE n = 2",
        "prev = NULL WHERE n = 2", "mac = " + OTHER % "mac" + " WHERE n = 4")),
    "DELETE FROM seals WHERE n = 1", "DELETE FROM seals WHERE n = 5",
    "DELETE FROM seals WHERE n = (SELECT max(n) FROM seals)",
]


def test_each_change_by_another_is_found(used, tmp_path):
    for i, statement in enumerate(EDITS):
        state = tmp_path / str(i)
        shutil.copytree(used.state, state)
        [changed] = edit(state / "dekhand.db", "PRAGMA ignore_check_constraints = 1", statement)[1:]
        assert changed > 0, statement
        assert findings(state), statement
    assert findings(used.state) == []


# ---- a registry from before the chains -----------------------------------------------------------

def take_the_chains_out(cli):
    """As a registry was before it had them; the ids of its log rows."""
    registry = Registry(cli.state)
    statements = ["DELETE FROM seals", "DELETE FROM key_rotation_log WHERE operation = 'decrypt'",
                  "UPDATE key_rotation_log SET prev = NULL, mac = NULL",
                  "DELETE FROM key_rotation_log WHERE tenant_id = 'globex'"]
    for row in registry.tenants:
        row.update(log_head=None, keys_digest=None)
        statements.append(("UPDATE tenants SET log_head = NULL, keys_digest = NULL, row_mac = ? "
                           "WHERE tenant_id = ?",
                           (registry.row_mac("tenants", row), row["tenant_id"])))
    edit(cli.database, *statements)
    (cli.state / "anchor").unlink(missing_ok=True)
    return {row["id"] for row in registry.log}


def test_init_chains_and_seals_a_registry_from_before(used):
    before = take_the_chains_out(used)
    used.ok("init")
    assert findings(used.state, before) == []
    registry = Registry(used.state)
    assert len(registry.seals) == 2 and registry.seals[-1]["heads"] == ""
    assert (("tenant", "globex"), 1, None) in registry.heads()
    used.ok("rotate", "--all")
    used.ok("init")
    assert findings(used.state, before) == []
    used.ok("audit", "prune", "--before", now())
    assert {row["id"] for row in Registry(used.state).log}.isdisjoint(before)
    used.ok("rotate", "--all")
    used.ok("audit", "verify")
    assert findings(used.state, before) == []
