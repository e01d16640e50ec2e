"""Servers that restart, crash, hand over to a standby, are full or refuse: registries of one process
and of several go on without a restart of theirs, and nothing that was acknowledged is lost."""

import os
import signal
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest

from pg_shop import RETRYABLE, Shop, through
from servers import PgBouncer, Postgres, other_database

# Sanitized builds meet the same in test_pg_faults.py: these servers are their own, and slow.
pytestmark = pytest.mark.release
BOUND = 12


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

def test_F19_commit_that_no_standby_has_is_not_acknowledged(server, shop):
    """The server would say that it is committed as soon as its patience is over."""
    with shop.driver() as driver:
        driver.ok("open")
        driver.ok("encrypt", "old", "x")
        server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.psql("SELECT pg_reload_conf()")
        try:
            driver.tell("encrypt", "new", "x")
            answer = driver.answer()
            assert answer.code in RETRYABLE and answer.seconds < BOUND, answer
        finally:
            server.psql("ALTER SYSTEM RESET synchronous_standby_names")
            server.psql("SELECT pg_reload_conf()")
        assert shop.keep("new", driver.ask("encrypt", "new", "new")).ok
    shop.is_whole()


def test_F19_commit_whose_wait_is_cancelled_is_not_acknowledged(server, shop):
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with shop.driver() as driver:
        driver.ok("open")
        driver.ok("encrypt", "old", "x")
        server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.psql("SELECT pg_reload_conf()")
        try:
            driver.tell("encrypt", "new", "x")
            until = time.monotonic() + 4
            while "t" not in server.psql(cancel):
                assert time.monotonic() < until
            answer = driver.answer()
            assert answer.code in RETRYABLE and "standby" in answer.text, answer
        finally:
            server.psql("ALTER SYSTEM RESET synchronous_standby_names")
            server.psql("SELECT pg_reload_conf()")
        assert shop.keep("new", driver.ask("encrypt", "new", "new")).ok
    shop.is_whole()
