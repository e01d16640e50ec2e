"""Calls of the library through a proxy, and a cut at each message of theirs."""

from cli_tool import Cli, told
from pg_proxy import FIN, RST, Proxy
from pg_shop import BOUND, RETRYABLE, port_of, through
from servers import new_database, psql


class Calls:
    """One kind of call, as often as it is wanted, each on a tenant that was not seen before."""

    def __init__(self, shop, proxy):
        self.shop = shop
        self.driver = shop.driver(through(shop.url, proxy.port))
        self.n = 0
        with shop.driver() as other:
            other.ok("open")
            other.tell("batch", "t", 0, 600)
            self.value = {tenant: shop.keep(tenant, answer).text
                          for tenant, answer in other.answers().items()}
            assert other.end() == 0

    def before(self):
        if self.n == 0:
            self.driver.ok("open")
        self.n += 1

    def call(self):
        raise NotImplementedError

    def again(self):
        """After a failure."""
        return self.call()


class Open(Calls):
    def before(self):
        if self.n > 0:
            self.driver.ok("close")
        self.n += 1

    def call(self):
        return self.driver.ask("open")


class Close(Calls):
    """With something to write: counts, and what no seal has yet."""

    def before(self):
        self.driver.ok("open")
        self.n += 1
        self.driver.ok("encrypt", f"t{self.n}", "x")

    def call(self):
        return self.driver.ask("close")

    def again(self):
        """It frees everything, also when it fails."""
        self.driver.ok("open")
        return self.call()


class FirstUse(Calls):
    def call(self):
        tenant = f"new{self.n}"
        return self.shop.keep(tenant, self.driver.ask("encrypt", tenant, tenant))


class Rotate(Calls):
    def call(self):
        return self.driver.ask("rotate", f"t{self.n}")


class Decrypt(Calls):
    def call(self):
        tenant = f"t{self.n}"
        answer = self.driver.ask("decrypt", tenant, self.value[tenant])
        assert not answer.ok or answer.text == tenant
        return answer


def messages_of(calls, proxy):
    """How many each end sends, of a call that nothing happens to."""
    calls.before()
    begin = len(proxy.trace)
    assert calls.call().ok
    seen = [direction for direction, _ in proxy.trace[begin:]]
    return {direction: seen.count(direction) for direction in ("client", "server")}


def cut_everywhere(calls, proxy, step, phase):
    """FIN and RST in turn; `phase` 1: RST first."""
    with calls.driver:
        for direction, count in messages_of(calls, proxy).items():
            hit = [cut_at(calls, proxy, direction, n, (FIN, RST)[(n // step + phase) % 2])
                   for n in range(1, count + 1, step)]
            assert all(hit[:-8]), "the messages are not those that were counted"


def cut_at(calls, proxy, direction, n, how):
    """The call with a cut, and the same again if it failed."""
    calls.before()
    rule = proxy.at(direction, None, n, how)
    answer = calls.call()
    proxy.forget_rules()
    assert answer.ok or answer.code in RETRYABLE, (direction, n, how, answer)
    assert answer.seconds < BOUND, (direction, n, how, answer)
    if not answer.ok:
        again = calls.again()
        assert again.ok, (direction, n, how, answer, again)
    return rule.hit


TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'dekhand'"


def cut_init(postgres, folder, part, how):
    """`dekhand init` with a cut after that part of its messages, and again."""
    with new_database(postgres) as url, new_database(postgres) as other, \
            Proxy(port_of(url)) as proxy:
        (folder / "whole").mkdir()
        Cli(folder / "whole", DATABASE_URL=through(other, proxy.port)).ok("init")
        count = sum(direction == "server" for direction, _ in proxy.trace)
        cli = Cli(folder, DATABASE_URL=through(url, proxy.port))
        rule = proxy.at("server", None, 1 + int(part * count), how)
        done = cli.run("init")
        assert rule.hit and done.returncode in (0, 6), told(done)
        proxy.forget_rules()
        assert psql(url, TABLES) in ("0", psql(other, TABLES))
        cli.ok("init")
        value = cli.ok("encrypt", "--tenant", "a", stdin=b"a")
        assert cli.ok("decrypt", "--tenant", "a", stdin=value) == b"a"
        cli.ok("audit", "verify")
