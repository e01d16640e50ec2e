"""A signal in the middle of long work: nothing half done is left, and a shell sees the signal."""

import fcntl
import json
import signal
import subprocess
import threading
from contextlib import contextmanager

import pytest

import cli_tool

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BULK = ("encrypt", "--csv", "--columns=v", "--tenant-column=t", "--rejects=rejects")
# The second row is a bad one: what is said about it tells that the work is going on.
START = b"t,v\nacme,first\nno tenant,second\n"
ROWS = b"acme,0123456789 0123456789 0123456789 0123456789\n" * 20000  # more than it reads at once


@contextmanager
def running(cli, *args, ignored=(), env=None):
    """The program with pipes, the signals as a terminal has them; one page of standard error."""

    def set_signals():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [cli_tool.PROGRAM, *args], cwd=cli.folder, env={**cli.env, **(env or {})},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=set_signals)
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
    with process:
        yield process
        process.kill()


def feed(process, data):
    """Its input stays open afterwards."""
    try:
        process.stdin.write(data)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it was ended meanwhile


def at_work(process):
    """Feeds a bulk run; what it says first, when it works on rows."""
    process.feeder = threading.Thread(target=feed, args=(process, START + ROWS), daemon=True)
    process.feeder.start()
    return process.stderr.readline()


def end_of(process):
    """(code, what else it said). Nobody closed its input."""
    said = process.stderr.read().decode()
    return process.wait(cli_tool.TIMEOUT), said


def files_of(cli):
    return {path.name for path in cli.folder.iterdir()} - {"state", "home"}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_F03_signal_in_a_bulk_run_leaves_no_file_and_is_seen(cli, number):
    (cli.folder / "out").write_bytes(b"what was there")
    with running(cli, *BULK, "-o", "out") as process:
        assert b"line 3, column t" in at_work(process)
        process.send_signal(number)
        code, said = end_of(process)
    assert code == -number
    assert f"stopped by {number.name} after " in said and "no file was written" in said
    assert files_of(cli) == {"out"}
    assert (cli.folder / "out").read_bytes() == b"what was there"
    assert cli.ok("audit", "verify")
    assert cli.query("SELECT messages > 0 FROM encryption_keys") == [(1,)]  # counts were kept


def test_F03_signal_in_a_bulk_run_leaves_whole_rows_on_standard_output(cli):
    with running(cli, *BULK) as process:
        at_work(process)
        process.send_signal(signal.SIGTERM)
        written = process.stdout.read()
        code, said = end_of(process)
    assert code == -signal.SIGTERM
    lines = written.split(b"\n")
    assert lines[0] == b"t,v" and lines[-1] == b"" and len(lines) > 500
    plain = cli.ok("decrypt", *BULK[1:-1], stdin=written)
    assert plain == b"t,v\nacme,first\n" + ROWS[:len(plain) - 15]
    assert "which were written" in said
    assert files_of(cli) == set()


def test_F03_second_signal_ends_a_bulk_run_at_once_and_leaves_no_file(cli):
    """Nobody reads its standard output: it waits there and cannot come to an end of its own."""
    with running(cli, *BULK) as process:
        at_work(process)
        assert "rejects." in "".join(files_of(cli))
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(cli_tool.TIMEOUT) in (-signal.SIGTERM, -signal.SIGINT)
    assert files_of(cli) == set()


def test_F03_signal_that_was_ignored_at_the_start_stays_ignored(cli):
    with running(cli, *BULK, "-o", "out", ignored=(signal.SIGHUP,)) as process:
        at_work(process)
        process.send_signal(signal.SIGHUP)
        process.feeder.join()
        process.stdin.close()
        code, said = end_of(process)
    assert code == 3 and "20002 rows" in said and "stopped" not in said
    assert (cli.folder / "out").read_bytes().count(b"\n") == 20002


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_F03_signal_while_one_value_is_awaited_ends_the_program(cli, number):
    with running(cli, "encrypt", "--tenant", "acme", "-o", "out") as process:
        process.stdin.write(b"half a value")
        process.stdin.flush()
        process.send_signal(number)
        assert end_of(process)[0] == -number
    assert files_of(cli) == set()


# ---- rotate --all --------------------------------------------------------------------------------

TENANTS = 120
LOUD = {"DEBUG": "kms:*"}


@pytest.mark.parametrize("more", [(), ("--json",)], ids=("text", "json"))
def test_F03_signal_stops_a_rotation_between_two_tenants(cli, more):
    """Its log lines fill the one page that nobody reads: it cannot be at the end."""
    cli.ok("encrypt", *BULK[1:4], stdin=b"t,v\n" + b"".join(b"t%d,x\n" % i for i in range(TENANTS)))
    with running(cli, "rotate", "--all", *more, env=LOUD) as process:
        assert any(b"generateDataKey" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        code, said = end_of(process)
        written = process.stdout.read().decode()
    [(rotated,)] = cli.query("SELECT count(*) FROM encryption_keys WHERE version = 2")
    assert code == -signal.SIGTERM
    assert 0 < rotated < TENANTS
    assert f"stopped by SIGTERM after {rotated} tenants; the rest are as they were" in said
    if more:
        found = json.loads(written)
        assert found["rotated"] == len(found["rotations"]) == rotated
    else:
        assert f"{rotated} rotated, 0 failed" in written
    assert cli.ok("audit", "verify")
    assert f"{TENANTS} rotated, 0 failed" in cli.ok("rotate", "--all").decode()
