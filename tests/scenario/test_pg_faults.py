"""PostgreSQL fails in the middle of a call: the call ends in time, with a value or a typed error;
the process goes on afterwards, nothing that was acknowledged is lost, and the log is whole."""

import os
import signal
import time
from contextlib import ExitStack, contextmanager

import pytest

from pg_cuts import Close, Decrypt, FirstUse, Open, Rotate, cut_everywhere, cut_init
from pg_proxy import FIN, HOLE, RST, Proxy
from pg_shop import BOUND, RETRYABLE, SANITIZED, Shop, port_of, session, through
from servers import new_database


@pytest.fixture
def shop(postgres, tmp_path):
    with new_database(postgres) as url:
        yield Shop(tmp_path, url)


@pytest.fixture
def proxy(shop):
    with Proxy(port_of(shop.url)) as found:
        yield found


# ---- at each message ----------------------------------------------------------------------------

@pytest.mark.parametrize("kind,step", [(Open, 13), (FirstUse, 3), (Rotate, 7), (Decrypt, 5),
                                       (Close, 13)])
def test_F18_connection_is_cut_at_each_message(shop, proxy, kind, step):
    """Odd steps meet every kind of message; tests/soak/test_pg_cuts.py cuts at all of them."""
    cut_everywhere(kind(shop, proxy), proxy, step * 8 - 1 if SANITIZED else step, 0)
    shop.is_whole()


@pytest.mark.parametrize("n", range(0, 5))
def test_F18_F23_init_is_cut_and_repeated(postgres, tmp_path, n):
    """Nothing of it stays but the master key, or all of it."""
    cut_init(postgres, tmp_path, (0.02, 0.3, 0.55, 0.8, 0.97)[n], (FIN, RST)[n % 2])


# ---- COMMIT -------------------------------------------------------------------------------------

COMMIT = b"COMMIT\0"


@pytest.mark.parametrize("how", [FIN, RST])
@pytest.mark.parametrize("direction,kind,stored", [
    ("client", "P", False),  # the server never hears of it
    ("client", "S", True),  # it does it, and the client has not asked for an answer
    ("server", "C", True),  # the answer is lost
])
def test_F18_commit_in_doubt_is_asked_for(shop, proxy, direction, kind, stored, how):
    with shop.driver(through(shop.url, proxy.port)) as driver:
        driver.ok("open")
        for n, call in enumerate((("encrypt", "new", "x"), ("rotate", "new"))):
            rule = at_commit(proxy, direction, kind, how)
            answer = driver.ask(*call)
            assert rule.hit
            assert answer.ok if stored else (
                answer.code == "E_UNREACHABLE" and "nothing was stored" in answer.text), answer
            assert shop.sql("SELECT count(*) FROM encryption_keys") == str(n + stored)
            if not stored:
                driver.ok(*call)
        shop.keep("new", driver.ask("encrypt", "new", "x"), "x")
    assert shop.sql("SELECT next_version FROM tenants") == "3"
    shop.is_whole()


def at_commit(proxy, direction, kind, how):
    """The first message of that kind that is about a COMMIT; of S, that comes after one."""
    if kind == "S":
        return proxy.at(direction, kind, 1, how, behind=COMMIT)
    return proxy.at(direction, kind, 1, how, holding=COMMIT)


# ---- whoever has to wait ------------------------------------------------------------------------

def hole(direction, kind, n, **more):
    """Silence on one connection, from its n-th such message on."""
    @contextmanager
    def trouble(_shop, proxy):
        proxy.at(direction, kind, n, HOLE, **more)
        yield
        proxy.cut_all()
    return trouble


@contextmanager
def silence(_shop, proxy):
    """Nobody answers."""
    proxy.ignore()
    proxy.silence()
    yield
    proxy.admit()
    proxy.cut_all()


@contextmanager
def stopped(shop, proxy):
    """The processes of the server that serve this one stand still."""
    pids = [int(pid) for pid in shop.sql(PIDS.format(proxy.port)).split()]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


PIDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dekhand-{}'"


def locked(sql):
    """Another session holds it."""
    @contextmanager
    def trouble(shop, _proxy):
        with session(shop.url, "SET search_path = dekhand; BEGIN; " + sql):
            yield
    return trouble


@contextmanager
def slow(shop, _proxy):
    """Storing tenant g takes a minute."""
    yield
    shop.sql(SLEEPS.format(0))


SLEEPS = """CREATE OR REPLACE FUNCTION public.sleeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({}); RETURN NEW; END $$"""
SLOW = SLEEPS.format(60) + """; CREATE TRIGGER sleeps BEFORE INSERT ON tenants FOR EACH ROW
WHEN (NEW.tenant_id = 'g') EXECUTE FUNCTION public.sleeps()"""

# Half of a first use, that is neither committed nor rolled back.
HALF = """INSERT INTO tenants (tenant_id, next_version, epoch, row_mac)
          SELECT 'crowd' || n, 2, 1, 'x' FROM generate_series(0, 23) n"""

WAITS = [
    # The one connection is silent: another is made.
    ("encrypt a a", hole("server", "Z", 1), ("OK",)),
    ("decrypt known {}", hole("client", "P", 1), ("OK",)),
    ("encrypt b b", stopped, ("OK",)),
    # In the middle of a transaction; of a COMMIT that is stored, and of one that is not.
    ("encrypt c c", hole("server", "C", 1, holding=b"INSERT 0 1"), RETRYABLE),
    ("encrypt d d", hole("server", "C", 1, holding=COMMIT), ("OK",)),
    ("encrypt e e", hole("client", "P", 1, holding=COMMIT), RETRYABLE),
    ("encrypt f f", silence, RETRYABLE),
    ("decrypt known {}", silence, RETRYABLE),
    ("rotate known", silence, RETRYABLE),
    ("close", silence, RETRYABLE + ("OK",)),
    ("encrypt g g", slow, ("E_BUSY",)),
    # That a rotation failed cannot be written down either: two waits.
    ("rotate known", locked("SELECT 1 FROM tenants WHERE tenant_id = 'known' FOR UPDATE"),
     ("E_BUSY",)),
    ("many 24 crowd 0 24", locked(HALF), ("E_BUSY",)),  # more threads than connections
]


def test_F18_F22_R22_who_waits_is_told_in_time(shop):
    """Each in a process of its own, all at once."""
    with shop.driver() as first:
        first.ok("open")
        known = shop.keep("known", first.ask("encrypt", "known", "known"))
    shop.sql(SLOW)
    with ExitStack() as stack:
        running = []
        for call, trouble, codes in WAITS:
            proxy = stack.enter_context(Proxy(port_of(shop.url)))
            url = through(shop.url, proxy.port) + f"?application_name=dekhand-{proxy.port}"
            driver = stack.enter_context(shop.driver(url))
            driver.ok("open")
            running.append((call.format(known.text), driver, codes,
                            stack.enter_context(ExitStack()), trouble(shop, proxy)))
        for call, driver, _, until, trouble in running:
            until.enter_context(trouble)
            driver.tell(call)
        for call, driver, codes, until, _ in running:
            answers = driver.answers() if "many" in call else {"": driver.answer()}
            for answer in answers.values():
                assert answer.code in codes and answer.seconds < BOUND, (call, answer)
            until.close()
        time.sleep(1)  # a server that did not answer is asked again after a second
        for n, (call, driver, *_) in enumerate(running):
            heals(shop, driver, call, f"after{n}")
    shop.sql("DROP TRIGGER sleeps ON tenants")
    shop.is_whole()


def heals(shop, driver, call, tenant):
    if call == "close":
        driver.ok("open")
    if call.startswith("encrypt"):
        shop.keep(call[-1], driver.ask(*call.split(" ")))
        assert (call[-1], call[-1]) in shop.values.values()
    if call.startswith("many"):
        driver.tell(call)
        for name, answer in driver.answers().items():
            assert shop.keep(name, answer).ok, answer
    assert shop.keep(tenant, driver.ask("encrypt", tenant, tenant)).ok
    assert driver.end() == 0


# ---- connections that die while nobody uses them ------------------------------------------------

KILL_ALL = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE application_name = 'dekhand' AND datname = current_database()"""


@pytest.mark.parametrize("how", ["server", FIN, RST])
def test_F18_idle_connections_that_died_are_not_noticed(shop, proxy, how):
    with shop.driver(through(shop.url, proxy.port)) as driver:
        driver.ok("open")
        for round_ in range(6):
            driver.tell("many", 8, f"r{round_}.", 0, 24)
            for tenant, answer in driver.answers().items():
                assert shop.keep(tenant, answer).ok, (round_, tenant, answer)
            if how == "server":
                assert shop.sql(KILL_ALL) != "0"
            else:
                assert proxy.cut_all(how) > 0
            time.sleep(0.02 * (round_ % 3))  # the news is not there yet, or is
        assert driver.ok("rotate", "r0.0") == "2"
    shop.is_whole()


# ---- errors of the server -----------------------------------------------------------------------

# What a trigger does to the row of a tenant.
RAISES = """CREATE FUNCTION public.breaks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
AS $$ BEGIN {what}; RETURN NEW; END $$;
CREATE TRIGGER breaks AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION
public.breaks()"""


@pytest.mark.parametrize("what,code,exit_code", [
    ("RAISE 'x' USING ERRCODE = '40001'", "E_BUSY", 6),
    ("RAISE 'x' USING ERRCODE = '40P01'", "E_BUSY", 6),
    ("RAISE 'x' USING ERRCODE = '55P03'", "E_BUSY", 6),
    ("RAISE 'x' USING ERRCODE = '57P01'", "E_UNREACHABLE", 6),
    ("RAISE 'x' USING ERRCODE = '53100'", "E_STORE", 1),
    ("RAISE 'x' USING ERRCODE = '53200'", "E_STORE", 1),
    ("RAISE 'x' USING ERRCODE = 'XX001'", "E_STORE", 1),
    ("PERFORM pg_terminate_backend(pg_backend_pid())", "E_UNREACHABLE", 6),
])
@pytest.mark.parametrize("table", ["tenants", "key_rotation_log"])
def test_F21_F22_server_fails_in_the_middle(shop, table, what, code, exit_code):
    shop.values[shop.cli.ok("encrypt", "--tenant", "old", stdin=b"old").decode().strip()] = (
        "old", "old")
    with shop.driver() as driver:
        driver.ok("open")
        driver.ok("encrypt", "old", "x")
        before = shop.sql(STATE)
        shop.sql(RAISES.format(what=what, table=table))
        for call in (("encrypt", "new", "x"), ("rotate", "old")):
            answer = driver.ask(*call)
            assert answer.code == code and answer.seconds < BOUND, (call, answer)
        done = shop.cli.run("rotate", "--tenant", "old")
        assert done.returncode == exit_code, done
        assert shop.sql(STATE) == before
        shop.sql(f"DROP TRIGGER breaks ON {table}")
        shop.keep("new", driver.ask("encrypt", "new", "new"))
        assert driver.ok("rotate", "old") == "2"
    shop.is_whole()


STATE = """SELECT tenant_id, version, state, epoch FROM encryption_keys
           JOIN tenants USING (tenant_id) ORDER BY 1, 2"""


# ---- two at once --------------------------------------------------------------------------------

def test_F21_new_tenants_in_opposite_order(shop):
    """Two processes make the same tenants in batches."""
    with shop.driver() as one, shop.driver() as two:
        for each in (one, two):
            each.ok("open")
        for first in range(0, 600, 200):
            one.tell("batch", "t", first, first + 200)
            two.tell("batch", "t", first + 200, first)
            for each in (one, two):
                for tenant, answer in each.answers().items():
                    assert shop.keep(tenant, answer).ok, answer
    assert shop.sql("SELECT count(*) FROM encryption_keys") == "600"
    shop.is_whole()


# ---- fork ---------------------------------------------------------------------------------------

def test_F18_a_child_has_connections_of_its_own(shop):
    """And the parent's sessions go on: they are the same as before."""
    mine = """SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity
              WHERE application_name = 'dekhand' AND datname = current_database()"""
    with shop.driver() as driver:
        driver.ok("open")
        driver.tell("many", 8, "p", 0, 40)
        for tenant, answer in driver.answers().items():
            assert shop.keep(tenant, answer).ok
        before = shop.sql(mine)
        assert before
        for n in range(3):
            shop.keep(f"c{n}", driver.ask("fork", "encrypt", f"c{n}", f"c{n}"))
            shop.keep(f"q{n}", driver.ask("encrypt", f"q{n}", f"q{n}"))
        assert driver.ask("fork", "close").ok
        assert set(before.split(",")) <= set(shop.sql(mine).split(","))
        driver.tell("many", 8, "s", 0, 40)
        for tenant, answer in driver.answers().items():
            assert shop.keep(tenant, answer).ok
    shop.is_whole()
