"""A registry on PostgreSQL in which something fails: who works in it, what they were told, and that
nothing of it is lost."""

import re
import subprocess
from contextlib import contextmanager

from cli_tool import Cli, told
from driver_tool import DRIVER, Driver
from servers import binaries, psql

SANITIZED = DRIVER.parts[-4] != "build"  # and slow
BOUND = 20 if SANITIZED else 12  # seconds in which every call ends
RETRYABLE = ("E_UNREACHABLE", "E_BUSY")
NEVER = {"KMS_POLL_SECONDS": "3000", "KMS_LEASE_SECONDS": "3600"}  # no look-out comes between


class Shop:
    """A registry, those who work in it, and what they were told."""

    def __init__(self, folder, url, **env):
        self.url = url
        self.cli = Cli(folder, DATABASE_URL=url, **env)
        self.values = {}  # value: (tenant, text)
        self.cli.ok("init")

    def driver(self, url=None, **env):
        return Driver({**self.cli.env, **NEVER, **env, "DATABASE_URL": url or self.url})

    def sql(self, text):
        return psql(self.url, "SET search_path = dekhand; " + text)

    def move(self, server):
        """To another server, that has taken over."""
        self.url = through(self.url, server.port)
        self.cli.env["DATABASE_URL"] = self.url

    def keep(self, tenant, answer, text=None):
        if answer.ok:
            self.values[answer.text] = (tenant, text or tenant)
        return answer

    def is_whole(self):
        """A fresh process reads all that was acknowledged; one active version each; the log."""
        with self.driver() as fresh:
            fresh.ok("open")
            for value, (tenant, text) in self.values.items():
                assert fresh.ok("decrypt", tenant, value) == text
        assert self.sql("SELECT tenant_id FROM encryption_keys GROUP BY tenant_id "
                        "HAVING count(*) FILTER (WHERE state = 'active') <> 1") == ""
        done = self.cli.run("audit", "verify")
        assert done.returncode == 0, told(done)


def port_of(url):
    return int(re.search(r":(\d+)/", url)[1])


def through(url, port):
    """The URL with another port."""
    return re.sub(r":\d+/", f":{port}/", url)


@contextmanager
def session(url, sql):
    """Somebody's session that has run this and stays open."""
    other = subprocess.Popen([binaries() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        other.stdin.write(sql + "; SELECT 'ready';\n")
        other.stdin.flush()
        assert any(line == "ready\n" for line in other.stdout)
        yield other
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
