"""A cut at every message of PostgreSQL's protocol, in both ways; `make check` takes samples."""

import pytest

from pg_cuts import Close, Decrypt, FirstUse, Open, Rotate, cut_everywhere
from pg_proxy import Proxy
from pg_shop import Shop, port_of
from servers import new_database


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("kind", [Open, FirstUse, Rotate, Decrypt, Close])
def test_F18_connection_is_cut_at_every_message(postgres, tmp_path, kind, phase):
    with new_database(postgres) as url:
        shop = Shop(tmp_path, url)
        with Proxy(port_of(url)) as proxy:
            cut_everywhere(kind(shop, proxy), proxy, 1, phase)
        shop.is_whole()
