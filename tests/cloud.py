"""The fake of AWS and Azure, as a program: see fakes/.

Everything listens on 127.0.0.1 alone, on free ports, and lies in a temporary folder. Prints its
addresses, names and secrets as lines NAME=VALUE and then an empty line; ends at the end of its
standard input, and when the process that started it is gone. With --moto one moto server runs
beside it, with its checks of who calls off; with --only-moto nothing else.
"""

import argparse
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from ctypes import CDLL
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from fakes.callers import Callers
from fakes.certificates import Authority
from fakes.control import Control
from fakes.entra import Entra
from fakes.iam import Iam
from fakes.identity import Identity
from fakes.instance import Container, Imds
from fakes.jwts import Issuer, new_key
from fakes.kms import Kms
from fakes.sts import Sts
from fakes.vault import Vault
from fakes.wire import ADDRESS, Port
from fakes.world import World, random_id
from servers import free_port

SECONDS = 60  # in which moto has to start
LOOK_SECONDS = 0.3  # how often we look whether our starter lives
PR_SET_PDEATHSIG = 1
BAD_PORTS = {"FAKE_EXPIRED": "expired", "FAKE_WRONG_HOST": "wrong_host",
             "FAKE_SELF_SIGNED": "self_signed", "FAKE_TLS10": "tls11"}


class Fake:
    """All ports and the services behind them."""

    def __init__(self, folder, tls_port, plain_port):
        world = World(folder)
        callers, authority = Callers(world), Authority(folder)
        key, tenant = new_key(), random_id()
        workloads = Issuer(world, "https://oidc.dekhand.example", key)  # a cluster
        directory = Issuer(world, f"https://sts.windows.net/{tenant}/", key)
        entra = Entra(world, directory, workloads, tenant)
        services = [Kms(world, callers), Sts(world, callers, workloads), Iam(world, callers),
                    Imds(world, callers), Container(world, callers), entra, Vault(world, directory, tenant),
                    Identity(world, entra)]
        world.serving = {service.service: service for service in services}
        plain = Port(world, plain_port, control=Control(world, callers))
        tls = Port(world, tls_port, authority.context("good"))
        self.environment = {
            "FAKE_TLS": _https(tls), "FAKE_PLAIN": f"http://{ADDRESS}:{plain.port}",
            "FAKE_CA": authority.path, "AZURE_VAULT": _https(tls),
            **{name: _https(Port(world, 0, authority.context(what)))
               for name, what in BAD_PORTS.items()},
            "CONTROL": f"http://{ADDRESS}:{plain.port}/_control"}
        for service in services:
            self.environment.update(service.environment())


def _https(port):
    return "https://localhost" + (f":{port.port}" if port.port != 443 else "")


class Moto:
    """moto's server, as a process that ends with this one."""

    def __init__(self, folder):
        self.port = free_port()
        self.log = folder / "moto.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from moto.server import main; main()", "-H", ADDRESS,
                 "-p", str(self.port)], cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, preexec_fn=lambda: CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.environment = {"MOTO": f"http://{ADDRESS}:{self.port}"}

    def wait(self):
        end, ask = time.monotonic() + SECONDS, build_opener(ProxyHandler({})).open
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(URLError, OSError):
                ask(self.environment["MOTO"] + "/moto-api/data.json", timeout=5).close()
                return
            time.sleep(0.02)
        sys.exit(f"moto did not start\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def await_end(parent):
    """Until nobody holds the other end of standard input, or who started us is gone."""
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], LOOK_SECONDS)
        if ready and not os.read(sys.stdin.fileno(), 4096):
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moto", action="store_true", help="a moto server too")
    parser.add_argument("--only-moto", action="store_true", help="a moto server, and no fake")
    parser.add_argument("--tls-port", type=int, default=0)
    parser.add_argument("--plain-port", type=int, default=0)
    options = parser.parse_args()
    parent = os.getppid()
    with suppress(PermissionError):  # it leads a group already
        os.setsid()  # killing the starter's process group must not keep us from clearing up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="dekhand-cloud."))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        moto = Moto(folder) if options.moto or options.only_moto else None
        environment = {}
        if moto is not None:
            cleanup.callback(moto.stop)
        if not options.only_moto:
            environment = Fake(folder, options.tls_port, options.plain_port).environment
        if moto is not None:
            moto.wait()
            environment.update(moto.environment)
        for name, value in environment.items():
            print(f"{name}={value}")
        print(flush=True)
        threading.Thread(target=__import__, args=("botocore.auth",), daemon=True).start()
        await_end(parent)


if __name__ == "__main__":
    main()
