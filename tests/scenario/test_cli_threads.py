"""`--threads`: whatever their number, output, rejects, messages and exit codes are those of one."""

import os
import sqlite3
import subprocess
from contextlib import closing

import pytest

import cli_tool

THREADS = (1, 2, 3, 8)
CSV = ("--csv", "--columns", "v", "--tenant-column", "t")
JSONL = ("--jsonl", "--fields", "v", "--tenant-column", "t")


def csv_file(rows):
    """Long and short rows by turns, so that batches end at different times."""
    return b"t,v\n" + b"".join(b"t%d,%s\n" % (i % 7, b"v%d" % i * (1 + i % 3 * 40))
                               for i in range(rows))


def jsonl_file(rows):
    return b"".join(b'{"t":"t%d","v":"%s"}\n' % (i % 7, b"v%d" % i * (1 + i % 3 * 40))
                    for i in range(rows))


FILES = {"csv": (CSV, csv_file), "jsonl": (JSONL, jsonl_file)}
EACH_FORMAT = pytest.mark.parametrize("choice, make", FILES.values(), ids=FILES.keys())
ROWS = 20_000
BAD_AT = (0, 1, 777, 5_000, 5_001, 19_999)


def spoil(data, choice, bad_at=BAD_AT):
    """The same file with some rows that are bad; those rows."""
    lines = data.splitlines(True)
    first = int(choice is CSV)
    for i in bad_at:
        lines[first + i] = b"bad row %d\n" % i
    return b"".join(lines), [lines[first + i] for i in bad_at]


@EACH_FORMAT
def test_decrypted_bytes_are_the_same(cli, choice, make):
    data = make(ROWS)
    for threads in THREADS:
        encrypted = cli.ok("encrypt", *choice, "--threads", threads, stdin=data)
        for again in THREADS:
            assert cli.ok("decrypt", *choice, "--threads", again, stdin=encrypted) == data


@EACH_FORMAT
def test_rejects_and_messages_are_the_same(cli, tmp_path, choice, make):
    data, bad = spoil(make(ROWS), choice)
    said = set()
    for threads in THREADS:
        rejects = tmp_path / f"bad{threads}"
        done = cli.run("encrypt", *choice, "--threads", threads, "--rejects", rejects, stdin=data)
        assert done.returncode == 3
        assert rejects.read_bytes() == b"".join(bad)
        *messages, summary = done.stderr.splitlines()
        assert f"{len(bad)} bad rows set aside".encode() in summary
        said.add(tuple(messages))
        back = cli.ok("decrypt", *choice, "--threads", threads, stdin=done.stdout)
        assert back == b"".join(line for line in data.splitlines(True) if line not in bad)
    assert len(said) == 1
    assert len(said.pop()) == len(bad)


@EACH_FORMAT
def test_many_bad_rows_are_the_same(cli, tmp_path, choice, make):
    data, bad = spoil(make(ROWS), choice, range(3, ROWS, 5))
    said = set()
    for threads in THREADS:
        rejects = tmp_path / f"bad{threads}"
        done = cli.run("encrypt", *choice, "--threads", threads, "--rejects", rejects, stdin=data)
        assert done.returncode == 3
        assert rejects.read_bytes() == b"".join(bad)
        said.add(tuple(done.stderr.splitlines()[:-1]))
    assert len(said) == 1
    assert len(said.pop()) == 11


@EACH_FORMAT
def test_decrypt_keeps_the_same_rows(cli, choice, make):
    data, _ = spoil(make(ROWS), choice)
    encrypted = cli.run("encrypt", *choice, "--rejects", "bad", stdin=data).stdout
    broken, bad = spoil(encrypted, choice, (5, 8_000, 12_000))
    outcomes = set()
    for threads in THREADS:
        done = cli.run("decrypt", *choice, "--threads", threads, stdin=broken)
        assert done.returncode == 3
        outcomes.add((done.stdout, *done.stderr.splitlines()[:-1]))
    assert len(outcomes) == 1
    assert all(row in outcomes.pop()[0] for row in bad[:1])


@EACH_FORMAT
def test_the_first_bad_row_ends_the_run_at_the_same_place(cli, tmp_path, choice, make):
    """Nothing of what other threads did behind it is written or said."""
    data, _ = spoil(make(ROWS), choice, (7_000, 7_001, 15_000))
    line = 7_001 + int(choice is CSV)
    good = b"".join(data.splitlines(True)[:line - 1])
    for threads in THREADS:
        done = cli.run("encrypt", *choice, "--threads", threads, stdin=data)
        assert done.returncode == 1
        assert cli.ok("decrypt", *choice, stdin=done.stdout) == good
        first, todo = done.stderr.decode().splitlines()
        assert first.startswith(f"dekhand: line {line}: ") and "--rejects FILE" in todo
        cli.fails(1, "encrypt", *choice, "--threads", threads, "-o", "out", stdin=data)
        assert not list(tmp_path.glob("out*"))


@EACH_FORMAT
def test_row_that_is_too_long_between_others(cli, tmp_path, choice, make):
    lines = make(3_000).splitlines(True)
    long_row = b"x" * (9 * 2**20) + b"\n"
    data = b"".join(lines[:1500]) + long_row + b"".join(lines[1500:])
    for threads in (1, 2):
        rejects = tmp_path / f"bad{threads}"
        done = cli.run("encrypt", *choice, "--threads", threads, "--rejects", rejects, stdin=data)
        assert done.returncode == 3
        assert rejects.read_bytes() == long_row
        assert cli.ok("decrypt", *choice, stdin=done.stdout) == b"".join(lines)


@EACH_FORMAT
def test_failure_ends_the_run_at_the_same_place(cli, tmp_path, choice, make):
    """A tenant whose registry row was edited: the run goes no further, and says it once."""
    cli.ok("encrypt", "--tenant", "edited", stdin=b"x")
    cli.ok("encrypt", *choice, stdin=make(100))
    with closing(sqlite3.connect(cli.database)) as db:
        db.execute("UPDATE tenants SET epoch = epoch + 1 WHERE tenant_id = 'edited'")
        db.commit()
    good = make(ROWS).splitlines(True)
    row = make(1).splitlines(True)[-1].replace(b"t0", b"edited")
    data = b"".join([*good[:9_000], row, *good[9_000:]])
    for threads in THREADS:
        done = cli.run("encrypt", *choice, "--threads", threads, "--rejects", tmp_path / "bad",
                       stdin=data)
        assert done.returncode == 1
        assert done.stderr.count(b"dekhand: E_TAMPERED") == 1
        assert cli.ok("decrypt", *choice, stdin=done.stdout) == b"".join(good[:9_000])
        assert not (tmp_path / "bad").exists()


@EACH_FORMAT
@pytest.mark.parametrize("threads", [1, 2])
def test_F76_output_that_is_closed_ends_the_run_while_the_input_stays_open(cli, choice, make,
                                                                          threads):
    """A thread that waits for input does not keep the others from ending."""
    with subprocess.Popen([cli_tool.PROGRAM, "encrypt", *choice, "--threads", str(threads)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=cli.env, cwd=cli.folder) as process:
        process.stdout.close()
        part = make(ROWS)[:2**20 + 2**18]
        try:
            written = 0
            while written < len(part):
                written += os.write(process.stdin.fileno(), part[written:written + 65536])
        except BrokenPipeError:
            pass
        process.wait(timeout=cli_tool.TIMEOUT)
        said = process.stderr.read()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
    assert process.returncode == 1
    assert b"standard output was closed" in said


def test_tenants_that_are_new_in_many_batches_get_one_key_each(cli):
    data = b"t,v\n" + b"".join(b"tenant-%d,x\n" % (i % 300) for i in range(30_000))
    encrypted = cli.ok("encrypt", *CSV, "--threads", 8, stdin=data)
    assert cli.ok("decrypt", *CSV, "--threads", 8, stdin=encrypted) == data
    assert cli.query("select count(*), count(distinct tenant_id) from encryption_keys")[0] == (300, 300)


@pytest.mark.release
@EACH_FORMAT
def test_memory_does_not_grow_with_the_file(cli, large, choice, make):
    sizes = {}
    for rows in (20_000, 200_000):
        source = large / f"plain{rows}"
        source.write_bytes(make(rows))
        for threads in (1, 2):
            out = large / f"out{rows}-{threads}"
            sizes[rows, threads] = cli.measured("encrypt", *choice, "--threads", threads,
                                                source=source, target=out)
            sizes[rows, -threads] = cli.measured("decrypt", *choice, "--threads", threads,
                                                 source=out, target=large / "back")
    assert max(sizes.values()) < 32 * 1024
    for threads in (1, 2, -1, -2):
        assert sizes[200_000, threads] < sizes[20_000, threads] * 1.25 + 1024


@pytest.mark.release
def test_memory_with_long_rows_is_some_rows(cli, large):
    """64 lines of 2 MiB; a batch that waits for its turn keeps what it will write, and no more."""
    plain, encrypted, back = (large / name for name in ("plain", "encrypted", "back"))
    plain.write_bytes(b'{"t":"a","v":"%s","w":"%s"}\n' % (b"x" * 2**20, b"y" * 2**20) * 64)
    choice = ("--jsonl", "--fields", "v,w", "--tenant", "acme", "--threads", 2)
    memory = [cli.measured("encrypt", *choice, source=plain, target=encrypted),
              cli.measured("decrypt", *choice, source=encrypted, target=back)]
    assert back.read_bytes() == plain.read_bytes()
    assert max(memory) < 64 * 1024
