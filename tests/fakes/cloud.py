"""The fake of AWS and Azure for a test: starts tests/cloud.py, steers it, and ends it.

It runs under the system's Python; the program has the one of scripts/need.sh test.
"""

import json
import subprocess
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener
from urllib.error import HTTPError

TESTS = Path(__file__).resolve().parents[1]
PYTHON = TESTS.parent / "build" / "cache" / "python" / "bin" / "python"
SECONDS = 60
_open = build_opener(ProxyHandler({})).open  # whatever the caller's proxies are


class CloudError(Exception):
    """The fake did not start, or did not understand."""


def steer(control, verb, **members):
    """What the fake says at its address for that; CloudError when it does not understand."""
    request = Request(f"{control}/{verb}", json.dumps(members).encode())
    try:
        with _open(request, timeout=SECONDS) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise CloudError(f"{verb}: {error.read().decode(errors='replace')}") from None


class Cloud:
    """`env`: the addresses, names and secrets that the program printed."""

    def __init__(self, moto=False, tls_port=0, plain_port=0, launcher=()):
        """`launcher`: a command that the program is started by."""
        if not PYTHON.exists():
            raise CloudError(f"{PYTHON} is not there: scripts/need.sh test")
        self.argv = [*launcher, PYTHON, TESTS / "cloud.py", "--tls-port", str(tls_port),
                     "--plain-port", str(plain_port), *["--moto"] * moto]
        self.env, self.process = {}, None

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        try:
            while (line := self.process.stdout.readline()) != "\n":
                if not line:
                    raise CloudError("the fake did not start (what it said stands above)")
                name, _, value = line.rstrip("\n").partition("=")
                self.env[name] = value
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self.process.stdout.close()

    def control(self, verb, **members):
        """What the fake says to a verb of tests/fakes/control.py."""
        return steer(self.env["CONTROL"], verb, **members)

    def counts(self):
        """{"kms.Decrypt": n, .., "connections": n} since the last reset."""
        return self.control("counts")

    def requests(self):
        """The last 200, the oldest first."""
        return self.control("requests")["requests"]
