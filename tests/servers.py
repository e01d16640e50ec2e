"""PostgreSQL, PgBouncer and a proxy between them and a client, for the tests.

Everything listens on 127.0.0.1 alone, on a free port, and lies in a temporary folder. The servers
run as an ordinary user (both refuse root), and end with the process that started them, also when
that is killed. Run as a program this file starts one PostgreSQL server, prints the URL of its
database `postgres`, and stops it at the end of its standard input: so the C tests do it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ADDRESS = "127.0.0.1"
USER = "dek"  # the superuser of each server
ORDINARY_USER = 65534
SECONDS = 60  # in which a server has to start or to stop
TRIES = 5  # of a free port, which somebody else may take before us

SETTINGS = f"""
listen_addresses = '{ADDRESS}'
unix_socket_directories = ''
max_connections = 200
max_prepared_transactions = 4
max_wal_senders = 4
wal_level = replica
max_wal_size = 128MB
shared_buffers = 64MB
huge_pages = off
# What follows would be wrong anywhere but here: nothing has to survive the machine.
fsync = off
full_page_writes = off
"""


class ServerError(Exception):
    """A server did not do what it was asked to; the text holds its log."""


def binaries():
    """The folder of PostgreSQL's programs; the newest of several."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin")
             if path.parent.name.isdigit() and (path / "initdb").exists()]
    if not found:
        raise ServerError("PostgreSQL is not installed: scripts/need.sh test")
    return max(found, key=lambda path: int(path.parent.name))


def free_port():
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        return found.getsockname()[1]


def _environment():
    """The caller's without what libpq and the servers would take from it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _as_ordinary_user(argv, *options):
    drop = [f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", "--clear-groups"]
    return ["setpriv", *options, *(drop if os.geteuid() == 0 else []), *map(str, argv)]


def _until(done, what, seconds=SECONDS):
    """Asks `done` until it answers; the answer."""
    end = time.monotonic() + seconds
    while not (answer := done()):
        if time.monotonic() > end:
            raise ServerError(f"{what}: not within {seconds} s")
        time.sleep(0.01)
    return answer


class _Server:
    """A program in a folder of its own, which belongs to the user that runs it."""

    def __init__(self, what):
        self.folder = Path(tempfile.mkdtemp(prefix=f"dekhand-{what}."))
        self.log = self.folder / "log"
        self.process = None
        if os.geteuid() == 0:
            os.chown(self.folder, ORDINARY_USER, ORDINARY_USER)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops it and removes its folder."""
        try:
            if self.running:
                self.kill()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def _spawn(self, argv):
        """Out of reach of the terminal's Ctrl-C; ends when this process does."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                _as_ordinary_user(argv, "--pdeathsig=QUIT"), cwd=self.folder, env=_environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _signal(self, number):
        self.process.send_signal(number)
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise self._error(f"did not end within {SECONDS} s") from None

    def kill(self):
        self._signal(signal.SIGKILL)

    def _error(self, text):
        told = self.log.read_text(errors="replace") if self.log.exists() else ""
        return ServerError(f"{self.folder.name} {text}\n{told[-4000:]}")


class Postgres(_Server):
    """A PostgreSQL server; anybody on this machine may log in, as any user there is."""

    STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

    def __init__(self, settings=""):
        super().__init__("pg")
        self.settings = SETTINGS + settings
        self.data = self.folder / "data"
        self.port = None
        self.primary = None  # of a standby

    @classmethod
    def started(cls, settings=""):
        """A new one that runs."""
        server = cls(settings)
        try:
            server._initdb()
            server.start()
        except BaseException:
            server.close()
            raise
        return server

    # ---- life ----

    def start(self):
        """Starts it, on the port it had before."""
        tries = 1 if self.port else TRIES
        for _ in range(tries):
            port = self.port or free_port()
            if self._start_on(port):
                self.port = port
                return
        raise self._error("did not start")

    def _start_on(self, port):
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._spawn([binaries() / "postgres", "-D", self.data, "-p", port])
        _until(lambda: not self.running or self._is_ready(), f"{self.folder.name}: start")
        return self.running

    def _is_ready(self):
        """The server says so in a line of its lock file, as it says it to pg_ctl."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() in ("ready", "standby")

    def stop(self, mode="fast"):
        """`smart` waits for its clients, `fast` sends them away, `immediate` is a crash."""
        self._signal(self.STOP[mode])

    def close(self):
        try:
            if self.running:
                self.stop("immediate")
        finally:
            super().close()

    # ---- clients ----

    def url(self, database="postgres", user=USER):
        return f"postgresql://{user}@{ADDRESS}:{self.port}/{database}"

    def psql(self, sql, database="postgres", user=USER):
        """Runs SQL; its rows as text, columns between `|`."""
        return psql(self.url(database, user), sql)

    # ---- inner ----

    def _run(self, argv):
        done = subprocess.run(_as_ordinary_user(argv), cwd=self.folder, env=_environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=SECONDS, check=False)
        if done.returncode != 0:
            raise ServerError(f"{argv[0].name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _initdb(self):
        self._run([binaries() / "initdb", "-D", self.data, "-U", USER, "-A", "trust", "--no-sync",
                   "-E", "UTF8", "--locale=C"])
        with open(self.data / "postgresql.conf", "a", encoding="ascii") as conf:
            conf.write(self.settings)


# ---- SQL ----------------------------------------------------------------------------------------

def psql(url, sql, timeout=SECONDS):
    """Runs SQL with psql; its rows as text, columns between `|`. CalledProcessError says why not."""
    done = subprocess.run([binaries() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url],
                          input=sql, env={**_environment(), "PGCONNECT_TIMEOUT": "20"},
                          capture_output=True, text=True, timeout=timeout, check=True)
    return done.stdout.rstrip("\n")


def other_database(url, name):
    """The URL of another database of that server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def new_database(url):
    """The URL of a new database on the server of `url`; dropped afterwards."""
    name = f"py_{os.getpid()}_{time.monotonic_ns():x}"
    psql(url, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield other_database(url, name)
    finally:
        psql(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


# ---- as a program -------------------------------------------------------------------------------

def serve():
    """One server for whoever holds the other end of standard input."""
    with suppress(PermissionError):  # it leads a group already
        os.setsid()  # killing the starter's process group must not keep us from clearing up
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with Postgres.started() as server:
        print(server.url(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve()
