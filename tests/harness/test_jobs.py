"""Suites side by side: the order, the report, and what is left of them when they are stopped."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import run
from harness import jobs, sanitizers, scratch, stores, suites, tree
from harness.command import Outcome
from harness.jobs import Job
from harness.report import Report, Result
from harness.tree import ROOT

SOURCES = {f"{room}/{path.stem}": path for room in tree.ROOMS_OF_TESTS
           for path in tree.test_sources(room)}
PYTHON_FILES = {f"scenario/{path.stem}" for path in (ROOT / "tests/scenario").glob("test_*.py")}


def test_longest_begins_first_and_every_job_is_reported(monkeypatch):
    monkeypatch.setattr(jobs, "AT_ONCE", 1)
    begun = []

    def job(name, failed=0):
        return Job(name, lambda: begun.append(name) or Result(name, 1, failed))

    report = Report(ci=False)
    assert jobs.run(report, [job("a"), job(jobs.LONGEST[1]), job(jobs.LONGEST[0])])
    assert begun == [*jobs.LONGEST[:2], "a"] and report.passed == 3
    assert not jobs.run(report, [job("b"), job("c", failed=1), job("d")])
    assert (report.passed, report.failed) == (6, 1)


def test_named_suites_exist():
    elsewhere = {f"{name}@{store}" for name, store in stores.elsewhere("release")}
    assert set(jobs.LONGEST) <= {*SOURCES, *PYTHON_FILES, *elsewhere, "scenario"}
    assert set(sanitizers.LEFT_OUT) <= set(SOURCES)


@pytest.mark.parametrize("kind", run.GOALS)
def test_each_file_is_run_once(kind):
    names = [job.name for job in run.tests_of(kind)]
    assert len(names) == len(set(names))
    elsewhere = {name for name in names if "@" in name}
    assert elsewhere == {f"{name}@{store}" for name, store in stores.elsewhere(kind)}
    if kind != "clang":
        assert set(SOURCES) - set(names) == {
            name for name, kinds in sanitizers.LEFT_OUT.items() if kind in kinds}
    if kind not in ("clang", "tsan"):
        commands = [argument for job in run.tests_of(kind) if job.call.func is suites.pytest
                    for argument in job.call.args[2]]
        files = {a for a in commands if a.endswith(".py") and not a.startswith("-")}
        ignored = {a.removeprefix("--ignore=") for a in commands if a.startswith("-")}
        left_out = ignored - files  # they would run no test
        assert files <= ignored and (kind != "release" or not left_out)
        assert all(suites.runs_no_test(a[len("tests/"):-len(".py")], kind) for a in left_out)
        assert "tests/scenario" in commands


def test_every_program_with_a_registry_runs_once_more_or_says_why_not():
    with_registry = {name for name, path in SOURCES.items() if "dk_place_" in path.read_text()}
    assert set(stores.POSTGRES) | set(stores.ONCE) == with_registry
    assert not set(stores.POSTGRES) & set(stores.ONCE)
    assert set(stores.POOLED) <= with_registry and set(stores.SANITIZED) <= set(stores.POSTGRES)


def test_a_program_is_told_its_store(monkeypatch):
    told = []
    monkeypatch.setattr(suites, "_run_mapped", lambda argv, env, timeout: told.append(
        env.get("DEKHAND_TEST_STORE")) or Outcome(0, "1..1\nok 1 - a\n", "", 0.1))
    source = SOURCES["scenario/rotate_test"]
    assert suites.program("release", source).name == "release: scenario/rotate_test"
    assert suites.program("release", source, store="pooled").name == (
        "release: scenario/rotate_test@pooled")
    assert told == [None, "pooled"]


def test_what_tsan_leaves_out_has_one_thread_a_process():
    starts = re.compile(r"pthread_create|thrd_create|dk_test_threads\(")
    for name, kinds in sanitizers.LEFT_OUT.items():
        assert kinds == {"tsan"} and not starts.search(SOURCES[name].read_text()), name
    library = [path for path in (ROOT / "src").rglob("*.[ch]") if path.parent.name != "cli"]
    support = [path for path in (ROOT / "tests/support").glob("*.c") if path.stem != "world"]
    assert not [path for path in library + support if starts.search(path.read_text())]


# ---- folders ---------------------------------------------------------------------------------------

def test_folders_lie_on_the_disk_where_memory_has_no_room(tmp_path):
    assert scratch.place(tmp_path, room=0) == tmp_path
    assert scratch.place(tmp_path, room=1 << 62) is None
    assert scratch.place(tmp_path / "none") is None


def test_folder_of_a_suite_goes_with_it(tmp_path):
    with scratch.folder(lambda: tmp_path) as folder, scratch.in_memory(folder, tmp_path) as memory:
        assert memory.parent == folder
        (memory / "file").write_text("x")
    with scratch.folder(lambda: tmp_path) as folder, scratch.in_memory(
            folder, tmp_path / "none") as memory:
        assert memory.parent == folder
    assert list(tmp_path.iterdir()) == []


SLOW = """
import os, sys
sys.path.insert(0, "tests")
import run
from harness import jobs, scratch
from harness.command import run as command
from harness.report import Result

def slow():
    with scratch.folder(scratch.disk) as folder:
        command(["sh", "-c", f"touch {folder}/file {os.environ['SEEN']}; sleep 60"])
    return Result("slow", 1)

run.MODES = {"check": lambda report, options: jobs.run(report, [jobs.Job("a", slow)] * 9)}
sys.argv = ["run.py", "check"]
sys.exit(run.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_a_run_that_was_stopped(tmp_path, number):
    seen, folders = tmp_path / "seen", tmp_path / "folders"
    folders.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SLOW], cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE,
                               env=dict(os.environ, SEEN=str(seen), TMPDIR=str(folders)))
    until = time.monotonic() + 30
    while not seen.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert list(folders.iterdir()) != []
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and said == b"interrupted\n"
    assert list(folders.iterdir()) == []
