"""`dekhand demo --here`: on the configured store, in a place of its own, and nothing is left of it."""

import re
import signal
import socket
import subprocess
import time

import pytest

from cli_tool import PROGRAM, ROOT, Cli, told
from servers import PgBouncer, Postgres, binaries, psql

pytestmark = [pytest.mark.release, pytest.mark.counted]

MADE = r"dekhand_demo_[0-9a-f]{8}"
ROLES = "dekhand_admin\ndekhand_rw\ndekhand_worker"


class Place:
    """A database, and dekhand on it after `init`."""

    def __init__(self, url, folder, **env):
        self.url = url
        self.cli = Cli(folder, DATABASE_URL=url, **env)
        self.cli.ok("init")
        self.before = self.found()

    def sql(self, text):
        return psql(self.url.partition("?")[0], text)

    def found(self):
        """Schemas, what is in `dekhand`, the roles there are, and the files of the state."""
        return (self.sql("SELECT nspname FROM pg_namespace ORDER BY 1"),
                self.sql("SELECT (SELECT count(*) FROM dekhand.key_rotation_log), "
                         "(SELECT max(n) FROM dekhand.seals), "
                         "(SELECT count(*) FROM dekhand.tenants), "
                         "(SELECT count(*) FROM dekhand.nodes)"),
                self.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'dekhand%' ORDER BY 1"),
                {path.name: path.read_bytes() for path in self.cli.state.iterdir()})

    def is_as_before(self):
        assert self.found() == self.before
        assert self.before[2] == ROLES

    def start(self, *args, **more):
        return subprocess.Popen([PROGRAM, "demo", "--here", *args], cwd=self.cli.folder,
                                env=self.cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                **more)

    def until(self, sql):
        end = time.monotonic() + 20
        while self.sql(sql) != "t":
            assert time.monotonic() < end, sql
            time.sleep(0.02)

    def at_each_table(self, where, what):
        """From now on `what` is done whenever a table is made whose name fits."""
        self.sql("CREATE FUNCTION public.at_table() RETURNS event_trigger LANGUAGE plpgsql AS $$ "
                 "BEGIN IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE "
                 f"object_identity ~ '{where}') THEN {what}; END IF; END $$;"
                 "CREATE EVENT TRIGGER at_table ON ddl_command_end WHEN TAG IN ('CREATE TABLE') "
                 "EXECUTE FUNCTION public.at_table()")


@pytest.fixture
def place(database, tmp_path):
    return Place(database, tmp_path)


@pytest.fixture(scope="module")
def server():
    """One of our own: with logins that no other test has."""
    with Postgres.started() as found:
        yield found


def shows_all(found):
    assert found["ok"] and all(step["ok"] for step in found["steps"]), found
    assert [step["step"] for step in found["steps"]] == [
        "init", "encrypt", "decrypt", "other tenant", "other column", "changed value", "rotate",
        "old values", "new value", "history"]


# ---- PostgreSQL ----------------------------------------------------------------------------------

def test_demo_on_the_configured_server_is_quick_and_leaves_nothing_behind(place):
    started = time.monotonic()
    found = place.cli.json("demo", "--here", schema="demo")
    assert time.monotonic() - started < 10
    shows_all(found)
    assert re.match(rf"schema {MADE} of 127\.0\.0\.1:\d+/py_", found["registry"])
    assert re.match(rf"schema {MADE}_app of ", found["contacts"])
    place.is_as_before()


def test_it_says_what_it_makes_before_it_does(place):
    done = place.cli.run("demo", "--here")
    assert done.returncode == 0, told(done)
    [name] = set(re.findall(rf"schema ({MADE}) of", done.stderr.decode()))
    assert name in done.stdout.decode() and "gone again" in done.stdout.decode()
    place.is_as_before()


def test_no_schema_of_the_url_and_no_pin_or_anchor_of_the_registry_is_the_demos(database, tmp_path):
    place = Place(f"{database}?dekhand_schema=dekhand&connect_timeout=5", tmp_path)
    pin = place.cli.json("registry", "show")["registryPin"]
    before = place.found()
    place.cli.env.update(KMS_REGISTRY_PIN=pin, KMS_ANCHOR_FILE=str(place.cli.state / "anchor"))
    shows_all(place.cli.json("demo", "--here", schema="demo"))
    assert place.found()[::2] == before[::2] and place.found()[3] == before[3]


def test_the_password_is_not_shown(place):
    url = place.url.replace("dek@", "dek:dekhand-canary-b2f1c7e6-pw@")
    for url in (url, f"{url}?sslmode=wrong"):
        done = place.cli.run("demo", "--here", env={"DATABASE_URL": url, "KMS_MIGRATE_URL": url})
        assert (done.returncode == 0) == ("wrong" not in url), told(done)
        assert b"canary" not in done.stdout + done.stderr


def with_logins(server, name):
    """A database, a login of the application and one that migrates; their URLs."""
    server.psql(f"CREATE DATABASE {name}; CREATE ROLE {name}_maker LOGIN CREATEROLE;"
                f"GRANT CREATE ON DATABASE {name} TO {name}_maker")
    return server.url(name, f"{name}_app"), server.url(name, f"{name}_maker")


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_a_login_of_an_application_and_one_that_migrates(server, tmp_path, pooled):
    name = "pooled" if pooled else "direct"
    app, maker = with_logins(server, name)
    Cli(tmp_path, DATABASE_URL=maker).json("migrate")
    server.psql(f"CREATE ROLE {name}_app LOGIN IN ROLE dekhand_rw")
    superuser = Place.__new__(Place)
    superuser.url = server.url(name)
    superuser.cli = Cli(tmp_path, DATABASE_URL=app, KMS_MIGRATE_URL=maker)
    superuser.cli.ok("init")
    before = superuser.found()
    roles = server.psql("SELECT rolname FROM pg_roles ORDER BY 1")
    if pooled:
        with PgBouncer.started(server) as pool:
            superuser.cli.env.update(DATABASE_URL=pool.url(name, f"{name}_app"),
                                     KMS_MIGRATE_URL=pool.url(name, f"{name}_maker"))
            for _ in range(3):
                shows_all(superuser.cli.json("demo", "--here", schema="demo"))
    else:
        shows_all(superuser.cli.json("demo", "--here", schema="demo"))
    assert superuser.found() == before
    assert server.psql("SELECT rolname FROM pg_roles ORDER BY 1") == roles


def test_a_login_that_may_not_make_a_schema_is_told_who_may(server, tmp_path):
    app, maker = with_logins(server, "weak")
    Cli(tmp_path, DATABASE_URL=maker).json("migrate")
    server.psql("CREATE ROLE weak_app LOGIN IN ROLE dekhand_rw")
    cli = Cli(tmp_path, DATABASE_URL=app)
    cli.ok("init")
    done = cli.run("demo", "--here", "--json")
    assert done.returncode == 2 and b"E_CONFIG" in done.stderr, told(done)
    assert b"KMS_MIGRATE_URL" in done.stderr and b"dekhand_admin" in done.stderr, told(done)
    assert b'"ok":false' in done.stdout.replace(b" ", b"")
    assert server.psql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'dekhand_demo'",
                       "weak") == "0"


def test_a_server_that_is_not_there_is_told_once(cli):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://dek@127.0.0.1:{nobody.getsockname()[1]}/app"
        said = cli.fails(6, "demo", "--here", env={"DATABASE_URL": url})
    assert said.count("E_UNREACHABLE") == 1 and "DROP" not in said


@pytest.mark.parametrize("where", [r"\.key_rotation_log$", r"_app\.contacts$"])
def test_a_signal_takes_away_what_was_made(place, where):
    place.at_each_table(where, "PERFORM pg_sleep(1.5)")
    demo = place.start()
    place.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND "
                "datname = current_database()")
    demo.send_signal(signal.SIGINT)
    _, stderr = demo.communicate(timeout=30)
    assert demo.returncode == -signal.SIGINT, stderr
    assert b"stopped by SIGINT" in stderr
    place.is_as_before()


def test_a_signal_takes_away_a_registry_that_is_in_use(place):
    """It comes once the registry is committed; the demo has opened it, or is about to."""
    place.at_each_table(r"_app\.contacts$", "PERFORM pg_sleep(1)")
    demo = place.start()
    place.until(f"SELECT count(*) > 0 FROM pg_namespace WHERE nspname ~ '^{MADE}$'")
    demo.send_signal(signal.SIGTERM)
    _, stderr = demo.communicate(timeout=30)
    assert demo.returncode == -signal.SIGTERM, stderr
    place.is_as_before()


@pytest.mark.parametrize("where", [r"\.seals$", r"_app\.contacts$"])
def test_a_failure_takes_away_what_was_made(place, where):
    place.at_each_table(where, "RAISE EXCEPTION $x$none today$x$")
    done = place.cli.run("demo", "--here")
    assert done.returncode != 0 and b"none today" in done.stderr, told(done)
    assert b"FAILED init" in done.stdout and b"gone again" not in done.stdout
    place.is_as_before()


def test_what_cannot_be_taken_away_is_told(place):
    """Somebody forbids to drop anything."""
    place.at_each_table(r"_app\.contacts$", "PERFORM pg_sleep(1.5)")
    demo = place.start()
    said = demo.stderr.readline().decode()
    [schema] = set(re.findall(rf"({MADE})_app", said))
    place.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND "
                "datname = current_database()")
    place.sql("CREATE FUNCTION public.keep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
              "RAISE EXCEPTION 'it stays'; END $$; CREATE EVENT TRIGGER keep ON sql_drop "
              "EXECUTE FUNCTION public.keep()")
    stdout, stderr = demo.communicate(timeout=60)
    assert demo.returncode == 1, stderr
    assert f"DROP SCHEMA IF EXISTS {schema}_app, {schema} CASCADE".encode() in stderr
    assert b"gone again" not in stdout
    place.sql("DROP EVENT TRIGGER keep; DROP EVENT TRIGGER at_table;"
              f"DROP SCHEMA IF EXISTS {schema}_app, {schema} CASCADE;")


def test_the_lines_of_the_readme_run(server, tmp_path):
    """As they stand: where the server is and who logs in is said by libpq's own variables."""
    text = (ROOT / "README.md").read_text()
    [block] = re.findall(r"^## On PostgreSQL\n.*?^```\n(.*?)^```", text, re.M | re.S)
    cli = Cli(tmp_path).without("KMS_STATE_DIR")
    path = f"{ROOT / 'build'}:{binaries()}:{cli.env['PATH']}"
    env = dict(cli.env, PATH=path, PGHOST="127.0.0.1", PGPORT=str(server.port), PGUSER="dek")
    cli.ok("init")  # the first five minutes were on SQLite
    done = subprocess.run(["bash", "-euc", block], cwd=tmp_path, env=env, capture_output=True,
                          timeout=120, check=False)
    assert done.returncode == 0, told(done)
    assert b"All as it should be" in done.stdout
    assert server.psql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'dekhand_demo'",
                       "app") == "0"
    cli.env.update(KMS_STATE_DIR=str(cli.home / "dekhand-app"),
                   DATABASE_URL=server.url("app", "app"))
    assert cli.ok("encrypt", "--tenant", "acme", stdin=b"x").startswith(b"dk1.1.")


# ---- SQLite, and no store at all -----------------------------------------------------------------

@pytest.mark.parametrize("url", [None, "sqlite:{}/own/registry.db", "sqlite:registry.db"])
def test_on_sqlite_it_has_files_beside_the_registry(fresh, url):
    (fresh.folder / "own").mkdir()
    if url is not None:
        fresh.env["DATABASE_URL"] = url.format(fresh.folder)
    fresh.ok("init")

    def files():
        return {path: path.read_bytes() for path in fresh.folder.rglob("*") if path.is_file()}
    before = files()
    found = fresh.json("demo", "--here", schema="demo")
    shows_all(found)
    assert "dekhand-demo-" in found["registry"]
    assert files() == before
    assert not list(fresh.folder.rglob("dekhand-demo-*"))


def test_where_no_file_can_be_made_it_says_so(fresh):
    fresh.ok("init")
    said = fresh.fails(1, "demo", "--here", env={"DATABASE_URL": "sqlite:nowhere/registry.db"})
    assert said.count("E_IO") == 1 and "nowhere" in said
    assert fresh.fails(2, "demo", "--here", env={"DATABASE_URL": "mysql:x"}).count("E_CONFIG") == 1


def test_it_makes_no_master_key(fresh):
    said = fresh.fails(2, "demo", "--here")
    assert "E_NO_MASTER_KEY" in said and "dekhand init" in said
    assert not fresh.state.exists()


def test_here_and_keep_do_not_go_together(cli):
    assert "--keep" in cli.fails(2, "demo", "--here", "--keep")
