"""What another program can do to the program while it holds keys, and what it does without files."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import cli_tool
from cli_tool import Cli

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Tries what a debugger does; prints what it was allowed to.
PEEP = """
import ctypes, sys
pid = int(sys.argv[1])
for name in ("mem", "environ", "maps"):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            file.read(1 if name != "mem" else 0)
        print(name)
    except OSError:
        pass
if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0:
    print("ptrace")
"""


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def start(program, args, env, **more):
    """A process that waits for its input, past its first steps."""
    process = subprocess.Popen([program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=env, **more)
    deadline = time.monotonic() + 60
    while not waits_for_input(process.pid):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        os.sched_yield()
    return process


def waits_for_input(pid):
    """It sleeps, and standard input is what it sleeps for: read(0, ..)."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 ")


def end(process):
    process.kill()
    process.communicate()


@pytest.mark.release
def test_F04_R30_a_segmentation_fault_leaves_no_core(cli):
    def allow_cores():
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    process = start(cli_tool.PROGRAM, ["encrypt", "--tenant", "acme"], cli.env, cwd=cli.folder,
                    preexec_fn=allow_cores)
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    before = set(cli.folder.iterdir())
    process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)
    assert set(cli.folder.iterdir()) == before
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M)


@pytest.fixture
def of_nobody(tmp_path_factory):
    """The program and a state that belong to an ordinary user."""
    with tempfile.TemporaryDirectory(prefix="dekhand-") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "dekhand")
        shutil.copy(cli_tool.PROGRAM, program)
        home = Path(folder, "home")
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        cli = Cli(home)
        os.chown(cli.home, NOBODY, NOBODY)
        cli.program = str(program)
        done = subprocess.run([program, "init"], env=cli.env, cwd="/", preexec_fn=become_nobody,
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        yield cli


def peep(pid):
    done = subprocess.run(["/usr/bin/env", "python3", "-c", PEEP, str(pid)], cwd="/",
                          preexec_fn=become_nobody, capture_output=True, timeout=60, check=True)
    return set(done.stdout.decode().split())


@pytest.mark.release
@pytest.mark.parametrize("user", ["who runs this", pytest.param("nobody", marks=AS_ROOT)])
@pytest.mark.parametrize("limit_kib", [0, 64, 2048, None])
def test_F06_the_doctor_tells_of_locked_memory_what_the_kernel_does(of_nobody, cli, user,
                                                                    limit_kib):
    """Whatever root may or may not in the container that this is."""
    place, program = cli, cli_tool.PROGRAM
    if user == "nobody":
        place, program = of_nobody, of_nobody.program
    most = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = most if limit_kib is None else limit_kib * 1024
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)  # it cannot be raised here

    def prepare():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        if user == "nobody":
            become_nobody()

    def run(*args, **env):
        return subprocess.run([program, *args], env={**place.env, **env}, cwd="/", timeout=60,
                              input=b"x", preexec_fn=prepare, capture_output=True, check=False)

    found = json.loads(run("doctor", "--json").stdout)
    [memory] = [check for check in found["checks"] if check["name"] == "memory"]
    run("encrypt", "--tenant", "acme", KMS_ROTATION_DAYS="1", KMS_WARNING_DAYS="0")
    hook = run("health", "--exec", "grep VmLck /proc/$PPID/status").stderr  # its key is due
    locked = int(re.search(rb"VmLck:\s+(\d+) kB", hook)[1])
    if memory["level"] == "ok":
        assert locked >= int(re.match(r"(\d+) KiB", memory["text"])[1])
    elif "has room for" in memory["text"]:
        assert 0 < locked <= limit // 1024
    else:
        assert locked == 0 and memory["level"] == "note"
        assert f"the memory lock limit is {limit_kib} KiB" in memory["text"]


@AS_ROOT
@pytest.mark.release
def test_F06_even_a_process_of_the_same_user_cannot_look_in(of_nobody):
    other = start("/bin/cat", [], of_nobody.env, cwd="/", preexec_fn=become_nobody)
    ours = start(of_nobody.program, ["encrypt", "--tenant", "acme"], of_nobody.env, cwd="/",
                 preexec_fn=become_nobody)
    assert "environ" in peep(other.pid)  # what is not hardened can be looked into
    assert peep(ours.pid) == set()
    out, _ = ours.communicate(b"x", timeout=60)
    assert out.startswith(b"dk1.1.")
    end(other)


@pytest.mark.release
@pytest.mark.parametrize("spare", range(1, 8))
def test_F07_with_few_descriptors_there_is_an_answer_or_an_error(cli, spare):
    value = cli.ok("encrypt", "--tenant", "acme", stdin=b"x")
    done = cli.run("decrypt", "--tenant", "acme", stdin=value, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (3 + spare, 3 + spare)))
    if done.returncode == 0:
        assert done.stdout == b"x"
    else:
        assert done.stdout == b"" and b"Too many open files" in done.stderr
    assert done.returncode == (0 if spare >= 6 else done.returncode)
    assert done.returncode != 0 or spare > 1
    assert cli.ok("decrypt", "--tenant", "acme", stdin=value) == b"x"
