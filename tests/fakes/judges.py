"""Runs the vendors' own clients against the fake: what they take for true, ours may too.

A judge (judge_*.py) is a program for the virtual environment with a function for each thing that it
looks at, check_*; it gets the fake's environment and says what became of each. As a program this
file runs one in a network of its own, where the services' names are ours and port 443 is free.
"""

import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fakes.cloud import PYTHON, TESTS, Cloud, steer  # noqa: E402  (found by the line above)

SECONDS = 60
HOSTS = ("dekhand.vault.azure.net", "login.microsoftonline.com", "kms.us-east-1.amazonaws.com",
         "sts.us-east-1.amazonaws.com", "iam.amazonaws.com", "localhost")
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def path_of(judge):
    return TESTS / "fakes" / f"judge_{judge}.py"


def checks_of(judge):
    """The names of what a judge looks at."""
    return re.findall(r"^def check_(\w+)", path_of(judge).read_text(), re.M)


def ask(judge, env):
    """{name: what went wrong, or nothing} of all that it looks at."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("AWS_", "AZURE_", "IDENTITY_")) and "proxy" not in name.lower()}
    done = subprocess.run([PYTHON, path_of(judge)], env={**kept, **env}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=SECONDS, check=False)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise AssertionError(f"{judge}: {done.stdout}{done.stderr}") from None


def answer(checks, control):
    """What a judge's program does with its names: each check on a fake as at the start."""
    told = {}
    for name, check in list(checks.items()):
        if name.startswith("check_"):
            steer(control, "reset")
            try:
                check()
                told[name.removeprefix("check_")] = ""
            except Exception:  # whatever the vendors' clients throw
                told[name.removeprefix("check_")] = traceback.format_exc()
    print(json.dumps(told))


# ---- in a network of its own --------------------------------------------------------------------

def _root_is_a_mount():
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split()[4] == "/" for line in mounts)


def ask_elsewhere(judge, folder):
    """As `ask`, on a fake of its own, under the services' own names; None where that cannot be."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in HOSTS))
    flags = ["--net", "--mount", *["--map-root-user"] * (os.geteuid() != 0),
             # In a chroot / is no mount, whose propagation could be changed.
             *["--propagation", "unchanged"] * (not _root_is_a_mount())]
    if os.geteuid() != 0 and subprocess.run(["unshare", *flags, "true"], capture_output=True,
                                            check=False).returncode != 0:
        return None
    done = subprocess.run(["unshare", *flags, sys.executable, __file__, judge, hosts],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{judge}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main():
    judge, hosts = sys.argv[1:]
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    with Cloud(tls_port=443) as cloud:
        print(json.dumps(ask(judge, {**cloud.env, "REAL_NAMES": "1"})))


if __name__ == "__main__":
    main()
