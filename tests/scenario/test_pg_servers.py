"""Servers that restart, crash, hand over to a standby, or refuse: the processes that use them go on
without a restart of their own, and nothing that was acknowledged is lost."""

import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from cli_tool import ROOT, told
from pg_proxy import HOLE, Proxy
from pg_shop import BOUND, RETRYABLE, Shop, through
from servers import PgBouncer, Postgres, binaries, free_port, other_database

# Sanitized builds meet the same in test_pg_faults.py: these servers are their own, and slow.
pytestmark = pytest.mark.release


@pytest.fixture(scope="module")
def server():
    with Postgres.started() as found:
        yield found


@pytest.fixture
def shop(server, tmp_path):
    with shop_on(server, tmp_path) as found:
        yield found


@contextmanager
def shop_on(server, folder, url=None):
    """On a database of its own. `url`: by which way, of a server's port."""
    name = f"s{time.monotonic_ns():x}"
    server.psql(f"CREATE DATABASE {name}")
    folder.mkdir(exist_ok=True)
    shop = Shop(folder, other_database(server.url(), name))
    yield shop


def goes_on(shop, driver, prefix, n=40):
    """All of them are encrypted, by 8 threads."""
    driver.tell("many", 8, prefix, 0, n)
    for tenant, answer in driver.answers().items():
        assert shop.keep(tenant, answer).ok, (tenant, answer)


def takes_part(shop, driver, prefix, n, seconds=60):
    """Some fail, with a typed error, in time."""
    failed = 0
    for tenant, answer in driver.answers(seconds).items():
        shop.keep(tenant, answer)
        assert answer.ok or answer.code in RETRYABLE, (tenant, answer)
        assert answer.seconds < BOUND, (tenant, answer)
        failed += not answer.ok
    return failed


# ---- restarts -----------------------------------------------------------------------------------

def kill_a_process(server):
    """The server gets over it by itself, and forgets what was not yet on disk."""
    pid = server.psql("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'dekhand'")
    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("how", [
    lambda server: server.restart("fast"), lambda server: server.restart("immediate"),
    lambda server: (server.kill(), server.start()), kill_a_process,
], ids=["fast", "immediate", "killed", "process"])
def test_F18_server_restarts_under_load(server, shop, how):
    with shop.driver(KMS_POLL_SECONDS="1") as driver:
        driver.ok("open")
        goes_on(shop, driver, "before")
        driver.tell("many", 8, "t", 0, 600)
        time.sleep(0.3)
        how(server)
        failed = takes_part(shop, driver, "t", 600)
        until = time.monotonic() + 20
        while not driver.ask("encrypt", "healed", "x").ok:
            assert time.monotonic() < until
        goes_on(shop, driver, "t", 600)
        assert driver.ok("rotate", "t0") == "2"
        assert failed > 0, "the load was over before"
    shop.is_whole()


def test_F18_pooler_restarts_under_load(server, shop):
    with PgBouncer.started(server, default_pool_size=4) as pool:
        with shop.driver(through(shop.url, pool.port), KMS_POLL_SECONDS="1") as driver:
            driver.ok("open")
            driver.tell("many", 8, "t", 0, 600)
            time.sleep(0.3)
            pool.stop()
            time.sleep(0.2)
            pool.start()
            assert takes_part(shop, driver, "t", 600) > 0
            goes_on(shop, driver, "t", 600)
    shop.is_whole()


# ---- a standby that has to have it -------------------------------------------------------------

@contextmanager
def waiting_for_nobody(server):
    """A COMMIT waits for a standby that is not there."""
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.psql("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        server.psql("ALTER SYSTEM RESET synchronous_standby_names")
        server.psql("SELECT pg_reload_conf()")


def test_F19_commit_that_no_standby_has_is_waited_for(server, shop):
    """A timeout of the server's would make it say that it is committed, on this server alone."""
    waits = """SELECT extract(epoch FROM max(now() - query_start)) > 4.7 FROM pg_stat_activity
               WHERE wait_event = 'SyncRep'"""
    with shop.driver() as driver:
        driver.ok("open")
        driver.ok("encrypt", "old", "x")
        with waiting_for_nobody(server):
            driver.tell("encrypt", "new", "new")
            time.sleep(4.8)
            assert server.psql(waits) == "t"
        answer = shop.keep("new", driver.answer())
        assert answer.ok and answer.seconds < BOUND
    shop.is_whole()


def test_F19_commit_whose_wait_is_cancelled_is_not_acknowledged(server, shop):
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with shop.driver() as driver:
        driver.ok("open")
        driver.ok("encrypt", "old", "x")
        with waiting_for_nobody(server):
            driver.tell("encrypt", "new", "x")
            until = time.monotonic() + 4
            while "t" not in server.psql(cancel):
                assert time.monotonic() < until
            answer = driver.answer()
            assert answer.code in RETRYABLE and "standby" in answer.text, answer
        assert shop.keep("new", driver.ask("encrypt", "new", "new")).ok
    shop.is_whole()


# ---- failover -----------------------------------------------------------------------------------

@contextmanager
def pair(synchronous):
    """A server and its standby `sb1`."""
    with Postgres.started() as primary, primary.standby("sb1") as standby:
        if synchronous:
            primary.psql("ALTER SYSTEM SET synchronous_standby_names = 'sb1'")
            primary.psql("SELECT pg_reload_conf()")
            primary.await_standby("sb1")
        yield primary, standby


def both(url, primary, standby):
    """The URL with two servers."""
    return url.replace(f"127.0.0.1:{primary.port}",
                       f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}")


class Rotator:
    """Rotates tenants one after another until it is told to stop."""

    def __init__(self, driver, tenants):
        self.driver = driver
        self.tenants = tenants
        self.known = {}  # tenant: the newest version that was acknowledged
        self.answers = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        n = 0
        while not self._stop.is_set():
            tenant = self.tenants[n % len(self.tenants)]
            answer = self.driver.ask("rotate", tenant)
            self.answers.append(answer)
            if answer.ok:
                self.known[tenant] = int(answer.text)
            n += 1

    def stop(self):
        self._stop.set()
        self._thread.join(60)


def test_F19_failover_to_a_synchronous_standby_loses_nothing(tmp_path):
    """4 processes of 16 threads make 1,000 new tenants, two through a pooler that is pointed at the
    standby afterwards and two that know both servers; another rotates; the primary dies."""
    with pair(synchronous=True) as (primary, standby), \
            shop_on(primary, tmp_path) as shop, \
            PgBouncer.started(primary, default_pool_size=8) as pool:
        pooled, two = through(shop.url, pool.port), both(shop.url, primary, standby)
        drivers = [shop.driver(url, KMS_POLL_SECONDS="1") for url in (pooled, pooled, two, two)]
        rotating = shop.driver(two, KMS_POLL_SECONDS="1")
        for driver in (*drivers, rotating):
            driver.ok("open")
        goes_on(shop, rotating, "r", 20)
        rotator = Rotator(rotating, [f"r{n}" for n in range(20)])
        for n, driver in enumerate(drivers):
            driver.tell("many", 16, f"t{n}.", 0, 250)
        time.sleep(0.7)
        primary.kill()
        standby.promote()
        pool.point_at(standby)
        failed = [takes_part(shop, driver, f"t{n}.", 250) for n, driver in enumerate(drivers)]
        assert len(shop.values) > 20 and all(failed), failed
        shop.move(standby)
        until = time.monotonic() + 20
        for n, driver in enumerate(drivers):
            while not driver.ask("encrypt", f"h{n}", "x").ok:
                assert time.monotonic() < until
            goes_on(shop, driver, f"t{n}.", 250)
        rotator.stop()
        goes_on(shop, rotating, "r", 20)
        assert all(answer.ok or answer.code in (*RETRYABLE, "E_CONFLICT")
                   for answer in rotator.answers)
        there = dict(line.split("|") for line in shop.sql(
            "SELECT tenant_id, version FROM encryption_keys WHERE state = 'active'").split("\n"))
        assert rotator.known and all(int(there[tenant]) >= version
                                     for tenant, version in rotator.known.items())
        assert shop.sql("SELECT count(*) FROM tenants") == "1024"
        for driver in (*drivers, rotating):
            assert driver.end() == 0
        shop.is_whole()


def test_F19_failover_that_loses_the_last_commits(tmp_path):
    """Who saw more than there is says so and encrypts no more, until it is accepted."""
    with pair(synchronous=False) as (primary, standby), shop_on(primary, tmp_path) as shop:
        with shop.driver(both(shop.url, primary, standby), KMS_POLL_SECONDS="1") as driver:
            driver.ok("open")
            old = {tenant: shop.keep(tenant, driver.ask("encrypt", tenant, tenant)).text
                   for tenant in ("a", "b")}
            driver.ok("tick")
            primary.await_standby("sb1")
            standby.psql("ALTER SYSTEM SET primary_conninfo = ''")
            standby.psql("SELECT pg_reload_conf()")
            standby.until_alone()
            lost = driver.ok("encrypt", "lost", "x")
            assert driver.ok("rotate", "a") == "2"
            newer = driver.ok("encrypt", "a", "x")
            for _ in range(2):  # it seals, and sees that
                time.sleep(1.1)
                driver.ok("tick")
            primary.kill()
            standby.promote()
            shop.move(standby)
            time.sleep(1.1)
            driver.ask("tick")
            for tenant in ("a", "b", "lost", "new"):
                answer = driver.ask("encrypt", tenant, "x")
                assert answer.code == "E_ROLLBACK", (tenant, answer)
            for tenant, value in old.items():
                assert driver.ok("decrypt", tenant, value) == tenant
            for tenant, value in (("lost", lost), ("a", newer)):
                answer = driver.ask("decrypt", tenant, value)
                assert answer.code in ("E_ROLLBACK", "E_UNKNOWN_VERSION", "E_NOT_FOUND"), answer
            done = shop.cli.run("audit", "verify")
            assert done.returncode == 7 and b"seal" in done.stdout, done
            shop.cli.ok("registry", "accept-restore", "--confirm",
                        shop.sql("SELECT registry_uuid FROM registry"))
            time.sleep(1.1)
            driver.ask("tick")
            for tenant in ("a", "b", "lost", "new"):
                assert shop.keep(tenant, driver.ask("encrypt", tenant, tenant)).ok
            assert driver.end() == 0
        shop.is_whole()


def test_F19_numbers_of_transactions_that_come_again_hide_no_change(tmp_path):
    """The process has seen higher ones than those of the change, and more than there were."""
    with pair(synchronous=False) as (primary, standby), shop_on(primary, tmp_path) as shop:
        with shop.driver(both(shop.url, primary, standby), KMS_POLL_SECONDS="1") as driver:
            driver.ok("open")
            shop.keep("a", driver.ask("encrypt", "a", "a"))
            driver.ok("tick")
            primary.await_standby("sb1")
            standby.psql("ALTER SYSTEM SET primary_conninfo = ''")
            standby.psql("SELECT pg_reload_conf()")
            standby.until_alone()
            burn(primary, 300)
            time.sleep(1.1)
            driver.ok("tick")
            primary.kill()
            standby.promote()
            shop.move(standby)
            shop.cli.ok("rotate", "--tenant", "a")
            burn(standby, 600)
            time.sleep(1.1)
            driver.ok("tick")
            assert driver.ok("encrypt", "a", "a").startswith("dk1.2.")
        shop.is_whole()


def burn(server, n):
    """Takes numbers of transactions."""
    server.psql("BEGIN; SELECT pg_current_xact_id(); ROLLBACK;" * n)


@pytest.mark.parametrize("how", ["process", "immediate"])
def test_F19_a_crash_gives_numbers_out_again(server, shop, how):
    """Of transactions that wrote nothing; the process has seen them as done."""
    late = shop.url + "?options=-csynchronous_commit%3Doff"  # what it writes down brings nothing
    with shop.driver(late, KMS_POLL_SECONDS="1") as driver, \
            shop.driver(KMS_POLL_SECONDS="1") as leader:
        for each in (leader, driver):
            each.ok("open")
        shop.keep("a", driver.ask("encrypt", "a", "a"))
        server.psql("ALTER SYSTEM SET wal_writer_delay = '10s'")
        server.psql("SELECT pg_reload_conf()")
        again = [numbers_come_again(server, shop, driver, leader, how, version)
                 for version in (2, 3)]
    assert any(again), "something brought them to the disk each time"
    shop.is_whole()


def rotate_when_it_can(cli):
    """A server of which a process was killed may answer once more before it goes."""
    for _ in range(100):
        done = cli.run("rotate", "--tenant", "a")
        if done.returncode != 6:
            break
        time.sleep(0.1)
    assert done.returncode == 0, told(done)


def numbers_come_again(server, shop, driver, leader, how, version):
    """Whether they did; the change is seen."""
    time.sleep(1.1)
    leader.ask("tick")  # it seals: a commit, which brings all before it to the disk
    server.psql("CHECKPOINT")
    before = int(server.psql("SELECT pg_current_xact_id()"))
    burn(server, 300)
    driver.ok("tick")
    kill_a_process(server) if how == "process" else server.restart("immediate")
    until_it_answers(server)
    rotate_when_it_can(shop.cli)
    changed = int(shop.sql("SELECT changed_xid FROM tenants WHERE tenant_id = 'a'"))
    burn(server, 600)
    time.sleep(1.1)
    driver.ok("tick")
    assert driver.ok("encrypt", "a", "a").startswith(f"dk1.{version}.")
    return changed < before + 300


def test_F18_F19_commit_in_doubt_is_not_taken_for_another_s(server, shop):
    """The server crashes before it hears of a COMMIT, and gives its number to somebody else."""
    with Proxy(server.port) as proxy, shop.driver(through(shop.url, proxy.port)) as driver:
        driver.ok("open")
        shop.keep("a", driver.ask("encrypt", "a", "a"))
        server.psql("ALTER SYSTEM SET wal_writer_delay = '10s'")
        server.psql("SELECT pg_reload_conf()")
        rule = proxy.at("client", "P", 1, HOLE, holding=b"COMMIT\0")
        driver.tell("rotate", "a")
        assert rule.wait()
        doubtful = int(server.psql("SELECT max(backend_xid::text::int) FROM pg_stat_activity"))
        server.restart("immediate")
        server.psql("SELECT pg_current_xact_id();" * 20)
        assert server.psql(f"SELECT pg_xact_status('{doubtful}')") == "committed"
        proxy.cut_all()
        answer = driver.answer()
        assert answer.code == "E_UNREACHABLE" and "not known" in answer.text, answer
        assert driver.ok("rotate", "a") == "2"
    shop.is_whole()


def until_it_answers(server):
    until = time.monotonic() + 20
    while True:
        try:
            return server.psql("SELECT 1")
        except subprocess.CalledProcessError:
            assert time.monotonic() < until
            time.sleep(0.05)


# ---- a copy in another server -------------------------------------------------------------------

def copied(shop, other):
    """Puts the registry into another server as it is; the last moment of which its log tells."""
    dump = subprocess.run([binaries() / "pg_dump", "-n", "dekhand", shop.url],
                          check=True, capture_output=True, text=True).stdout
    before = shop.sql("SELECT now()::timestamp")
    other.psql("CREATE ROLE dekhand_admin; CREATE ROLE dekhand_rw; CREATE ROLE dekhand_worker")
    subprocess.run([binaries() / "psql", "-q", "-v", "ON_ERROR_STOP=1", other.url()],
                   input=dump, check=True, stdout=subprocess.DEVNULL, text=True)
    shop.url = shop.cli.env["DATABASE_URL"] = other.url()
    return before.replace(" ", "T") + "Z"


@contextmanager
def two_tenants(server, folder):
    """On a server that has given out many numbers."""
    burn(server, 3000)
    with shop_on(server, folder) as shop:
        for tenant in "ab":
            value = shop.cli.ok("encrypt", "--tenant", tenant, stdin=b"x").decode().strip()
            shop.values[value] = (tenant, "x")
        shop.cli.ok("cache", "clear")
        yield shop


def raise_numbers(server):
    """As docs/OPERATIONS.md says it."""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text()
    is_lower, wanted = re.findall(r"`(SELECT max\(pg_snapshot_xmax\(snapshot\)\).*?)`", text)
    assert "`pg_resetwal --epoch=N -D DATA`" in text
    assert server.psql(is_lower) == "t"
    epoch = server.psql(wanted)
    server.stop()
    server._run([binaries() / "pg_resetwal", f"--epoch={epoch}", "-D", server.data])
    server.start()
    assert server.psql(is_lower) == "f"


def test_I26_a_copy_in_a_server_with_lower_numbers(server, tmp_path):
    """What moved is sealed once, and no row of the log is deleted by numbers of another server."""
    heads = "SELECT heads FROM seals ORDER BY n DESC LIMIT 1"
    with two_tenants(server, tmp_path) as shop, Postgres.started() as other:
        before = copied(shop, other)
        for tenant, again in (("a", True), ("b", False)):
            shop.cli.ok("encrypt", "--tenant", tenant, stdin=b"x")
            assert ("tenant b" in shop.sql(heads)) is again
        rows = shop.sql("SELECT count(*) FROM key_rotation_log")
        for raised in (False, True):  # it is too late once there is a seal with lower numbers
            if raised:
                raise_numbers(other)
            done = shop.cli.run("audit", "prune", "--before", before)
            assert done.returncode != 0 and b"copied to this server" in done.stderr, done
            assert shop.sql("SELECT count(*) FROM key_rotation_log") == rows
        shop.is_whole()


def test_I26_a_copy_whose_server_s_numbers_were_raised_can_be_pruned(server, tmp_path):
    with two_tenants(server, tmp_path) as shop, Postgres.started() as other:
        before = copied(shop, other)
        raise_numbers(other)
        shop.cli.ok("encrypt", "--tenant", "b", stdin=b"x")
        rows = int(shop.sql("SELECT count(*) FROM key_rotation_log"))
        shop.cli.ok("audit", "prune", "--before", before)
        assert int(shop.sql("SELECT count(*) FROM key_rotation_log")) < rows - 3
        shop.is_whole()


# ---- a standby ----------------------------------------------------------------------------------

def test_F20_I07_a_replica_that_is_behind_makes_no_tenant(tmp_path):
    """Nor one that it does not know; what it knows it reads."""
    with pair(synchronous=False) as (primary, standby), shop_on(primary, tmp_path) as shop, \
            ExitStack() as stack:
        known = shop.cli.ok("encrypt", "--tenant", "known", stdin=b"known").decode().strip()
        primary.await_standby("sb1")
        standby.psql("SELECT pg_wal_replay_pause()")
        pool = stack.enter_context(PgBouncer.started(standby))
        with shop.driver(through(shop.url, pool.port)) as driver:
            driver.ok("open")
            newer = shop.cli.ok("encrypt", "--tenant", "newer", stdin=b"newer").decode().strip()
            assert driver.ok("decrypt", "known", known) == "known"
            for tenant in ("known", "newer", "nobody"):  # it may have been rotated meanwhile
                answer = driver.ask("encrypt", tenant, "x")
                assert answer.code == "E_LEASE", (tenant, answer)
            answer = driver.ask("decrypt", "newer", newer)
            assert answer.code in ("E_UNKNOWN_VERSION", "E_NOT_FOUND"), answer
            answer = driver.ask("rotate", "known")
            assert answer.code == "E_READ_ONLY", answer
            with shop.driver(through(shop.url, standby.port)) as later:  # its anchor is ahead
                later.ok("open")
                for tenant in ("known", "newer", "nobody"):
                    assert later.ask("encrypt", tenant, "x").code == "E_LEASE"
                assert later.ok("decrypt", "known", known) == "known"
            standby.psql("SELECT pg_wal_replay_resume()")
            primary.await_standby("sb1")
            assert driver.ok("decrypt", "newer", newer) == "newer"
        shop.values.update({known: ("known", "known"), newer: ("newer", "newer")})
        assert shop.sql("SELECT count(*) FROM tenants") == "2"
        shop.is_whole()


@pytest.mark.parametrize("table", ["tenants", "encryption_keys", "both"])
def test_F20_I07_rows_that_are_hidden_are_not_new_tenants(shop, table):
    """By row level security, which answers with nothing."""
    value = shop.cli.ok("encrypt", "--tenant", "a", stdin=b"a").decode().strip()
    tables = ("tenants", "encryption_keys") if table == "both" else (table,)
    hides = "CREATE POLICY hides ON {} AS RESTRICTIVE FOR SELECT TO dekhand_rw USING (false)"
    with shop.driver() as driver:
        for name in tables:
            shop.sql(hides.format(name))
        driver.ok("open")
        answer = driver.ask("encrypt", "a", "x")
        assert not answer.ok, answer
        print(table, answer)
        assert shop.sql("SELECT count(*) FROM encryption_keys") == "1"
        for name in tables:
            shop.sql(f"DROP POLICY hides ON {name}")
        shop.keep("a", driver.ask("encrypt", "a", "a"))
    shop.values[value] = ("a", "a")
    assert len(shop.values) == 2
    shop.is_whole()


# ---- no connection left -------------------------------------------------------------------------

def test_F22_a_server_with_too_many_clients(tmp_path):
    with Postgres.started("max_connections = 10\n") as server, shop_on(server, tmp_path) as shop:
        with shop.driver() as driver:
            driver.ok("open")
            shop.keep("a", driver.ask("encrypt", "a", "a"))
            server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'dekhand'")
            others = [client(server) for _ in range(10)]
            answer = driver.ask("encrypt", "b", "b")
            assert answer.code == "E_BUSY" and "too many" in answer.text, answer
            done = shop.cli.run("encrypt", "--tenant", "c", stdin=b"c")
            assert done.returncode == 6 and b"too many" in done.stderr, done
            for other in others:
                other.close()
            until = time.monotonic() + 10
            while not shop.keep("b", driver.ask("encrypt", "b", "b")).ok:
                assert time.monotonic() < until
        shop.is_whole()


def client(server):
    """A session that does nothing, or is refused."""
    other = socket.create_connection(("127.0.0.1", server.port))
    named = b"user\0dek\0database\0postgres\0\0"
    other.sendall(struct.pack(">II", 8 + len(named), 196608) + named)
    other.recv(1)
    return other


def test_F22_of_several_servers_the_one_that_failed_is_named(server, shop):
    dead = free_port()
    for ports, named in (((dead, server.port), server.port), ((server.port, dead), dead)):
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        done = shop.cli.run("encrypt", "--tenant", "a", stdin=b"a",
                            env={"DATABASE_URL": f"postgresql://dek@{hosts}/no_such_database"})
        assert done.returncode in (2, 6) and f"127.0.0.1:{named}/".encode() in done.stderr, done


# ---- TLS ----------------------------------------------------------------------------------------

def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Two authorities, and the certificate that the first gave to db.test."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=db.test",
            "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName = DNS:db.test\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem")
    return folder


@pytest.fixture(scope="module")
def tls_server(authority):
    with Postgres.started() as server:
        for name in ("server.key", "server.pem"):
            path = server.data / name
            path.write_bytes((authority / name).read_bytes())
            path.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(path, server.data.stat().st_uid, server.data.stat().st_gid)
        for name, value in (("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"),
                            ("ssl", "on")):
            server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
        server.restart()
        yield server


def tls_url(shop, name, ca):
    return shop.url.replace("127.0.0.1", name) + (
        f"?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={ca}")


def test_F18_sessions_over_tls_survive_a_fork(tls_server, authority, tmp_path):
    """And a child has its own."""
    sessions = """SELECT string_agg(pid::text, ',') FROM pg_stat_activity JOIN pg_stat_ssl
                  USING (pid) WHERE application_name = 'dekhand' AND ssl"""
    with shop_on(tls_server, tmp_path) as shop, \
            shop.driver(tls_url(shop, "db.test", authority / "ca.pem")) as driver:
        driver.ok("open")
        goes_on(shop, driver, "a")
        before = set(tls_server.psql(sessions).split(","))
        assert before != {""}
        assert shop.keep("child", driver.ask("fork", "encrypt", "child", "child")).ok
        assert driver.ask("fork", "close").ok
        goes_on(shop, driver, "b")
        assert before <= set(tls_server.psql(sessions).split(","))
        shop.is_whole()


@pytest.mark.parametrize("name,ca,said,todo", [
    ("other.test", "ca.pem", "does not match host name", "use the name that its certificate has"),
    ("db.test", "other.pem", "certificate verify failed", "sslrootcert=FILE"),
    ("db.test", "nothing.pem", "does not exist", "sslrootcert=FILE"),
])
def test_F18_a_server_that_proves_nothing_is_refused(tls_server, authority, tmp_path, name, ca,
                                                    said, todo):
    with shop_on(tls_server, tmp_path) as shop:
        url = tls_url(shop, name, authority / ca)
        done = shop.cli.run("encrypt", "--tenant", "a", stdin=b"a", env={"DATABASE_URL": url})
        assert done.returncode == 2 and "E_CONFIG" in done.stderr.decode(), done
        assert said in done.stderr.decode() and todo in done.stderr.decode(), done


def test_F18_a_server_without_tls_is_refused(server, shop):
    done = shop.cli.run("encrypt", "--tenant", "a", stdin=b"a",
                        env={"DATABASE_URL": shop.url + "?sslmode=require"})
    assert done.returncode == 2 and b"does not support SSL" in done.stderr, done
