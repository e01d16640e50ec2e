"""The servers and the proxy that other tests lean on do what they say."""

import os
import re
import socket
import struct
import subprocess
import sys
import time

import pytest

from cli_tool import ROOT
from pg_proxy import FIN, HOLE, RST, Delay, Proxy
from servers import (PgBouncer, Postgres, ServerError, binaries, new_database, other_database,
                     psql)

pytestmark = pytest.mark.release  # once: nothing in it comes from a build


@pytest.fixture(scope="module")
def server():
    with Postgres.started() as found:
        yield found


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as found:
        yield found


def fails(url, sql="SELECT 1", timeout=60):
    """What psql says of an error."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        psql(url, sql, timeout)
    return error.value.stderr


# ---- PostgreSQL ---------------------------------------------------------------------------------

def test_database_is_new_and_gone_afterwards(postgres, database):
    assert psql(database, "CREATE TABLE t AS SELECT 7 AS a; SELECT a FROM t") == "7"
    with new_database(postgres) as other:
        assert "does not exist" in fails(other, "SELECT * FROM t")
    assert "does not exist" in fails(other)
    assert psql(other_database(database, "postgres"), "SELECT 1") == "1"


def test_killed_server_starts_again_with_what_was_committed(server):
    port = server.port
    server.psql("CREATE TABLE k AS SELECT 1 AS a")
    server.kill()
    assert not server.running and "refused" in fails(server.url())
    server.restart()
    assert server.port == port and server.psql("SELECT a FROM k") == "1"
    server.restart("immediate")
    assert server.psql("SELECT a FROM k") == "1"


def test_server_that_cannot_start_says_why():
    with pytest.raises(ServerError, match="no_such_setting"):
        Postgres.started("no_such_setting = 1\n")


def test_standby_follows_and_takes_over(server):
    with server.standby("sb1") as standby:
        server.psql("CREATE TABLE s AS SELECT 5 AS a")
        server.await_standby("sb1")
        assert standby.psql("SELECT a, pg_is_in_recovery() FROM s") == "5|t"
        assert "read-only" in fails(standby.url(), "INSERT INTO s VALUES (6)")
        server.kill()
        standby.promote()
        both = f"postgresql://dek@127.0.0.1:{server.port},127.0.0.1:{standby.port}/postgres"
        url = both + "?target_session_attrs=read-write"
        assert psql(url, "INSERT INTO s VALUES (6); SELECT sum(a) FROM s") == "11"
    server.restart()
    server.psql("SELECT pg_drop_replication_slot('sb1')")


# A process that starts a server is killed; servers end with it.
STARTER = """
import os, signal, sys
from servers import Postgres
server = Postgres.started()
print(server.process.pid, server.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_server_ends_with_its_starter():
    done = subprocess.run([sys.executable, "-c", STARTER], capture_output=True, text=True,
                          cwd=ROOT / "tests", timeout=60, check=False)
    pid, folder = done.stdout.split()
    until = time.monotonic() + 30
    while time.monotonic() < until and "postmaster.pid" in os.listdir(f"{folder}/data"):
        time.sleep(0.02)
    assert not os.path.exists(f"{folder}/data/postmaster.pid")
    assert not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read()
    subprocess.run(["rm", "-rf", folder], check=True)


# ---- PgBouncer ----------------------------------------------------------------------------------

def test_pool_shares_its_connections(server):
    server.psql("CREATE ROLE clerk LOGIN")
    with PgBouncer.started(server, default_pool_size=1) as pool:
        backends = {psql(pool.url(), "SELECT pg_backend_pid()") for _ in range(3)}
        assert len(backends) == 1
        assert psql(pool.url(user="clerk"), "SELECT current_user") == "clerk"
        assert "transaction" in psql(pool.url("pgbouncer"), "SHOW POOLS")
        pool.stop()
        assert "refused" in fails(pool.url())
        pool.start()
        assert psql(pool.url(), "SELECT 1") == "1"


# ---- the proxy ----------------------------------------------------------------------------------

@pytest.fixture
def table(server):
    server.psql("DROP TABLE IF EXISTS p; CREATE TABLE p (a int)")
    return lambda: int(server.psql("SELECT count(*) FROM p"))


INSERT = "INSERT INTO p VALUES (1)"


def test_messages_go_through_and_are_named(server, proxy):
    big = "x" * 300_000
    assert psql(proxy.url(), f"SELECT '{big}'") == big
    await_no_clients(server)
    kinds = [kind for direction, kind in proxy.trace if direction == "client"]
    assert kinds == ["ssl", "startup", "Q", "X"]
    kinds = [kind for direction, kind in proxy.trace if direction == "server"]
    assert kinds[:2] == ["answer", "R"] and kinds[-4:] == ["T", "D", "C", "Z"]


@pytest.mark.parametrize("how", [FIN, RST])
@pytest.mark.parametrize("direction,kind,forward,rows", [
    ("client", "Q", False, 0),  # the server never hears of it
    ("client", "Q", True, 1),  # the server does it, and cannot say so
    ("server", "C", False, 1),  # the answer is lost
])
def test_connection_is_cut_at_a_message(server, proxy, table, how, direction, kind, forward, rows):
    rule = proxy.at(direction, kind, 2, how, forward)
    assert psql(proxy.url(), "SELECT 1") == "1" and not rule.hit
    told = fails(proxy.url(), INSERT)
    assert rule.hit and "connection to server was lost" in told
    await_no_clients(server)
    assert table() == rows
    assert psql(proxy.url(), "SELECT 2") == "2"  # a rule happens once


def await_no_clients(server):
    until = time.monotonic() + 30
    sql = """SELECT count(*) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    while server.psql(sql) != "0":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_message_is_late(proxy, table):
    proxy.at("server", "C", 1, Delay(0.4))
    began = time.monotonic()
    psql(proxy.url(), INSERT)
    assert time.monotonic() - began >= 0.4 and table() == 1


def test_hole_swallows_and_stays_open(server, proxy, table):
    rule = proxy.at("server", "C", 1, HOLE)
    client = subprocess.Popen([binaries() / "psql", "-Xqc", INSERT, proxy.url()],
                              stderr=subprocess.PIPE, text=True)
    assert rule.wait()
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(0.3)
    assert table() == 1
    assert psql(proxy.url(), "SELECT 3") == "3"  # other connections go on
    assert proxy.cut_all() >= 1
    assert client.wait(30) != 0 and "lost" in client.stderr.read()
    await_no_clients(server)


def test_new_connections_are_refused_ignored_admitted(server, proxy):
    proxy.refuse()
    assert "Connection refused" in fails(proxy.url())
    proxy.ignore()
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.settimeout(0.3)
        client.send(struct.pack(">II", 8, 80877103))
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert proxy.cut_all() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    proxy.admit()
    assert psql(proxy.url(), "SELECT 1") == "1"
    with socket.socket() as nobody:  # bound, and does not listen
        nobody.bind(("127.0.0.1", 0))
        proxy.target = nobody.getsockname()[1]
        assert re.search("reset by peer|closed the connection unexpectedly", fails(proxy.url()))
    proxy.target = server.port
    assert psql(proxy.url(), "SELECT 1") == "1"
