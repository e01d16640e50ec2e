"""doctor and health over PostgreSQL: each state made on a server, and the line that tells it."""

import json
import os
import re
import subprocess
import time

import pytest

from cli_tool import ROOT, Cli, check_schema, told
from servers import PgBouncer, Postgres, binaries, new_database, psql

pytestmark = [pytest.mark.release, pytest.mark.counted]  # pg_doctor_test runs in every build

SAFE = "fsync = on\nfull_page_writes = on\nsynchronous_commit = on\n"  # as an ordinary server
APP = "app_of_the_doctor"


@pytest.fixture(scope="module")
def server():
    """A server that keeps what it takes, and a login as docs/OPERATIONS.md has it."""
    with Postgres.started(SAFE) as found:
        yield found


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):
    """A registry there that the tests share: each leaves it as it was."""
    with new_database(server.url()) as url:
        yield Place(url, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def own(server, tmp_path):
    """One of the test's own."""
    with new_database(server.url()) as url:
        yield Place(url, tmp_path)


class Place(Cli):
    """The program with the login; `psql` works as the superuser."""

    def __init__(self, url, folder):
        super().__init__(folder, DATABASE_URL=url)
        self.url = url
        self.name = url.rpartition("/")[2]
        self.ok("init")
        self.psql(f"""DO $$ BEGIN CREATE ROLE {APP} LOGIN IN ROLE dekhand_rw;
                      EXCEPTION WHEN duplicate_object THEN NULL; END $$""")
        self.env["DATABASE_URL"] = self.of(APP)

    def of(self, user, port=None):
        found = self.url.replace("dek@", f"{user}@")
        return re.sub(r":\d+/", f":{port}/", found) if port else found

    def psql(self, sql):
        return psql(self.url, sql)

    def doctor(self, code=0, url=None):
        done = self.run("doctor", "--json", env={"DATABASE_URL": url} if url else None)
        assert done.returncode == code, told(done)
        found = json.loads(done.stdout)
        check_schema("doctor", found)
        assert found["ok"] == (found["findings"] == 0) == (code == 0)
        for check in found["checks"]:
            assert check["level"] in ("ok", "note") or check["fix"], check
            assert "\n" not in check["text"] + (check["fix"] or "")
        return found["checks"]

    def line(self, name, level, code=None, url=None):
        """The one line of that name, which has that level."""
        found = self.doctor(7 if level == "warning" and code is None else code or 0, url)
        lines = [check for check in found if check["name"] == name]
        assert [check["level"] for check in lines] == [level], lines
        return lines[0]


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# ---- as it should be ----------------------------------------------------------------------------

# What is read of PostgreSQL beside all that is read of every store.
CHECKS = ["server", "tls", "pooler", "login", "row security", "access", "definer", "server clock",
          "connections", "primary", "durability", "checksums", "commit", "replication", "encoding",
          "transactions", "wraparound"]
NOTES = {"checksums", "replication"}  # of a single server as initdb makes it


def test_an_ordinary_login_on_an_ordinary_server_has_notes_and_no_findings(own):
    own.ok("encrypt", "--tenant", "acme", stdin=b"x")
    found = own.doctor()
    names = [check["name"] for check in found]
    first = names.index("server")
    assert names[first - 1] == "database"
    assert names[first:first + len(CHECKS)] == CHECKS
    assert names[first + len(CHECKS)] == "integrity"
    of_server = found[first:first + len(CHECKS)]
    soon = {"server"} & {c["name"] for c in of_server if "its project mends it" in c["text"]}
    assert {c["name"] for c in of_server if c["level"] == "note"} == NOTES | soon
    assert [c["level"] for c in found if c["name"] == "seals"] == ["ok"]
    text = own.ok("doctor").decode().splitlines()
    assert len(text) == len(found) + 1  # one line a check


def test_sqlite_has_no_such_lines(cli):
    names = {check["name"] for check in cli.json("doctor", schema="doctor")["checks"]}
    assert not names & ({*CHECKS, "seals"} - {"keys"})


def test_a_database_without_a_registry_is_looked_at_all_the_same(server, tmp_path):
    with new_database(server.url()) as url:
        done = Cli(tmp_path, DATABASE_URL=url).run("doctor", "--json")
        assert done.returncode == 7, told(done)
        levels = {c["name"]: c["level"] for c in json.loads(done.stdout)["checks"]}
        assert levels["registry"] == "error" and levels["login"] == "warning"
        assert levels["durability"] == levels["encoding"] == "ok"


def test_the_postgresql_chapter_of_the_operations_page_runs_as_written(tmp_path):
    """With the servers' addresses in place of `db`; between copy and restore a tenant goes on."""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text()
    chapter = re.search(r"^## PostgreSQL$(.*?)^## ", text, re.M | re.S).group(1)
    setup, copy, restore = re.findall(r"^```shell\n(.*?)^```", chapter, re.M | re.S)
    before = "printf x | dekhand encrypt --tenant acme > value\n"
    after = "dekhand rotate --tenant acme\n"
    seen = "dekhand decrypt --tenant acme < value\n"
    with Postgres.started(SAFE) as own:
        script = setup + before + copy + after + restore + seen
        script = script.replace("postgres@db/", f"dek@127.0.0.1:{own.port}/")
        script = script.replace("app@db/", f"app@127.0.0.1:{own.port}/")
        cli = Cli(tmp_path)
        path = f"{ROOT / 'build'}:{binaries()}:{cli.env['PATH']}"
        done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env={**cli.env, "PATH": path},
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, told(done)
        assert done.stdout.endswith("x") and " 0 findings" in done.stdout
        assert "none is missing" in done.stdout


# ---- the login ----------------------------------------------------------------------------------

@pytest.mark.parametrize("made, words", [
    ("LOGIN SUPERUSER", "a superuser"),
    ("LOGIN BYPASSRLS IN ROLE dekhand_rw", "BYPASSRLS"),
    ("LOGIN CREATEROLE IN ROLE dekhand_rw", "CREATEROLE"),
    ("LOGIN IN ROLE dekhand_rw, dekhand_admin", "owner of the schema"),
])
def test_I24_a_login_that_may_more_is_a_finding(place, made, words):
    place.psql(f"CREATE ROLE strong {made}")
    try:
        check = place.line("login", "warning", url=place.of("strong"))
        assert words in check["text"] and "IN ROLE dekhand_rw" in check["fix"]
    finally:
        place.psql("DROP ROLE strong")


def test_a_login_without_rights_is_told_what_it_lacks(place):
    place.psql("CREATE ROLE nobody_here LOGIN")
    try:
        found = place.doctor(7, place.of("nobody_here"))
        [check] = [c for c in found if c["name"] == "login"]
        assert check["level"] == "warning" and "GRANT dekhand_rw" in check["fix"]
        assert [c["level"] for c in found if c["name"] == "registry"] == ["error"]
    finally:
        place.psql("DROP ROLE nobody_here")


# ---- rights -------------------------------------------------------------------------------------

@pytest.fixture
def supabase(place):
    """The roles of its API."""
    names = ("anon", "authenticated", "service_role", "authenticator")
    for name in names:
        place.psql(f"CREATE ROLE {name}{' BYPASSRLS' if name == 'service_role' else ''}")
    yield place
    place.psql("DROP VIEW IF EXISTS public.shown")
    for name in names:
        place.psql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_I24_row_security_that_is_off_is_a_finding(own):
    own.psql("ALTER TABLE dekhand.tenants NO FORCE ROW LEVEL SECURITY;"
               "ALTER TABLE dekhand.seals DISABLE ROW LEVEL SECURITY")
    check = own.line("row security", "warning")
    assert "dekhand.seals, dekhand.tenants" in check["text"]
    assert "ALTER TABLE dekhand.seals" in check["fix"]


@pytest.mark.parametrize("sql, text, fix", [
    ("GRANT SELECT ON dekhand.seals TO PUBLIC", "everybody (PUBLIC) may SELECT dekhand.seals",
     "REVOKE ALL ON dekhand.seals FROM public"),
    ("GRANT UPDATE (rotation_days) ON dekhand.tenants TO anon", "anon may UPDATE dekhand.tenants",
     "REVOKE ALL ON dekhand.tenants FROM anon"),
    ("GRANT SELECT ON dekhand.encryption_keys TO authenticated",
     "authenticated may SELECT dekhand.encryption_keys", "REVOKE ALL ON dekhand.encryption_keys"),
    ("GRANT INSERT, DELETE ON dekhand.nodes TO service_role",
     "service_role may DELETE, INSERT dekhand.nodes", "REVOKE ALL ON dekhand.nodes"),
    ("GRANT dekhand_rw TO service_role", "service_role is a member of dekhand_rw",
     "REVOKE dekhand_rw FROM service_role"),
    ("GRANT CREATE ON SCHEMA dekhand TO anon", "anon may CREATE in the schema dekhand",
     "REVOKE CREATE ON SCHEMA dekhand FROM anon"),
    ("CREATE VIEW public.shown AS SELECT tenant_id FROM dekhand.encryption_keys",
     "the view public.shown shows dekhand.encryption_keys",
     "ALTER VIEW public.shown SET (security_invoker = true)"),
    ("CREATE MATERIALIZED VIEW public.copied AS SELECT tenant_id FROM dekhand.tenants",
     "the view public.copied shows dekhand.tenants", "DROP MATERIALIZED VIEW public.copied"),
])
def test_I24_what_others_may_see_or_do_is_a_finding(supabase, sql, text, fix):
    supabase.psql(sql)
    found = [c for c in supabase.doctor(7) if c["name"] == "access"]
    assert any(text in c["text"] and fix in c["fix"] for c in found), found
    for check in found:  # what mends it does
        supabase.psql(check["fix"])
    assert supabase.line("access", "ok")


def test_an_owner_s_metadata_is_no_finding(supabase):
    supabase.psql("GRANT USAGE ON SCHEMA dekhand TO authenticated; GRANT SELECT (tenant_id, "
                  "version, state, is_active, created_at, expires_at, rotated_at) "
                  "ON dekhand.encryption_keys TO authenticated")
    supabase.line("access", "ok")
    supabase.psql("GRANT SELECT (encrypted_data_key) ON dekhand.encryption_keys TO authenticated")
    assert "encryption_keys" in supabase.line("access", "warning")["text"]


def test_more_than_a_few_are_counted(supabase):
    supabase.psql("GRANT SELECT ON ALL TABLES IN SCHEMA dekhand TO anon")
    found = [c["text"] for c in supabase.doctor(7) if c["name"] == "access"]
    assert len(found) == 6 and re.fullmatch(r"\d+ more like these", found[-1])


@pytest.mark.parametrize("sql", [
    "CREATE FUNCTION dekhand.sly() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    "CREATE FUNCTION public.sly() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
    "ALTER FUNCTION public.sly() OWNER TO dekhand_admin",
])
def test_I24_a_function_with_its_owner_s_rights_is_a_finding(own, sql):
    own.psql("GRANT CREATE ON SCHEMA public TO dekhand_admin")
    own.psql(sql)
    check = own.line("definer", "warning")
    assert ".sly works with the rights of" in check["text"]
    assert "sly() SECURITY INVOKER" in check["fix"]


@pytest.mark.parametrize("setting, level", [
    ("public, dekhand", "warning"), ('"dekhand",api', "warning"), ("public, dekhand_other", "ok"),
])
def test_a_schema_that_postgrest_serves_is_a_finding(supabase, setting, level):
    assert not [c for c in supabase.doctor() if c["name"] == "api" and c["level"] != "ok"]
    supabase.psql(f"ALTER ROLE authenticator IN DATABASE {supabase.name} "
                  f"SET pgrst.db_schemas = '{setting}'")
    check = supabase.line("api", level)
    assert level == "ok" or "pgrst.db_schemas" in check["fix"]


def test_tables_that_are_published_are_a_note(place):
    place.psql("CREATE PUBLICATION p FOR TABLE dekhand.tenants")
    check = place.line("publication", "note")
    assert "dekhand.tenants" in check["text"]
    place.psql(check["fix"].partition(",")[0])
    assert not [c for c in place.doctor() if c["name"] == "publication"]


# ---- the way there ------------------------------------------------------------------------------

@pytest.mark.parametrize("mode, level, words", [
    ("transaction", "ok", "in transaction mode, which works"),
    ("session", "note", "in session mode"),
    ("statement", "warning", "statement mode"),
])
def test_a_pooler_is_known_by_its_mode(server, place, mode, level, words):
    with PgBouncer.started(server, settings=f"pool_mode = {mode}") as pool:
        check = place.line("pooler", level, url=place.of(APP, pool.port))
        assert words in check["text"]
        assert (check["fix"] is None) == (level == "ok")
    # Nothing of the question is left in the server's sessions, which are somebody else's next.
    assert place.line("pooler", "ok")["text"].startswith("none")


def test_a_pooler_without_a_second_connection_says_nothing_of_its_mode(server, place):
    with PgBouncer.started(server, 1, "pool_mode = session\nquery_wait_timeout = 1") as pool:
        check = place.line("pooler", "note", url=place.of(APP, pool.port))
    assert "cannot be told" in check["text"]


def test_tls_on_this_machine_is_told_as_it_is(place, tmp_path_factory):
    assert place.line("tls", "ok")["text"].startswith("none")
    with Postgres(SAFE) as server:
        server._initdb()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", server.data / "server.key", "-out", server.data / "server.crt"],
                       check=True, capture_output=True)
        key = server.data / "server.key"
        key.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(key, 65534, 65534)
            os.chown(server.data / "server.crt", 65534, 65534)
        with open(server.data / "postgresql.conf", "a", encoding="ascii") as conf:
            conf.write("ssl = on\n")
        server.start()
        ca = tmp_path_factory.mktemp("ca") / "root.crt"
        ca.write_bytes((server.data / "server.crt").read_bytes())
        ca.chmod(0o644)
        url = f"{server.url()}?sslmode=verify-full&sslrootcert={ca}"
        other = Place(url, tmp_path_factory.mktemp("tls"))
        assert re.fullmatch(r"TLSv1\.\d, sslmode=verify-full", other.line("tls", "ok")["text"])


# ---- room ---------------------------------------------------------------------------------------

def test_room_for_too_few_processes_is_a_note(place):
    assert "room for" in place.line("connections", "ok")["text"]
    place.psql(f"ALTER ROLE {APP} CONNECTION LIMIT 7")
    try:
        check = place.line("connections", "note")
        assert "7 may be open" in check["text"] and "max_connections" in check["fix"]
    finally:
        place.psql(f"ALTER ROLE {APP} CONNECTION LIMIT -1")


def test_nodes_that_are_known_are_counted(own):
    own.psql(f"ALTER DATABASE {own.name} CONNECTION LIMIT 20")
    assert "room for 2 processes" in own.line("connections", "ok")["text"]
    own.psql("INSERT INTO dekhand.nodes SELECT 'host/' || i, '1', now(), now() "
               "FROM generate_series(1, 3) i")
    assert "3 or more run" in own.line("connections", "note")["text"]
    own.psql("UPDATE dekhand.nodes SET seen_at = now() - interval '1 hour'")
    own.line("connections", "ok")


# ---- settings -----------------------------------------------------------------------------------

@pytest.mark.parametrize("setting, value, name, level, words", [
    ("synchronous_commit", "off", "commit", "warning", "synchronous_commit is off"),
    ("synchronous_commit", "local", "commit", "warning", "synchronous_commit is local"),
    ("synchronous_commit", "remote_write", "commit", "note", "remote_write"),
    ("default_transaction_read_only", "on", "primary", "warning", "default_transaction_read_only"),
])
def test_a_setting_of_the_login_is_told(place, setting, value, name, level, words):
    place.psql(f"ALTER ROLE {APP} SET {setting} = {value}")
    try:
        check = place.line(name, level)
        assert words in check["text"] and setting in check["fix"]
    finally:
        place.psql(f"ALTER ROLE {APP} RESET {setting}")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_does_not_survive_a_power_cut_is_a_finding(server, place, setting):
    change(server, f"{setting} = off")
    try:
        check = place.line("durability", "warning")
        assert f"{setting} is off" in check["text"]
        assert f"SET {setting} = on" in check["fix"]
        # A service with storage of its own says off, and means nothing by it.
        place.psql(f"ALTER ROLE {APP} SET neon.timeline_id = 'x'")
        place.line("durability", "ok")
    finally:
        place.psql(f"ALTER ROLE {APP} RESET neon.timeline_id")
        change(server, f"{setting} = on")


def change(server, line):
    """Takes a setting of the server; returns when it counts in new sessions."""
    name, value = line.split(" = ")
    server.psql(f"ALTER SYSTEM SET {name} = {value}")
    server.psql("SELECT pg_reload_conf()")
    wait_for(lambda: server.psql(f"SHOW {name}") == value.strip("'"))


def test_a_database_in_another_encoding_is_a_finding(server, tmp_path):
    name = f"latin_{os.getpid()}"
    server.psql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' "
                "TEMPLATE template0")
    try:
        check = Place(server.url(name), tmp_path).line("encoding", "warning")
        assert "LATIN1" in check["text"] and "ENCODING 'UTF8'" in check["fix"]
    finally:
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


# ---- transactions -------------------------------------------------------------------------------

def test_a_prepared_transaction_is_a_note(place):
    place.psql("BEGIN; CREATE TABLE public.left_over (a int); PREPARE TRANSACTION 'of nobody'")
    try:
        check = place.line("transactions", "note")
        assert "'of nobody'" in check["text"] and "ROLLBACK PREPARED 'of nobody'" in check["fix"]
    finally:
        place.psql("ROLLBACK PREPARED 'of nobody'")


def test_what_a_login_may_not_see_is_a_note(place):
    """Sessions of others: their times are not shown to it."""
    with subprocess.Popen([binaries() / "psql", "-XAtq", "-d", place.url], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as session:
        session.stdin.write("SELECT 1;\n")
        session.stdin.flush()
        assert session.stdout.readline() == "1\n"
        check = place.line("transactions", "note")
        assert "cannot be seen by this login" in check["text"] and "pg_monitor" in check["fix"]
        place.psql(f"GRANT pg_monitor TO {APP}")
        place.line("transactions", "ok")
        place.psql(f"REVOKE pg_monitor FROM {APP}")
        session.stdin.close()


# ---- seals --------------------------------------------------------------------------------------

def test_changes_that_nobody_seals_are_a_finding(own):
    own.env["KMS_POLL_SECONDS"] = "1"
    own.ok("encrypt", "--tenant", "acme", stdin=b"x")
    assert own.line("seals", "ok")["text"] == "all changes stand in seals"
    seal_away(own)
    check = own.line("seals", "warning")
    assert "nobody seals" in check["text"]
    done = own.run("health", "--json")
    assert done.returncode == 3, told(done)
    body = json.loads(done.stdout)
    check_schema("health", body)
    assert body["checks"]["database"]["status"] != "healthy"
    assert any("nobody seals" in issue.lower() for issue in body["issues"])
    own.ok("encrypt", "--tenant", "acme", stdin=b"x")  # opens a key, and seals at its end
    assert own.line("seals", "ok")["text"] == "all changes stand in seals"
    own.ok("health")


def seal_away(place):
    """Another holds the lease, so that this change is not sealed, and goes; time passes."""
    place.psql("INSERT INTO dekhand.leases VALUES ('seal', 'another', 1, now() + interval '1 day')"
               "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until")
    place.ok("rotate", "--tenant", "acme")
    assert place.line("seals", "ok")["text"] == "the newest changes are about to be sealed"
    place.psql("UPDATE dekhand.leases SET until = now() - interval '1 s'")
    time.sleep(5.5)  # five polls


# ---- standbys -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def pair():
    with Postgres.started(SAFE) as primary, primary.standby("follower") as standby:
        yield primary, standby


@pytest.fixture
def follower(pair, tmp_path):
    primary, standby = pair
    with new_database(primary.url()) as url:
        place = Place(url, tmp_path)
        primary.await_standby("follower")
        yield primary, standby, place


def test_a_standby_that_is_not_synchronous_is_a_finding(follower):
    primary, standby, place = follower
    check = place.line("replication", "warning")
    assert "a failover may lose acknowledged keys" in check["text"]
    assert "synchronous_standby_names" in check["fix"]
    change(primary, "synchronous_standby_names = 'follower'")
    try:
        wait_for(lambda: primary.psql("SELECT sync_state FROM pg_stat_replication") == "sync")
        check = place.line("replication", "note")  # an ordinary login does not see the state
        assert "cannot be seen by this login" in check["text"] and "pg_monitor" in check["fix"]
        place.psql(f"GRANT pg_monitor TO {APP}")
        found = place.doctor()
        assert [c["level"] for c in found if c["name"] in ("replication", "lag")] == ["ok", "ok"]
    finally:
        place.psql(f"REVOKE pg_monitor FROM {APP}; ALTER SYSTEM SET synchronous_standby_names = ''")
        primary.psql("SELECT pg_reload_conf()")


def test_a_standby_that_is_behind_is_a_note(follower):
    primary, standby, place = follower
    place.psql(f"GRANT pg_monitor TO {APP}")
    standby.psql("SELECT pg_wal_replay_pause()")
    try:
        place.psql("CREATE TABLE public.much AS "
                   "SELECT repeat('x', 1000) FROM generate_series(1, 30000)")
        check = place.line("lag", "note", 7)
        assert "KiB of WAL" in check["text"] and "pg_wal_replay_resume()" in check["fix"]
    finally:
        standby.psql("SELECT pg_wal_replay_resume()")
        place.psql(f"REVOKE pg_monitor FROM {APP}; DROP TABLE public.much")
    primary.await_standby("follower")


def test_I07_a_standby_in_the_primary_s_place_is_a_finding(follower):
    primary, standby, place = follower
    check = place.line("primary", "warning", url=place.of(APP, standby.port))
    assert "this is a standby" in check["text"] and "DATABASE_URL" in check["fix"]


def test_a_standby_that_is_away_is_missed(follower):
    primary, standby, place = follower
    standby.stop()
    try:
        wait_for(lambda: primary.psql("SELECT active FROM pg_replication_slots") == "f")
        assert "away" in place.line("replication", "warning")["text"]
        primary.psql("ALTER SYSTEM SET synchronous_standby_names = 'follower'")
        primary.psql("SELECT pg_reload_conf()")
        wait_for(lambda: primary.psql("SHOW synchronous_standby_names") == "follower")
        check = place.line("replication", "warning")
        assert "every commit waits" in check["text"] and "bring the standby back" in check["fix"]
    finally:
        primary.psql("ALTER SYSTEM RESET synchronous_standby_names")
        primary.psql("SELECT pg_reload_conf()")
        standby.start()


# ---- the end of transaction numbers -------------------------------------------------------------

def test_a_server_near_the_end_of_its_transaction_numbers_is_a_finding(server_at_the_end, tmp_path):
    place = Place(server_at_the_end.url(), tmp_path)
    check = place.line("wraparound", "warning")
    assert "million transactions behind" in check["text"] and "VACUUM (FREEZE)" in check["fix"]


@pytest.fixture
def server_at_the_end():
    """As after 1.3 billion transactions without VACUUM: the next number is set."""
    number = 1_300_000_000
    with Postgres.started(SAFE + "autovacuum_freeze_max_age = 2000000000\n") as server:
        server.stop()
        server._run([binaries() / "pg_resetwal", "-x", number, "-D", server.data])
        segment = server.data / "pg_xact" / f"{number // 1048576:04X}"
        segment.write_bytes(bytes(256 * 1024))
        if os.geteuid() == 0:
            os.chown(segment, 65534, 65534)
        server.start()
        yield server
