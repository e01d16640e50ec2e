"""`dekhand migrate` and `init` on PostgreSQL: who may make what, and what a refusal says."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cli_tool import ROOT, Cli, told
from pg_shop import session
from servers import PgBouncer, Postgres, _environment, binaries, free_port

pytestmark = [pytest.mark.release, pytest.mark.counted]

SCHEMA = len(list((ROOT / "sql" / "postgres").glob("[0-9]*.sql")))
# The harness looks for it in all that is left and printed (tests/harness/canary.py).
CANARY = "dekhand-canary-b2f1c7e6-pw"


@pytest.fixture(scope="module")
def cluster():
    """A server of our own: roles are those of all its databases."""
    with Postgres.started() as found:
        yield found


@pytest.fixture
def server(cluster):
    """The same without databases and roles of the tests before."""
    for name in cluster.psql("SELECT datname FROM pg_database WHERE datname LIKE 'db%'").split():
        cluster.psql(f"DROP DATABASE {name} WITH (FORCE)")
    for name in cluster.psql("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND "
                             "rolname <> 'dek'").split():
        cluster.psql(f"DROP OWNED BY {name}; DROP ROLE {name}")
    cluster.psql("CREATE DATABASE db TEMPLATE template0")
    return cluster


class Place:
    """A database, and dekhand with a folder of its own on it."""

    def __init__(self, server, folder, name="db"):
        self.server = server
        self.name = name
        self.cli = Cli(folder)

    def url(self, user="dek"):
        return self.server.url(self.name, user)

    def sql(self, text, user="dek"):
        return self.server.psql(text, self.name, user)

    def refused(self, text, user):
        with pytest.raises(subprocess.CalledProcessError) as error:
            self.sql(text, user)
        return error.value.stderr

    def migrate(self, user="dek", **more):
        return self.cli.json("migrate", schema="migrate", env={"DATABASE_URL": self.url(user)},
                             **more)

    def as_user(self, user):
        """Arguments for a run by this login."""
        return {"env": {"DATABASE_URL": self.url(user)}}


@pytest.fixture
def place(server, tmp_path):
    return Place(server, tmp_path)


def schemas(place):
    return place.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dekhand%'")


# ---- what is made --------------------------------------------------------------------------------

def test_migrate_makes_everything_but_the_key_and_needs_no_state_folder(place):
    made = place.migrate()
    assert (made["from"], made["to"]) == (0, SCHEMA)
    assert not place.cli.state.exists()
    assert place.sql("SET ROLE dekhand_rw; SELECT registry_uuid, schema_version, "
                     "encrypted_data_key IS NULL FROM dekhand.registry"
                     ) == f"{made['registryId']}|{SCHEMA}|t"
    assert place.sql("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                     "WHERE nspname = 'dekhand' AND relkind IN ('r', 'v') AND relowner <> "
                     "'dekhand_admin'::regrole") == "0"
    assert place.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'dekhand_%' AND NOT "
                     "(rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole)") == "3"


def test_migrate_again_changes_nothing_and_says_so(place):
    first = place.migrate()
    assert place.migrate() == {**first, "from": SCHEMA}
    assert b"already" in place.cli.ok("migrate", **place.as_user("dek"))


def test_init_after_migrate_gives_the_registry_its_key_once(place):
    made = place.migrate()
    first = place.cli.json("init", schema="init", **place.as_user("dek"))
    assert first["madeRegistry"]
    again = place.cli.json("init", schema="init", **place.as_user("dek"))
    assert not again["madeRegistry"] and again["registryPin"] == first["registryPin"]
    assert place.migrate() == {**made, "from": SCHEMA}


def test_init_alone_makes_all_of_it(place):
    assert place.cli.json("init", **place.as_user("dek"))["madeRegistry"]
    assert place.migrate()["from"] == SCHEMA


def test_a_schema_of_another_name_stands_beside(place):
    place.migrate()
    env = {"DATABASE_URL": place.url() + "?dekhand_schema=dekhand_two"}
    other = place.cli.json("migrate", schema="migrate", env=env)
    assert other["from"] == 0 and schemas(place) == "2"
    place.cli.ok("init", env=env)
    place.cli.ok("encrypt", "--tenant", "acme", stdin=b"x", env=env)


def test_a_schema_may_have_the_name_of_a_keyword(place):
    env = {"DATABASE_URL": place.url() + "?dekhand_schema=user"}
    place.cli.ok("init", env=env)
    place.cli.ok("encrypt", "--tenant", "a", stdin=b"a", env=env)


def test_migrate_of_a_sqlite_file_brings_it_up_to_date_and_never_makes_one(tmp_path):
    cli = Cli(tmp_path)
    assert "dekhand init" in cli.fails(2, "migrate")
    assert not cli.database.exists()
    cli.ok("init")
    done = cli.json("migrate", schema="migrate")
    assert done["from"] == done["to"] > 0
    assert done["registryId"] == cli.json("registry", "show")["registryId"]


# ---- logins --------------------------------------------------------------------------------------

def test_a_login_of_dekhand_rw_fills_the_key_and_does_no_ddl(place):
    place.migrate()
    place.sql("CREATE ROLE app LOGIN IN ROLE dekhand_rw;"
              "CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
              "RAISE EXCEPTION 'DDL: %', tg_tag; END $$;"
              "CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()")
    assert place.cli.json("init", **place.as_user("app"))["madeRegistry"]
    assert not place.cli.json("init", **place.as_user("app"))["madeRegistry"]
    assert place.cli.json("migrate", **place.as_user("app"))["from"] == SCHEMA


def old_schema(place):
    """One of before the last migration: what 0001 makes, and the rights on its first row."""
    place.sql("CREATE ROLE dekhand_admin; CREATE ROLE dekhand_rw; CREATE ROLE dekhand_worker;"
              "CREATE SCHEMA dekhand AUTHORIZATION dekhand_admin; SET ROLE dekhand_admin;"
              "GRANT USAGE ON SCHEMA dekhand TO dekhand_rw; SET search_path = dekhand;"
              + (ROOT / "sql" / "postgres" / "0001_registry.sql").read_text()
              + "INSERT INTO registry (id, registry_uuid, schema_version, created_at) VALUES "
                "(1, gen_random_uuid(), 1, now()); GRANT SELECT, INSERT, UPDATE ON registry TO "
                "dekhand_rw")


def test_init_on_an_older_schema_says_run_dekhand_migrate(place):
    old_schema(place)
    place.sql("CREATE ROLE app LOGIN IN ROLE dekhand_rw")
    text = place.cli.fails(2, "init", **place.as_user("app"))
    assert "run `dekhand migrate`" in text and "dekhand_admin" in text
    assert not place.cli.master_key.exists()
    assert place.sql("SELECT schema_version FROM dekhand.registry") == "1"
    assert place.migrate()["from"] == 1
    assert place.cli.json("init", **place.as_user("app"))["madeRegistry"]


def test_init_without_a_schema_says_run_dekhand_migrate(place):
    place.sql("CREATE ROLE app LOGIN")
    assert "run `dekhand migrate`" in place.cli.fails(2, "init", **place.as_user("app"))
    assert not place.cli.master_key.exists() and schemas(place) == "0"


@pytest.mark.parametrize("before", ["nothing", "old_schema"])
def test_init_migrates_through_KMS_MIGRATE_URL(place, before):
    if before == "old_schema":
        old_schema(place)
    else:
        place.sql("CREATE ROLE dekhand_rw")
    place.sql("CREATE ROLE app LOGIN IN ROLE dekhand_rw")
    env = {"DATABASE_URL": place.url("app"), "KMS_MIGRATE_URL": place.url()}
    made = place.cli.json("init", schema="init", env=env)
    assert made["madeRegistry"] and made["database"] == place.url("app")
    # Not asked where nothing is to be made.
    env["KMS_MIGRATE_URL"] = "postgresql://dek@127.0.0.1:1/db"
    assert not place.cli.json("init", env=env)["madeRegistry"]


@pytest.mark.parametrize("url", ["mysql://dek@127.0.0.1/db", "postgresql://[::1/db"])
def test_a_KMS_MIGRATE_URL_that_is_none_is_named(place, url):
    env = {"DATABASE_URL": place.url(), "KMS_MIGRATE_URL": url}
    for command in ("migrate", "init"):
        assert "E_CONFIG: KMS_MIGRATE_URL: " in (
            place.cli.fails(2, command, env=env).replace(
                "there is no registry yet: run `dekhand migrate` with a login that may: ", ""))


def test_KMS_MIGRATE_URL_of_another_database_is_noticed(place):
    place.server.psql("CREATE DATABASE db_other TEMPLATE template0")
    env = {"DATABASE_URL": place.url(), "KMS_MIGRATE_URL": place.server.url("db_other")}
    assert "two databases" in place.cli.fails(2, "init", env=env)


def test_a_login_that_is_no_member_is_told_so(place):
    place.migrate()
    place.sql("CREATE ROLE app LOGIN")
    for command in (("init",), ("migrate",)):
        text = place.cli.fails(2, *command, **place.as_user("app"))
        assert "GRANT dekhand_rw TO app" in text, command


def test_who_may_not_create_roles_is_told_of_the_script(place):
    place.sql("CREATE ROLE owner LOGIN; ALTER DATABASE db OWNER TO owner")
    text = place.cli.fails(2, "migrate", **place.as_user("owner"))
    assert "may not create roles" in text
    assert "`dekhand migrate --print | psql <as a role administrator>`" in text
    assert schemas(place) == "0"


def test_roles_that_another_database_made_are_enough(place, tmp_path):
    place.sql("CREATE ROLE owner LOGIN; CREATE DATABASE db_other TEMPLATE template0 OWNER owner")
    place.migrate()
    other = Place(place.server, tmp_path, "db_other")
    text = other.cli.fails(2, "migrate", **other.as_user("owner"))
    assert "GRANT dekhand_admin, dekhand_rw TO owner" in text
    place.sql("GRANT dekhand_admin, dekhand_rw TO owner")
    assert other.migrate("owner")["from"] == 0


def test_who_may_not_make_a_schema_is_told_so(place):
    place.sql("CREATE ROLE maker LOGIN CREATEROLE")
    assert "GRANT CREATE ON DATABASE db TO maker" in place.cli.fails(2, "migrate",
                                                                   **place.as_user("maker"))
    place.sql("GRANT CREATE ON DATABASE db TO maker")
    assert place.migrate("maker")["to"] == SCHEMA
    assert place.cli.json("init", **place.as_user("maker"))["madeRegistry"]


def test_a_schema_that_is_somebody_elses_is_left_alone(place):
    place.sql("CREATE SCHEMA dekhand")
    assert "OWNER TO dekhand_admin" in place.cli.fails(2, "migrate", **place.as_user("dek"))


@pytest.mark.parametrize("name, made", [
    ("registry", "TABLE dekhand.registry (id integer)"),
    ("tenants", "TABLE dekhand.tenants (id integer)"),
    ("key_rotation_log", "TABLE dekhand.key_rotation_log (id integer) PARTITION BY LIST (id)"),
    ("owner_keys", "VIEW dekhand.owner_keys AS SELECT 1"),
])
@pytest.mark.parametrize("schema_of", ["bob", "dekhand_admin"])
@pytest.mark.parametrize("command", ["migrate", "init"])
def test_what_is_somebody_elses_is_named_with_its_owner(place, name, made, schema_of, command):
    roles = "".join(f"CREATE ROLE {role};" for role in ("dekhand_admin", "dekhand_rw"))
    place.sql(f"CREATE ROLE bob; {roles if schema_of != 'bob' else ''}"
              f"CREATE SCHEMA dekhand AUTHORIZATION {schema_of}; CREATE {made};"
              f"ALTER TABLE dekhand.{name} OWNER TO bob")
    text = place.cli.fails(2, command, **place.as_user("dek"))
    if schema_of == "bob":
        assert "the schema dekhand belongs to bob: ALTER SCHEMA dekhand OWNER TO" in text
    else:
        assert f"{made.split()[0].lower()} dekhand.{name} belongs to bob" in text
        assert f"ALTER TABLE dekhand.{name} OWNER TO dekhand_admin" in text
    assert "dekhand_schema=NAME" in text
    place.cli.ok(command, env={"DATABASE_URL": place.url() + "?dekhand_schema=dekhand_two"})


@pytest.mark.parametrize("statement", ["TABLE dekhand.tenants", "TABLE dekhand.registry",
                                       "SCHEMA dekhand"])
def test_what_was_given_to_somebody_is_named_and_works_when_given_back(place, statement):
    place.migrate()
    place.sql(f"CREATE ROLE bob; ALTER {statement} OWNER TO bob")
    if statement.endswith("registry"):
        place.sql("REVOKE ALL ON dekhand.registry FROM dekhand_rw")
    text = place.cli.fails(2, "migrate", **place.as_user("dek"))
    assert f"{statement.lower()} belongs to bob" in text
    todo = f"ALTER {statement} OWNER TO dekhand_admin"
    assert todo in text
    place.sql(todo)
    if statement.endswith("registry"):
        place.sql("GRANT SELECT, INSERT, UPDATE ON dekhand.registry TO dekhand_rw")
    assert place.migrate()["from"] == SCHEMA


@pytest.mark.parametrize("power", ["SUPERUSER", "BYPASSRLS"])
def test_F24_a_role_of_ours_that_row_level_security_does_not_hold_is_refused(place, power):
    place.sql(f"CREATE ROLE dekhand_rw {power}")
    assert "BYPASSRLS" in place.cli.fails(2, "migrate", **place.as_user("dek"))
    assert "BYPASSRLS" in run_script(place, script(place))
    assert schemas(place) == "0"


# ---- two at once, killed, newer ------------------------------------------------------------------

def test_eight_processes_on_two_databases_make_two_registries(place, tmp_path):
    """Roles belong to both; each round begins without them."""
    place.server.psql("CREATE DATABASE db_other TEMPLATE template0")
    places = [Place(place.server, tmp_path, name) for name in ("db", "db_other")]
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda i: places[i % 2].migrate(), range(8)))
        for n, one in enumerate(places):
            assert {found["registryId"] for found in made[n::2]} == {one.sql(
                "SET ROLE dekhand_rw; SELECT registry_uuid FROM dekhand.registry")}
        for one in places:
            one.sql("DROP SCHEMA dekhand CASCADE; DROP OWNED BY dekhand_admin, dekhand_rw")
        place.sql("DROP ROLE dekhand_admin, dekhand_rw, dekhand_worker")


def test_eight_inits_at_once_make_one_registry(place):
    def init(_):
        return place.cli.json("init", **place.as_user("dek"))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(init, range(8)))
    assert len({found["registryPin"] for found in made}) == 1
    assert sum(found["madeRegistry"] for found in made) == 1


@contextmanager
def held_at(place, tag):
    """A migration waits after its last command of this kind; yields when one does."""
    place.sql("CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
              "PERFORM pg_sleep(30); END $$;"
              f"CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('{tag}') "
              "EXECUTE FUNCTION hold()")
    env = {**place.cli.env, "DATABASE_URL": place.url()}
    process = subprocess.Popen([ROOT / "build/dekhand", "migrate"], env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    asleep = ("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = 'db' "
              "AND backend_type = 'client backend'")
    try:
        while not (pid := place.sql(asleep)):
            assert process.poll() is None, process.stderr.read()
        yield process, pid
    finally:
        process.kill()
        process.communicate()
        place.sql("DROP EVENT TRIGGER hold")


@pytest.mark.parametrize("tag", ["CREATE SCHEMA", "CREATE TABLE", "CREATE TRIGGER",
                                 "CREATE POLICY", "ALTER DEFAULT PRIVILEGES"])
@pytest.mark.parametrize("who", ["client", "server"])
def test_F23_killed_in_the_middle_nothing_is_half_done(place, tag, who):
    with held_at(place, tag) as (process, pid):
        if who == "client":
            process.kill()
        place.sql(f"SELECT pg_terminate_backend({pid}, 10000)")
        if who == "server":
            _, said = process.communicate(timeout=20)
            assert process.returncode == 6, said
    assert schemas(place) == "0"
    assert place.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'dekhand%'") == "0"
    assert place.migrate()["from"] == 0


def test_F80_a_newer_schema_is_refused(place):
    place.migrate()
    place.cli.ok("init", **place.as_user("dek"))
    place.sql("UPDATE dekhand.registry SET schema_version = 99")
    for command in (("migrate",), ("init",), ("keys", "list")):
        assert "newer dekhand" in place.cli.fails(2, *command, **place.as_user("dek")), command
    assert "newer dekhand" in run_script(place, script(place))
    assert place.sql("SELECT schema_version FROM dekhand.registry") == "99"


def test_a_registry_row_that_is_gone_is_not_made_again(place):
    place.migrate()
    place.sql("ALTER TABLE dekhand.registry DISABLE TRIGGER USER; DELETE FROM dekhand.registry")
    assert "E_TAMPERED" in place.cli.fails(1, "migrate", **place.as_user("dek"))
    assert "row is gone" in run_script(place, script(place))


# ---- what was dropped or changed -----------------------------------------------------------------

DAMAGE = {
    "trigger dropped": "DROP TRIGGER seals_stay ON dekhand.seals",
    "trigger disabled": "ALTER TABLE dekhand.tenants DISABLE TRIGGER tenants_grow",
    "index dropped": "DROP INDEX dekhand.encryption_keys_one_active",
    "view dropped": "DROP VIEW dekhand.key_rotation_health",
    "view as its owner": "ALTER VIEW dekhand.owner_keys RESET (security_invoker)",
    "policy dropped": "DROP POLICY rw ON dekhand.seals",
    "function changed": "CREATE OR REPLACE FUNCTION dekhand.current_tenant() RETURNS text LANGUAGE "
                        "plpgsql STABLE AS $$ BEGIN RETURN 'acme'; END $$",
    "function as its owner": "ALTER FUNCTION dekhand.refuse() SECURITY DEFINER",
    "function and all on it": "DROP FUNCTION dekhand.refuse() CASCADE",
    "row level security off": "ALTER TABLE dekhand.tenants DISABLE ROW LEVEL SECURITY",
    "row level security not forced": "ALTER TABLE dekhand.registry NO FORCE ROW LEVEL SECURITY",
}
FOREIGN = {
    "a right for anon": "GRANT SELECT ON dekhand.tenants TO anon",
    "a right for everybody": "GRANT SELECT ON dekhand.key_rotation_health TO PUBLIC",
    "a right on a column": "GRANT SELECT (check_value) ON dekhand.encryption_keys TO authenticated",
    "dekhand_rw made owner": "ALTER TABLE dekhand.seals OWNER TO dekhand_rw",
    "a policy for others": "CREATE POLICY other ON dekhand.tenants TO PUBLIC USING (true)",
}


@pytest.fixture
def used(place):
    place.server.psql("CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role")
    place.cli.env["DATABASE_URL"] = place.url()
    place.cli.ok("init")
    place.cli.ok("encrypt", "--tenant", "acme", stdin=b"x")
    return place


# Of the servers of the tests: their superuser logs in, and nothing has to survive the machine.
OF_THE_SERVER = {"login", "durability"}


def finds_nothing(cli):
    checks = json.loads(cli.run("doctor", "--json").stdout)["checks"]
    return [check for check in checks if check["level"] not in ("ok", "note")
            and check["name"] not in OF_THE_SERVER] == []


def test_F23_F24_what_was_changed_is_told_and_migrate_makes_it_again(used):
    before = sorted(dumped(used))
    assert finds_nothing(used.cli)
    for what, statement in DAMAGE.items():
        used.sql(statement)
        assert sorted(dumped(used)) != before, what
        for command in (("doctor",), ("audit", "verify")):
            done = used.cli.run(*command)
            assert done.returncode == 7 and "schema" in done.stdout.decode(), (what, told(done))
        used.cli.ok("migrate")
        assert sorted(dumped(used)) == before, what
    assert finds_nothing(used.cli)
    used.cli.ok("audit", "verify")


def test_F24_what_lets_others_in_is_told_with_the_statement_against_it(used):
    before = sorted(dumped(used))
    for what, statement in FOREIGN.items():
        used.sql(statement)
        checks = used.cli.run("doctor", "--json")
        assert checks.returncode == 7, (what, told(checks))
        fix = next(check["fix"] for check in json.loads(checks.stdout)["checks"]
                   if check["name"] == "schema" and check["level"] != "ok")
        mend = re.search(r"`((?:REVOKE|ALTER|DROP) [^`]*)`", fix).group(1)
        used.sql(f"SET search_path = dekhand; {mend}")
        used.cli.ok("migrate")  # who was an owner has lost its rights
        assert sorted(dumped(used)) == before, (what, mend)
    assert finds_nothing(used.cli)


def test_a_login_without_the_right_makes_nothing_again(used):
    used.sql("CREATE ROLE app LOGIN IN ROLE dekhand_rw; DROP TRIGGER seals_stay ON dekhand.seals")
    assert "dekhand_admin" in used.cli.fails(2, "migrate", **used.as_user("app"))


def test_the_roles_of_supabase_that_come_later_get_their_view(place):
    place.migrate()
    place.sql("CREATE ROLE authenticated")
    place.migrate()
    assert place.sql("SELECT has_table_privilege('authenticated', 'dekhand.owner_keys', 'SELECT')"
                     ) == "t"


# ---- the script ----------------------------------------------------------------------------------

def script(place, *options, env=None):
    """Needs no server, and no setting."""
    return place.cli.ok("migrate", "--print", *options, env=env).decode()


def run_script(place, text, user="dek", *options):
    """psql's messages."""
    done = subprocess.run([binaries() / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d",
                           place.url(user), *options], input=text, env=_environment(),
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.stderr


def dumped(place):
    """The whole schema with owners and rights, as pg_dump writes it."""
    argv = [binaries() / "pg_dump", "-s", "-d", place.url()]
    text = subprocess.run(argv, env=_environment(), capture_output=True, text=True, timeout=60,
                          check=True).stdout
    return [line for line in text.splitlines() if not line.startswith("\\")]


def test_the_script_makes_what_migrate_makes(place, tmp_path):
    place.server.psql("CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role")
    place.migrate()
    wanted = dumped(place)
    assert sum("CREATE POLICY" in line for line in wanted) > 8
    for n, options in enumerate(([], ["--supabase"])):
        place.server.psql(f"CREATE DATABASE db_{n} TEMPLATE template0")
        other = Place(place.server, tmp_path, f"db_{n}")
        assert f"schema {SCHEMA} of dekhand is there now" in run_script(
            other, script(other, *options))
        assert dumped(other) == wanted
        assert other.migrate()["from"] == SCHEMA


def test_the_script_runs_where_the_schema_is_there_and_changes_nothing(place):
    made = place.migrate()
    text = script(place)
    assert "already: nothing was changed" in run_script(place, text)
    assert place.migrate() == {**made, "from": SCHEMA}
    # After it the session is what it was, and so is the transaction that it was a part of.
    after = ("SELECT current_user, current_setting('search_path'), "
             "current_setting('lock_timeout');\n")
    inner = script(place, "--supabase")
    place.sql("DROP SCHEMA dekhand CASCADE")
    for _ in range(2):
        assert place.sql(f"BEGIN; {inner} {after} COMMIT;") == 'dek|"$user", public|0'
    assert place.sql("SET lock_timeout = '7s';" + inner + after) == 'dek|"$user", public|7s'


def test_the_script_waits_for_no_lock_for_ever(place):
    text = script(place)
    assert text.count("SET LOCAL lock_timeout = '60s'") == 1
    quick = text.replace("'60s'", "'200ms'")
    with session(place.url(), "SELECT pg_advisory_lock(hashtextextended('dekhand migrate', 0))"):
        assert "lock timeout" in run_script(place, quick)
    old_schema(place)
    with session(place.url(), "BEGIN; LOCK TABLE dekhand.registry"):
        assert "lock timeout" in run_script(place, quick)
        # What somebody has set for himself is kept.
        assert "lock timeout" in run_script(place, "SET lock_timeout = '100ms';" + text)
    assert "there now" in run_script(place, text)  # who had it may be on his way out


def test_the_script_brings_an_older_schema_up_to_date(place):
    old_schema(place)
    assert "there now" in run_script(place, script(place))
    assert place.migrate()["from"] == SCHEMA


def test_the_script_is_done_whole_or_not_at_all(place):
    """The login may create roles, and then no schema."""
    place.sql("CREATE ROLE maker LOGIN CREATEROLE")
    assert "permission denied" in run_script(place, script(place, "--supabase"), "maker")
    assert place.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'dekhand%'") == "0"


def test_the_script_of_a_schema_with_another_name(place):
    env = {"DATABASE_URL": place.url() + "?dekhand_schema=dekhand_two"}
    run_script(place, script(place, env=env))
    assert place.cli.json("migrate", env=env)["from"] == SCHEMA
    assert place.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'dekhand%'"
                     ) == "dekhand_two"


def test_the_script_for_supabase_is_a_file_of_its_migrations(place):
    text = script(place, "--supabase")
    first = text.splitlines()[0]
    assert re.fullmatch(r"-- supabase/migrations/\d{14}_dekhand\.sql", first)
    outside = text[:text.index("$dekhand$")] + text[text.rindex("$dekhand$"):]
    assert not re.search(r"^(BEGIN|COMMIT)", outside, re.M)
    assert outside.count(";") == 1 and "'" not in outside  # one statement, however it is read
    plain = script(place)
    assert re.search(r"^BEGIN .*;$", plain, re.M) and plain.endswith("\nCOMMIT;\n")
    for name in ("SECURITY DEFINER", "CONCURRENTLY"):
        assert name not in text


def test_print_is_sql_alone(place):
    assert "--supabase wants --print" in place.cli.fails(2, "migrate", "--supabase")
    assert "no --json" in place.cli.fails(2, "migrate", "--print", "--json")


# ---- passwords -----------------------------------------------------------------------------------

@pytest.fixture
def guarded(server):
    """Logins named g.. have to know their password."""
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text('host all "gapp","gadmin" 127.0.0.1/32 scram-sha-256\n' + before)
    server.psql("SELECT pg_reload_conf()")
    server.psql(f"CREATE ROLE gadmin LOGIN SUPERUSER PASSWORD '{CANARY}';"
                f"CREATE ROLE dekhand_rw; CREATE ROLE gapp LOGIN PASSWORD '{CANARY}' IN ROLE "
                "dekhand_rw")
    yield server
    hba.write_text(before)
    server.psql("SELECT pg_reload_conf()")


def urls(server, password, database="db"):
    return {name: f"postgresql://{user}:{password}@127.0.0.1:{server.port}/{database}"
            for name, user in (("DATABASE_URL", "gapp"), ("KMS_MIGRATE_URL", "gadmin"))}


def test_passwords_of_the_urls_are_printed_nowhere(guarded, tmp_path):
    cli = Cli(tmp_path)
    loud = {"KMS_LOG": "json", "DEBUG": "*"}
    good, wrong = urls(guarded, CANARY), urls(guarded, CANARY + "x")
    elsewhere = {name: url.replace(str(guarded.port), "1") for name, url in good.items()}
    in_query = {name: f"postgresql://127.0.0.1:{guarded.port}/db?user={user}&password={CANARY}"
                for name, user in (("DATABASE_URL", "gapp"), ("KMS_MIGRATE_URL", "gadmin"))}
    broken = {name: url.replace("127", "/127").replace("@", "/@") for name, url in good.items()}
    commands = (["config"], ["config", "--json"], ["migrate"], ["init"], ["init", "--json"],
                ["migrate", "--json"], ["migrate", "--print"], ["registry", "show"],
                ["registry", "show", "--json"], ["doctor"], ["doctor", "--json"], ["health"],
                ["keys", "list"], ["rotate", "--all"], ["audit", "verify"])
    ended = []  # a doctor's findings are those of the server
    for env in (wrong, elsewhere, broken, good, in_query):
        for command in commands:
            done = cli.run(*command, env={**loud, **env})
            said = (done.stdout + done.stderr).decode()
            assert CANARY not in said, told(done)
            ended.append(0 if command[0] == "doctor" and done.returncode == 7 else done.returncode)
            if command == ["config"] and env is good:
                assert f"postgresql://gapp:********@127.0.0.1:{guarded.port}/db" in said
                assert f"postgresql://gadmin:********@127.0.0.1:{guarded.port}/db" in said
            if command == ["init"] and env is good:
                assert f"postgresql://gapp:********@127.0.0.1:{guarded.port}/db" in said
    per = len(commands)
    assert set(ended[3 * per:]) == {0}, ended
    assert 0 not in {ended[2], ended[3], ended[per + 2], ended[per + 3], ended[2 * per + 3]}
    for path in cli.folder.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("password", [f"x@{CANARY}", f"x/{CANARY}", f"1/{CANARY}", f"x?y@{CANARY}"])
def test_a_password_that_is_not_escaped_is_not_taken_for_a_name(tmp_path, password):
    cli = Cli(tmp_path, DATABASE_URL=f"postgresql://u:{password}@127.0.0.1:1/db")
    done = cli.run("init")
    assert done.returncode == 2 and b"%40" in done.stderr, told(done)
    for command in (["init"], ["health"], ["doctor"], ["config"]):
        done = cli.run(*command)
        assert CANARY.encode() not in done.stdout + done.stderr, told(done)


@pytest.mark.parametrize("query, said", [
    ("sslmode=wrong", "sslmode"),
    ("target_session_attrs=y", "target_session_attrs"),
    ("channel_binding=x", "channel_binding"),
    ("channel_binding=require", "channel binding required"),
    ("ssl_min_protocol_version=x", "ssl_min_protocol_version"),
    ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "version range"),
    ("keepalives=x", "invalid integer value"),
    ("port=99999", "99999"),
    ("port=abc", "abc"),
    (f"host=/{'x' * 120}", "too long"),
    ("options=-c%20nothing%3D1", "nothing"),
    ("options=-c%20work_mem%3Dmuch", "work_mem"),
    ("options=nothing", "nothing"),
])
def test_a_wrong_parameter_is_not_a_server_that_cannot_be_reached(server, tmp_path, query, said):
    for command in (["migrate"], ["init"], ["encrypt", "--tenant", "a"]):
        done = Cli(tmp_path).run(*command, env={"DATABASE_URL": f"{server.url()}?{query}"})
        assert done.returncode == 2 and "E_CONFIG" in told(done) and said in told(done), told(done)


def test_a_pooler_that_takes_no_options_is_there(server, tmp_path):
    with PgBouncer.started(server) as pool:
        done = Cli(tmp_path).run(
            "migrate", env={"DATABASE_URL": pool.url("db") + "?options=-c%20work_mem%3D4MB"})
    assert done.returncode == 2 and "unsupported startup parameter" in told(done), told(done)


def test_where_nobody_listens_no_parameter_is_wrong(server, tmp_path):
    for port in (1, free_port()):
        done = Cli(tmp_path).run("migrate", env={
            "DATABASE_URL": f"postgresql://dek@127.0.0.1:{port}/db?sslmode=prefer"})
        assert done.returncode == 6 and "E_UNREACHABLE" in told(done), told(done)


def test_a_service_is_no_host(tmp_path):
    done = Cli(tmp_path, DATABASE_URL="postgresql:///db?service=far").run("init")
    assert done.returncode == 2 and b"name the host" in done.stderr, told(done)


def test_a_password_on_the_command_line_is_refused(place):
    url = f"postgresql://gapp:{CANARY}@127.0.0.1/db"
    for flag in ("--database-url", "--migrate-url"):
        for text in (url, f"postgresql://127.0.0.1/db?password={CANARY}"):
            said = place.cli.fails(2, "config", flag, text)
            assert "every user of this machine" in said and CANARY not in said
    found = place.cli.json("config", "--database-url", place.url(), schema="config")
    assert place.url() in {entry["value"] for entry in found["settings"]}
