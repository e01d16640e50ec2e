"""A cut at every message of PostgreSQL's protocol, in both ways; `make check` takes samples."""

import time

import pytest

from pg_cuts import Close, Decrypt, FirstUse, Open, Rotate, cut_everywhere
from pg_proxy import HOLE, Proxy
from pg_shop import Shop, port_of, through
from servers import new_database


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("kind", [Open, FirstUse, Rotate, Decrypt, Close])
def test_F18_connection_is_cut_at_every_message(postgres, tmp_path, kind, phase):
    with new_database(postgres) as url:
        shop = Shop(tmp_path, url)
        with Proxy(port_of(url)) as proxy:
            cut_everywhere(kind(shop, proxy), proxy, 1, phase)
        shop.is_whole()


def test_F18_locks_of_a_client_that_is_gone_end(postgres, tmp_path):
    """Nothing was heard of it in the middle of a transaction."""
    with new_database(postgres) as url:
        shop = Shop(tmp_path, url)
        with Proxy(port_of(url)) as proxy, shop.driver() as driver, \
                shop.driver(through(url, proxy.port)) as gone:
            for each in (driver, gone):
                each.ok("open")
            shop.keep("a", driver.ask("encrypt", "a", "a"))
            rule = proxy.at("client", "P", 1, HOLE, holding=b"statement_timeout = 0")
            gone.tell("rotate", "a")
            assert rule.wait()
            until = time.monotonic() + 40
            assert driver.ask("rotate", "a").code == "E_BUSY"
            while not driver.ask("rotate", "a").ok:
                assert time.monotonic() < until
        shop.is_whole()
