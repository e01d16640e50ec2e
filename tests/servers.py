"""PostgreSQL, PgBouncer and a proxy between them and a client, for the tests.

Everything listens on 127.0.0.1 alone, on a free port, and lies in a temporary folder. The servers
run as an ordinary user (both refuse root), and end with the process that started them, also when
that is killed. Run as a program this file starts one PostgreSQL server and a PgBouncer before it,
prints the URL of the one's database `postgres` and the other's address, a line each, and stops them
at the end of its standard input: so the C tests do it.
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
POOL = 3  # connections of each database that many clients share in turns
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
dynamic_shared_memory_type = mmap  # /dev/shm is not everywhere, or not for everybody
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


def _hear_signals():
    """What a shell starts in the background is deaf to two of them, and so would be its children."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class _Server:
    """A program in a folder of its own, which belongs to the user that runs it."""

    def __init__(self, what):
        self.folder = Path(tempfile.mkdtemp(prefix=f"dekhand-{what}."))
        self.log = self.folder / "log"
        self.process = None
        self._before = 0
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
            self._before = log.tell()  # what earlier runs wrote
            self.process = subprocess.Popen(
                _as_ordinary_user(argv, "--pdeathsig=QUIT"), cwd=self.folder, env=_environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_hear_signals)

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
        self.extra = settings
        self.data = self.folder / "data"
        self.port = None

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

    def kill(self):
        """The machine is gone: SIGKILL to all its processes at once."""
        postmaster = self.process.pid
        os.kill(postmaster, signal.SIGSTOP)  # it starts none while we look
        pids = _children(postmaster)
        super().kill()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _until(lambda: not any(map(_is_alive, pids)), f"{self.folder.name}: kill")

    def restart(self, mode="fast"):
        """After a kill or a stop it only starts."""
        if self.running:
            self.stop(mode)
        self.start()

    # ---- a standby ----

    def standby(self, name):
        """A new one that runs and follows this one, with a slot of that name."""
        other = Postgres(self.extra + f"cluster_name = '{name}'\n")
        try:
            other._run([binaries() / "pg_basebackup", "-D", other.data, "-h", ADDRESS,
                        "-p", self.port, "-U", USER, "-R", "-X", "stream", "-C", "-S", name,
                        "--no-sync", "-c", "fast"])
            other._configure()
            other.start()
        except BaseException:
            other.close()
            raise
        return other

    def await_standby(self, name):
        """Until it has replayed all that is committed here by now."""
        now = self.psql("SELECT pg_current_wal_lsn()")
        _until(lambda: self.psql(f"SELECT replay_lsn >= '{now}' FROM pg_stat_replication "
                                 f"WHERE application_name = '{name}'") == "t",
               f"{self.folder.name}: standby {name}")

    def until_alone(self):
        """Until a standby gets nothing any more: who it follows was taken from its settings."""
        _until(lambda: self.psql("SELECT count(*) FROM pg_stat_wal_receiver") == "0",
               f"{self.folder.name}: alone")

    def promote(self):
        """Makes a standby take writes; it follows nobody any more."""
        self.psql("SELECT pg_promote(wait_seconds => 60)")

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
        self._configure()

    def _configure(self):
        (self.data / "postgresql.conf").write_text(SETTINGS + self.extra)


class PgBouncer(_Server):
    """A pool in transaction mode before a server; any database and any role of that one."""

    def __init__(self, server, default_pool_size=2, settings=""):
        super().__init__("pgbouncer")
        self.port = None
        self.target = server.port
        self.settings = f"""
[pgbouncer]
listen_addr = {ADDRESS}
unix_socket_dir =
auth_type = trust
auth_file = {self.folder}/users
auth_user = {USER}
admin_users = {USER}
pool_mode = transaction
default_pool_size = {default_pool_size}
max_client_conn = 500
query_wait_timeout = 3
server_login_retry = 1
pidfile = {self.folder}/pid
{settings}
"""

    @classmethod
    def started(cls, server, default_pool_size=2, settings=""):
        """A new one that runs. `settings`: more lines of its file."""
        pool = cls(server, default_pool_size, settings)
        try:
            pool.start()
        except BaseException:
            pool.close()
            raise
        return pool

    def start(self):
        """Starts it, on the port it had before."""
        (self.folder / "users").write_text(f'"{USER}" ""\n')
        for _ in range(1 if self.port else TRIES):
            port = self.port or free_port()
            (self.folder / "ini").write_text(
                f"[databases]\n* = host={ADDRESS} port={self.target}\n"
                f"{self.settings}listen_port = {port}\n")
            (self.folder / "pid").unlink(missing_ok=True)
            self._spawn([_pgbouncer(), self.folder / "ini"])
            _until(lambda: not self.running or self._is_ready(port), f"{self.folder.name}: start")
            if self.running:
                self.port = port
                return
        raise self._error("did not start")

    def _is_ready(self, port):
        told = self.log.read_bytes()[self._before:].decode(errors="replace")
        return f"listening on {ADDRESS}:{port}" in told and "process up" in told

    def stop(self):
        """At once: who is connected is cut off."""
        self._signal(signal.SIGQUIT)

    def point_at(self, server):
        """From now on before another server; who is connected is cut off."""
        self.target = server.port
        self.stop()
        self.start()

    @property
    def address(self):
        return f"{ADDRESS}:{self.port}"

    def url(self, database="postgres", user=USER):
        """Database `pgbouncer` is its console."""
        return f"postgresql://{user}@{self.address}/{database}"


def _pgbouncer():
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:" + os.environ.get("PATH", ""))
    if found is None:
        raise ServerError("PgBouncer is not installed: scripts/need.sh test")
    return found


# ---- processes ----------------------------------------------------------------------------------

def _stat(pid):
    """The fields after the name in /proc/PID/stat: state, parent, ..; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # before the open, or after it
        return []


def _children(pid):
    return [int(path.name) for path in Path("/proc").iterdir()
            if path.name.isdigit() and _stat(path.name)[1:2] == [str(pid)]]


def _is_alive(pid):
    return _stat(pid)[:1] not in ([], ["Z"])


# ---- SQL ----------------------------------------------------------------------------------------

def psql(url, sql, timeout=SECONDS):
    """Runs SQL with psql; its rows as text, columns between `|`. CalledProcessError has stderr."""
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
    """One server and its pool for whoever holds the other end of standard input."""
    with suppress(PermissionError):  # it leads a group already
        os.setsid()  # killing the starter's process group must not keep us from clearing up
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with Postgres.started() as server, PgBouncer.started(
            server, POOL, f"query_wait_timeout = {SECONDS}") as pool:
        print(server.url(), pool.address, sep="\n", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve()
