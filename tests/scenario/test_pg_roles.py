"""Who may do what on PostgreSQL: each cell of the table, and under which role dekhand works."""

import re
import subprocess
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import cache

import pytest

from cli_tool import ROOT, Cli
from servers import PgBouncer, Postgres, psql

pytestmark = pytest.mark.release

# ---- the table ------------------------------------------------------------------------------------
#
# S I U D T E: SELECT, INSERT, UPDATE, DELETE, TRUNCATE, EXECUTE. A letter alone: of all rows. `own`:
# of the rows of the own tenant; `none`: it is allowed, and no row is seen; `!`: allowed, and a
# trigger refuses; `raises`: dekhand.tenant is not set. What is not named is denied.
#
# docs/SECURITY.md has it too; test_the_page_has_this_table says what to put there.

NOBODY = ("anon", "service_role", "dekhand_worker", "a login")
COLUMNS = ("dekhand_rw, a tenant", "dekhand_rw, all", "dekhand_rw, unset", "owner", "authenticated",
           "anybody else")
SCOPED = ("S own, I own, U own", "S, I, U", "S raises, I raises, U raises")
OWNER = "S none, U none, D none, T!"
TABLE = {
    "registry": ("S, I, U",) * 3 + (OWNER, "", ""),
    "registry_keys": ("S, I",) * 3 + (OWNER, "", ""),
    "registry_wraps": ("S, I, U, D",) * 3 + ("S none, U none, D none, T", "", ""),
    "wraps": ("S own, I own, U own, D own", "S, I, U, D",
              "S raises, I raises, U raises, D raises", "S none, U none, D none, T", "", ""),
    "tenants": SCOPED + (OWNER, "", ""),
    "encryption_keys": SCOPED + (OWNER, "S own", ""),
    "key_rotation_log": ("S own, I own, U!, D!", "S, I, U!, D!",
                         "S raises, I raises, U raises, D raises", OWNER, "", ""),
    "seals": ("S, I",) * 3 + (OWNER, "", ""),
    "leases": ("S, I, U",) * 3 + ("S none, U none, D none, T", "", ""),
    "nodes": ("S, I, U, D",) * 3 + ("S none, U none, D none, T", "", ""),
    "key_counts": ("S, I, U",) * 3 + ("S none, U none, D none, T", "", ""),
    "key_count_deltas": ("S, I, D",) * 3 + ("S none, U none, D none, T", "", ""),
    "call_counts": ("S, I, U",) * 3 + ("S none, U none, D none, T", "", ""),
    "key_rotation_log_rest": ("", "", "", OWNER, "", ""),
    "key_rotation_health": ("S own", "S", "S raises", "S none, U none, D none", "", ""),
    "owner_keys": ("", "", "", "S none, U none, D none", "S own", ""),
    "current_tenant()": ("E", "E raises", "E raises", "E raises", "", ""),
    "owner_tenant()": ("", "", "", "E", "E", ""),
    "count_bucket(now())": ("E",) * 4 + ("", ""),
    "keep_log_months(0)": ("", "", "", "E", "", ""),
    "trigger functions": ("", "", "", "E", "", ""),
}
TRIGGER_FUNCTIONS = ("refuse()", "registry_changes()", "registry_moves()", "tenants_change()",
                     "encryption_keys_change()", "key_rotation_log_change()",
                     "count_new_keys()", "count_changed_key()")
# What `authenticated` may read of encryption_keys, and no other column.
SEEN = "tenant_id, version, state, is_active, created_at, expires_at, rotated_at"


def rendered():
    """The table as docs/SECURITY.md has it."""
    rows = [("", *COLUMNS), ("---",) * (len(COLUMNS) + 1)]
    rows += [(name, *(cell or "no" for cell in cells)) for name, cells in TABLE.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows).replace("|  |", "| |") + "\n"


def test_the_page_has_this_table():
    page = (ROOT / "docs" / "SECURITY.md").read_text()
    assert rendered() in page, f"docs/SECURITY.md wants this table:\n{rendered()}"


# ---- a registry with something in every table -----------------------------------------------------

@pytest.fixture(scope="module")
def server():
    """Every statement stands in its log."""
    with Postgres.started("log_statement = all\nlog_line_prefix = '%p %u %d|'\n") as found:
        found.psql("CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;"
                   "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE maker LOGIN")
        yield found


class Registry:
    def __init__(self, server, folder, name):
        self.server = server
        self.name = name
        server.psql(f"CREATE DATABASE {name} TEMPLATE template0")
        self.cli = Cli(folder)
        self.cli.env["DATABASE_URL"] = server.url(name)
        self.cli.ok("migrate")
        server.psql("GRANT dekhand_rw TO app; GRANT dekhand_admin, dekhand_rw TO maker")

    def sql(self, text, user="dek"):
        return self.server.psql(text, self.name, user)

    def number(self, text):
        return int(self.sql(text))

    def counts(self, tenant):
        """{table: (rows of all, rows of this tenant or -1)}."""
        names = [name for name in TABLE if "(" not in name and " " not in name]
        of_tenants = [name for name in names if "tenant_id" in self.columns(name)]
        told = self.sql("".join(
            f"SELECT '{name}', count(*), " + (f"count(*) FILTER (WHERE tenant_id = '{tenant}')"
                                              if tenant and name in of_tenants else "-1")
            + f" FROM dekhand.{name};" for name in names))
        return {name: (int(of_all), int(mine))
                for name, of_all, mine in (line.split("|") for line in told.splitlines())}

    @cache
    def columns(self, name):
        return self.sql("SELECT column_name FROM information_schema.columns WHERE table_schema = "
                        f"'dekhand' AND table_name = '{name}'").split()


@pytest.fixture(scope="module")
def registry(server, tmp_path_factory):
    found = Registry(server, tmp_path_factory.mktemp("roles"), "cells")
    cli = found.cli
    cli.ok("init")
    for tenant in ("acme", "acme", "acme", "globex"):
        cli.ok("encrypt", "--tenant", tenant, stdin=b"x")
    cli.ok("rotate", "--tenant", "acme")
    cli.ok("rotate", "--tenant", "acme")
    cli.ok("registry", "rekey")
    found.sql("INSERT INTO dekhand.key_counts VALUES (now(), 0, 0); INSERT INTO "
              "dekhand.key_count_deltas VALUES (now(), 0, 0); INSERT INTO dekhand.nodes VALUES "
              "('n1', '1', now(), now()), ('n2', '1', now(), now()) ON CONFLICT DO NOTHING; INSERT INTO dekhand.leases VALUES ('l1', 'x', 1, "
              "now()), ('l2', 'x', 1, now()) ON CONFLICT DO NOTHING")
    found.sql("INSERT INTO dekhand.registry_wraps VALUES (1, 'p1', 'k', 'e', 't'), (1, 'p2', 'k', "
              "'e', 't'); INSERT INTO dekhand.wraps SELECT tenant_id, version, 'p', 'k', 'e', 't', "
              "now(), 'm' FROM dekhand.encryption_keys")
    found.sql("INSERT INTO dekhand.call_counts VALUES ('2026-01-01', 'p', 'o', 1, 0)")
    # Before all months: where rows stand that no month has a table for.
    found.sql("INSERT INTO dekhand.key_rotation_log (id, tenant_id, operation, performed_at) VALUES "
              "(gen_random_uuid(), 'acme', 'x', '1999-01-01Z')")
    for table in TABLE:
        if "(" not in table and " " not in table:
            assert found.number(f"SELECT count(*) FROM dekhand.{table}") > 0, table
    return found


# ---- each cell ------------------------------------------------------------------------------------

def session(role, tenant=None, **settings):
    """Who runs the probes, and whose rows are their own."""
    login = {"owner": "dekhand_admin", "a login": "other"}.get(role, role)
    lines = [f"SET SESSION AUTHORIZATION {login};"]
    lines += [f"SELECT set_config('{name.replace('__', '.')}', $${value}$$, false);"
              for name, value in settings.items()]
    return "".join(lines), tenant


def claims(tenant):
    return {"request__jwt__claims": f'{{"app_metadata": {{"tenant_id": "{tenant}"}}}}'}


ACTORS = {
    "rw acme": ("dekhand_rw, a tenant", session("dekhand_rw", "acme", dekhand__tenant="acme")),
    "rw globex": ("dekhand_rw, a tenant", session("dekhand_rw", "globex", dekhand__tenant="globex",
                                                  dekhand__scope="")),
    "rw all": ("dekhand_rw, all", session("dekhand_rw", dekhand__scope="all")),
    "rw unset": ("dekhand_rw, unset", session("dekhand_rw")),
    "rw emptied": ("dekhand_rw, unset", session("dekhand_rw", dekhand__tenant="",
                                                dekhand__scope="")),
    "owner": ("owner", session("owner")),
    "owner, all": ("owner", session("owner", dekhand__scope="all")),
    "authenticated acme": ("authenticated", session("authenticated", "acme", **claims("acme"))),
    "authenticated globex": ("authenticated", session("authenticated", "globex",
                                                      **claims("globex"))),
    # What sets dekhand_rw free does nothing for others.
    **{name: ("anybody else", session(name, "acme", dekhand__scope="all", dekhand__tenant="acme",
                                      **claims("acme"))) for name in NOBODY},
}

CHANGES = {"registry": "created_at = now()", "registry_keys": "last_seal = 9",
           "tenants": "rotation_days = 5", "encryption_keys": "row_mac = 'x'",
           "wraps": "row_mac = 'x'", "registry_wraps": "kms_key_id = 'x'",
           "key_rotation_log": "mac = 'x'", "key_rotation_log_rest": "mac = 'x'", "seals": "mac = 'x'", "leases": "until = now()",
           "nodes": "seen_at = now()", "key_counts": "total = 0", "key_count_deltas": "total = 0",
           "call_counts": "calls = 7", "key_rotation_health": "created_at = now()",
           "owner_keys": "created_at = now()"}
TIMES = "'2026-01-01Z', '2027-01-01Z'"


def inserts(table):
    """A row of acme, and one of globex."""
    rows = {
        "registry": "VALUES (1, gen_random_uuid(), 1, now())",
        "registry_keys": "VALUES (77, 'p', 'k', 'e', 't', 1)",
        "registry_wraps": "VALUES (77, 'p', 'k', 'e', 't')",
        "wraps": "VALUES ('{t}', 77, 'p', 'k', 'e', 't', now(), 'm')",
        "tenants": "VALUES ('{t}', 1, 1, NULL, '1', 'm')",
        "encryption_keys": "(id, tenant_id, kms_key_id, encrypted_data_key, version, created_at, "
                           "expires_at, state, provider, context_timestamp, check_value, row_mac) "
                           f"VALUES ('{{u}}', '{{t}}', 'k', 'e', 77, {TIMES}, 'retired', 'p', 't',"
                           " sha256('{u}'), 'm')",
        "key_rotation_log": "(id, tenant_id, operation, performed_at) VALUES ('{u}', '{t}', 'x', "
                            "now())",
        "key_rotation_log_rest": "(id, tenant_id, operation, performed_at) VALUES ('{u}', '{t}', "
                                 "'x', '1999-01-01Z')",
        "seals": "VALUES (7777, now(), '', '', 'm', pg_current_snapshot(), '')",
        "leases": "VALUES ('new', 'x', 1, now())",
        "nodes": "VALUES ('new', '1', now(), now())",
        "key_counts": "VALUES (now(), 1, 1)",
        "key_count_deltas": "VALUES (now(), 1, 1)",
        "call_counts": "VALUES ('2026-01-02', 'p', 'o', 1, 0)",
        "key_rotation_health": "(tenant_id) VALUES ('{t}')",
        "owner_keys": "(tenant_id) VALUES ('{t}')",
    }
    return [f"INSERT INTO {table} {rows[table].format(t=tenant, u=uuid.uuid4())}"
            for tenant in ("acme", "globex")]


def probes():
    """(object, letter, statement); of INSERT there are two."""
    for name in (*TABLE, *TRIGGER_FUNCTIONS):
        if name.endswith(")"):
            yield name, "E", f"SELECT {name}"
        elif name != "trigger functions":
            yield name, "S", f"SELECT {1} FROM {name}"
            for statement in inserts(name):
                yield name, "I", statement
            yield name, "U", f"UPDATE {name} SET {CHANGES[name]}"
            yield name, "D", f"DELETE FROM {name}"
            if name not in ("key_rotation_health", "owner_keys"):
                yield name, "T", f"TRUNCATE {name}"


def outcome(state, rows, message, mine, everything):
    """A probe's end in the table's words; None: denied."""
    if state == "42501":
        return "raises" if "dekhand.tenant is not set" in message else None
    if state == "23000":
        return "!"
    if state in ("00000", "23505", "0A000"):  # a row of that key, a trigger called as a function
        return {everything: "", mine: "own", 0: "none"}[int(rows)] if rows != "" else ""
    raise AssertionError(f"{state}: {message}")


def run_probes(registry, begin):
    """[(object, letter, sqlstate, rows, message)] of one actor; nothing of it stays."""
    lines = ["\\set ON_ERROR_STOP 0", "\\set VERBOSITY terse", begin, "\\o /dev/null"]
    for name, letter, statement in probes():
        lines += ["BEGIN;", "SET LOCAL search_path = dekhand;", statement + ";",
                  f"\\if :ERROR\n\\echo >> '{name}|{letter}|':SQLSTATE'||':LAST_ERROR_MESSAGE\n"
                  f"\\else\n\\echo >> '{name}|{letter}|':SQLSTATE'|':ROW_COUNT'|'\n\\endif",
                  "ROLLBACK;"]
    told = registry.sql("\n".join(lines) + "\n")
    return [line[3:].split("|", 4) for line in told.splitlines() if line.startswith(">> ")]


def cells(registry, begin, tenant):
    """{object: the cell's text}."""
    found = defaultdict(dict)
    counts = registry.counts(tenant)
    for name, letter, state, rows, message in run_probes(registry, begin):
        everything, mine = counts.get(name, (-1, -1))
        word = outcome(state, rows if letter in "SUD" else "", message, mine, everything)
        found[name].setdefault(letter, []).append(word)
    return {name: ", ".join(filter(None, (cell(letter, words, tenant)
                                          for letter, words in by_letter.items())))
            for name, by_letter in found.items()}


def cell(letter, words, tenant):
    """Two INSERTs, of acme and of globex, make one word."""
    if words in (["", None], [None, ""]):
        assert tenant == ("acme" if words[0] == "" else "globex")
        return f"{letter} own"
    assert len(set(words)) == 1, words
    word = words[0]
    return None if word is None else letter + word if word in ("", "!") else f"{letter} {word}"


@pytest.mark.parametrize("actor", [name for name in ACTORS if name in NOBODY])
def test_I24_the_schema_is_shut_for_anybody_else(registry, actor):
    states = {state for _, _, state, _, _ in run_probes(registry, ACTORS[actor][1][0])}
    assert states == {"42P01", "42883"}  # it has no such names for them
    assert not registry.sql("SELECT rolname FROM pg_roles WHERE has_schema_privilege(oid, "
                            "'dekhand', 'CREATE') AND rolname NOT IN ('dek', 'dekhand_admin', "
                            "'maker', 'pg_database_owner')")


@pytest.mark.parametrize("actor", ACTORS)
def test_I24_I25_each_cell_of_the_table(registry, actor, request):
    column, (begin, tenant) = ACTORS[actor]
    if actor in NOBODY:  # and if somebody opened the schema?
        role = "other" if actor == "a login" else actor
        registry.sql(f"GRANT USAGE ON SCHEMA dekhand TO {role}")
        request.addfinalizer(lambda: registry.sql(f"REVOKE USAGE ON SCHEMA dekhand FROM {role}"))
    wanted = {name: row[COLUMNS.index(column)] for name, row in TABLE.items()}
    triggers = wanted.pop("trigger functions")
    wanted.update({name: triggers for name in TRIGGER_FUNCTIONS})
    found = cells(registry, begin, tenant)
    assert found == wanted


def test_the_table_names_every_object_of_the_schema(registry):
    there = set(registry.sql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'dekhand'::regnamespace AND relkind IN "
        "('r', 'p', 'v', 'm', 'f') UNION SELECT proname || '()' FROM pg_proc WHERE pronamespace = "
        "'dekhand'::regnamespace").splitlines())
    months = {name for name in there if re.fullmatch(r"key_rotation_log_\d{4}_\d\d", name)}
    assert len(months) == 4  # each as key_rotation_log_rest
    there -= months
    names = {re.sub(r"\(.*", "()", name) for name in TABLE}
    assert there == {*names, *TRIGGER_FUNCTIONS} - {"trigger functions"}
    assert registry.number("SELECT count(*) FROM pg_proc WHERE pronamespace = "
                           "'dekhand'::regnamespace AND prosecdef") == 0
    assert registry.number("SELECT count(*) FROM pg_class WHERE relnamespace = "
                           "'dekhand'::regnamespace AND relkind = 'r' AND NOT (relrowsecurity AND "
                           "relforcerowsecurity)") == 0


def test_R13_clears_are_counted_by_the_log_and_not_taken_back(registry):
    """By whoever writes the row; one that is rolled back counts nothing."""
    as_rw = ("SET SESSION AUTHORIZATION dekhand_rw; BEGIN; SET LOCAL search_path = dekhand; "
             "SET LOCAL dekhand.scope = 'all';")
    row = ("INSERT INTO key_rotation_log (id, tenant_id, operation, performed_at) VALUES "
           "(gen_random_uuid(), '{}', '{}', now());")
    count = "SELECT clears FROM registry;"

    def told(*statements):
        return [int(line) for line in registry.sql(as_rw + "".join(statements)).splitlines()]

    was = told(count)[0]
    registry.cli.ok("cache", "clear")
    assert told(count, row.format("*", "cache-clear"), count,
                row.format("acme", "cache-clear"), row.format("*", "decrypt"), count,
                "ROLLBACK;") == [was + 1, was + 2, was + 2]
    assert told("UPDATE registry SET clears = clears + 1;", count, "ROLLBACK;") == [was + 2]
    for less in ("clears - 1", "0", "-1", "NULL"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            told(f"UPDATE registry SET clears = {less}; COMMIT")
        assert "what was counted stays" in error.value.stderr or "null value" in error.value.stderr
    assert told(count) == [was + 1]


# ---- an owner's view ------------------------------------------------------------------------------

def as_authenticated(registry, json, text):
    return registry.sql("SET SESSION AUTHORIZATION authenticated; BEGIN; "
                        f"SELECT FROM set_config('request.jwt.claims', $${json}$$, true); {text}")


def test_an_owner_sees_metadata_of_the_own_keys_alone(registry):
    json = '{"app_metadata": {"tenant_id": "acme"}, "user_metadata": {"tenant_id": "globex"}}'
    assert as_authenticated(registry, json, "SELECT tenant_id, version, state FROM "
                            "dekhand.owner_keys ORDER BY version") == (
        "acme|1|retired\nacme|2|retired\nacme|3|active")
    assert as_authenticated(registry, json, f"SELECT count(*) FROM (SELECT {SEEN} FROM "
                            "dekhand.encryption_keys) k") == "3"


@pytest.mark.parametrize("json", ["", "{}", '{"app_metadata": {}}', '{"app_metadata": null}',
                                  '{"tenant_id": "acme"}',
                                  '{"user_metadata": {"tenant_id": "acme"}}',
                                  '{"app_metadata": {"tenant_id": ["acme"]}}',
                                  '{"app_metadata": {"tenant_id": "ACME"}}',
                                  '{"app_metadata": {"tenant_id": "%"}}'])
def test_a_user_without_a_tenant_of_the_app_sees_nothing(registry, json):
    assert as_authenticated(registry, json, "SELECT count(*) FROM dekhand.owner_keys") == "0"


def test_a_tenant_that_is_a_uuid_may_be_in_either_case(registry):
    name = str(uuid.uuid4())
    registry.cli.ok("encrypt", "--tenant", name, stdin=b"x")
    json = f'{{"app_metadata": {{"tenant_id": "{name.upper()}"}}}}'
    assert as_authenticated(registry, json, "SELECT tenant_id FROM dekhand.owner_keys") == name


def test_an_owner_reads_no_wrapped_key_check_value_or_mac(registry):
    seen = set(SEEN.split(", "))
    hidden = set(registry.columns("encryption_keys")) - seen
    assert {"encrypted_data_key", "check_value", "row_mac", "context_timestamp",
            "kms_key_id"} < hidden
    assert set(registry.columns("owner_keys")) == seen
    for role in ("authenticated", "anon", "service_role"):
        told = registry.sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'dekhand.encryption_keys'::regclass "
            f"AND attnum > 0 AND has_column_privilege('{role}', attrelid, attnum, 'SELECT')")
        assert set(told.split()) == (seen if role == "authenticated" else set())


def test_what_is_made_later_is_nobodys_either(registry):
    registry.sql("SET ROLE dekhand_admin; CREATE TABLE dekhand.later (a integer);"
                 "CREATE FUNCTION dekhand.later() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    try:
        assert registry.sql(
            "SELECT bool_or(has_table_privilege(rolname, 'dekhand.later', 'SELECT') OR "
            "has_function_privilege(rolname, 'dekhand.later()', 'EXECUTE')) FROM pg_roles WHERE "
            "rolname IN ('anon', 'authenticated', 'service_role', 'dekhand_worker', 'other')"
        ) == "f"
    finally:
        registry.sql("DROP TABLE dekhand.later; DROP FUNCTION dekhand.later()")


# ---- under which role dekhand works ---------------------------------------------------------------

def use_everything(cli, copy):
    """All of dekhand's work. `copy` makes an older copy of the database, and names it by URL."""
    value = cli.ok("encrypt", "--tenant", "acme", stdin=b"one")
    cli.ok("encrypt", "--tenant", "globex", stdin=b"two")
    cli.ok("rotate", "--tenant", "acme")
    cli.ok("keys", "disable", "--tenant", "acme", "--version", 1)
    cli.fails(1, "decrypt", "--tenant", "acme", stdin=value)
    cli.ok("keys", "enable", "--tenant", "acme", "--version", 1)
    cli.ok("tenants", "set", "--tenant", "acme", "--rotation-days", 30)
    cli.ok("keys", "export", "--tenant", "acme", "--version", 1, "--allow-key-export")
    cli.ok("registry", "rekey")
    found = cli.json("registry", "show", schema="registry-show")
    older = copy()
    cli.ok("rotate", "--all", "--compromised")
    time.sleep(1)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert cli.json("audit", "prune", "--before", now, schema="audit-prune")["rows"] > 5
    cli.ok("cache", "clear")
    cli.ok("keys", "list")
    cli.ok("audit", "export")
    cli.ok("audit", "verify")
    cli.ok("health")
    assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == b"one"
    # A copy of before the last rotations: nothing is encrypted until somebody takes it as it is.
    env = {"DATABASE_URL": older}
    assert "E_ROLLBACK" in cli.fails(1, "encrypt", "--tenant", "acme", stdin=b"x", env=env)
    cli.ok("registry", "accept-restore", "--confirm", found["registryId"], env=env)
    cli.ok("rotate", "--tenant", "acme", env=env)
    assert cli.ok("decrypt", "--tenant", "acme", stdin=value, env=env) == b"one"


TABLES = [name for name in TABLE if "(" not in name and name not in
          ("key_rotation_health", "owner_keys", "trigger functions")]
NAMES = re.compile(rf"\b(?:{'|'.join(TABLES)}|key_rotation_health)\b")
LINE = re.compile(r"^(\d+) (\S+) (\S+)\|LOG:  (?:statement|execute [^:]*): (.*)$")


def statements(log, user, database):
    """{process of the server: its statements, in order}; pg_migrate's come several in one."""
    found = defaultdict(list)
    for line in log.replace("\n\t", " ").splitlines():
        match = LINE.match(line)
        if match and match.group(2) == user and match.group(3).startswith(database):
            found[match.group(1)] += [part.strip() for part in match.group(4).split(";")
                                      if part.strip()]
    return found


def roles_of(session):
    """The role, or "" for the login, under which each statement about our tables ran."""
    role, used = "", []
    for text in session:
        if text.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            role = ""
        elif match := re.match(r"SET LOCAL ROLE (\w+)", text):
            role = match.group(1).replace("NONE", "")
        elif NAMES.search(text) and "pg_catalog." not in text:
            used.append((role, text))
    return used


@pytest.mark.parametrize("user", ["app", "dek", "maker"])
def test_I24_every_transaction_works_as_dekhand_rw(server, tmp_path, user):
    """A member of dekhand_rw, a superuser, an owner: none of them touches a row as itself."""
    registry = Registry(server, tmp_path, f"work_{user}")
    before = server.log.stat().st_size
    cli = registry.cli
    cli.env["DATABASE_URL"] = server.url(registry.name, user)

    def copy():
        server.psql(f"CREATE DATABASE {registry.name}_copy TEMPLATE {registry.name}")
        return server.url(f"{registry.name}_copy", user)

    cli.ok("init")
    use_everything(cli, copy)
    log = server.log.read_bytes()[before:].decode()
    sessions = statements(log, user, registry.name)
    used = [entry for session in sessions.values() for entry in roles_of(session)]
    assert len(sessions) > 20 and len(used) > 200
    assert {text for role, text in used if role != "dekhand_rw"} == set()


@pytest.mark.parametrize("user", ["app", "dek", "maker"])
def test_I24_every_row_is_written_as_dekhand_rw(server, tmp_path, user):
    """The same asked in the statements themselves."""
    registry = Registry(server, tmp_path, f"rows_{user}")
    registry.sql("CREATE FUNCTION public.who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF "
                 "current_user <> 'dekhand_rw' THEN RAISE EXCEPTION 'as %', current_user; END IF; "
                 "RETURN NULL; END $$;"
                 + "".join(f"CREATE TRIGGER who BEFORE INSERT OR UPDATE OR DELETE ON dekhand.{name} "
                           "EXECUTE FUNCTION public.who();" for name in TABLES))
    registry.cli.env["DATABASE_URL"] = server.url(registry.name, user)
    for command in (("init",), ("encrypt", "--tenant", "acme"), ("rotate", "--all"),
                    ("keys", "disable", "--tenant", "acme", "--version", 1), ("registry", "rekey")):
        registry.cli.ok(*command, stdin=b"x")


def test_I24_the_look_at_roles_sees_what_it_should():
    """What the test above would say of a program that forgets it."""
    good = ["BEGIN", "SET LOCAL ROLE dekhand_rw", "SELECT 1 FROM tenants", "COMMIT"]
    assert roles_of(good) == [("dekhand_rw", "SELECT 1 FROM tenants")]
    assert roles_of(good + ["SELECT 1 FROM tenants"])[-1][0] == ""
    assert roles_of(["BEGIN", "SET LOCAL ROLE dekhand_admin", "DELETE FROM seals"])[0][0] == (
        "dekhand_admin")


def test_I25_after_a_transaction_the_setting_is_empty_and_raises(registry):
    """As it is for the next one behind a pooler."""
    text = registry.sql(
        "\\set ON_ERROR_STOP 0\n\\set VERBOSITY terse\nSET SESSION AUTHORIZATION dekhand_rw;\n"
        "BEGIN; SET LOCAL dekhand.tenant = 'acme'; SELECT count(*) FROM dekhand.tenants; COMMIT;\n"
        "SELECT '<' || current_setting('dekhand.tenant') || '>';\n"
        "SELECT count(*) FROM dekhand.tenants;\n\\echo :LAST_ERROR_MESSAGE\n")
    assert text.splitlines() == ["1", "<>", "dekhand.tenant is not set in this transaction"]


def test_I25_two_tenants_on_one_connection_of_a_pooler(registry):
    """What one transaction said of its tenant is nothing to the next one, whoever's it is."""
    with PgBouncer.started(registry.server, default_pool_size=1) as pool:
        url = pool.url(registry.name, "app")
        rows = "".join(f'{{"t":"{tenant}","v":"{n}"}}\n'
                       for n in range(200) for tenant in ("acme", "globex", f"pooled{n % 50}"))
        args = ("--jsonl", "--fields", "v", "--tenant-column", "t")
        with ThreadPoolExecutor(4) as at_once:
            work = [at_once.submit(registry.cli.ok, "encrypt", *args, stdin=rows.encode(),
                                   env={"DATABASE_URL": url}) for _ in range(4)]
            reads = [at_once.submit(psql, url, "BEGIN; SET LOCAL ROLE dekhand_rw; "
                                    f"SET LOCAL dekhand.tenant = '{tenant}'; SELECT DISTINCT "
                                    "tenant_id FROM dekhand.encryption_keys; COMMIT")
                     for tenant in ("acme", "globex") * 10]
            assert [read.result() for read in reads] == ["acme", "globex"] * 10
            sealed = [done.result() for done in work]
        for values in sealed:
            assert registry.cli.ok("decrypt", *args, stdin=values,
                                   env={"DATABASE_URL": url}) == rows.encode()
        with pytest.raises(subprocess.CalledProcessError) as error:
            psql(url, "BEGIN; SET LOCAL ROLE dekhand_rw; SELECT count(*) FROM dekhand.tenants")
        assert "dekhand.tenant is not set" in error.value.stderr
