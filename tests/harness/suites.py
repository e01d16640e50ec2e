"""Suites: each function runs something and returns its Result."""

import re
import xml.etree.ElementTree as ElementTree
from functools import partial

from harness import canary, jobs, sanitizers, scratch, stores, tap
from harness.command import run
from harness.jobs import Job
from harness.report import Result
from harness.tree import (PYTHON, ROOT, ROOMS_OF_TESTS, clean_environment, test_environment,
                          test_program, test_sources)

PROGRAM_SECONDS = 480
_MARKS = re.compile(r"^pytestmark = (.*)", re.M)
_WARNING = re.compile(r"^.*\bwarning:.*$", re.M | re.I)


def command(name, argv, timeout=900, refuse=None):
    """One test: the command ends 0 and prints nothing that `refuse` finds."""
    outcome = run(argv, env=clean_environment(), timeout=timeout)
    problems = [outcome.ending] if outcome.ending else []
    if refuse is not None:
        problems += refuse.findall(outcome.output)
    return Result(name, int(not problems), int(bool(problems)), seconds=outcome.seconds,
                  output="\n".join([outcome.output, *problems]))


def build(kind, *goals):
    """One test: the goals are made, with no warning in the output."""
    argv = ["make", "-j2", "-s", "--no-print-directory", f"BUILD={kind}", *goals]
    return command(f"{kind}: make {' '.join(goals)}", argv, refuse=_WARNING)


def script(path):
    """A job: one of scripts/ finds nothing to say."""
    return Job(path, partial(command, path, [PYTHON, path]))


def programs(kind, rooms=ROOMS_OF_TESTS):
    """Jobs: the C tests of a build."""
    found = []
    for room in rooms:
        sources = test_sources(room)
        found += [Job(f"{room}/{source.stem}", partial(program, kind, source)) for source in sources
                  if kind not in sanitizers.LEFT_OUT.get(f"{room}/{source.stem}", set())]
        if not sources:
            none = Result(f"{kind}: {room}", failed=1, output="no *_test.c here")
            found.append(Job(room, lambda none=none: none))
    return found


def programs_elsewhere(kind):
    """Jobs: those that a build runs once more, on another store than SQLite."""
    return [Job(f"{name}@{store}",
                partial(program, kind, ROOT / "tests" / f"{name}.c", store=store))
            for name, store in stores.elsewhere(kind)]


def program(kind, source, timeout=PROGRAM_SECONDS, store=None):
    """Runs one cmocka program in a temporary folder of its own (TMPDIR)."""
    name = f"{kind}: {source.relative_to(ROOT / 'tests').with_suffix('')}"
    with scratch.folder() as folder, scratch.in_memory(folder) as memory:
        kept = folder / "kept"
        kept.mkdir()
        for path in (folder, kept):
            path.chmod(scratch.ANYBODY)
        env = test_environment(kind, folder)
        env.update(sanitizers.environment(kind, folder), CMOCKA_MESSAGE_OUTPUT="TAP",
                   DEKHAND_KEPT=str(kept), DEKHAND_MEMORY=str(memory))
        if store is not None:
            name += f"@{store}"
            env["DEKHAND_TEST_STORE"] = store
        argv = [*sanitizers.launcher(kind), test_program(kind, source)]
        outcome = _run_mapped(argv, env, timeout)
        return _judge(name, outcome, sanitizers.reports(folder),
                      canary.scan_kept(kept, outcome.output))


def _run_mapped(argv, env, timeout):
    """Runs a program, again when its place in memory was unlucky (TSan)."""
    for _ in range(10):
        outcome = run(argv, env=env, timeout=timeout, merge=False)
        if outcome.code == 0 or sanitizers.TSAN_UNLUCKY not in outcome.output:
            break
    return outcome


def _judge(name, outcome, sanitizer_reports, secrets=()):
    seen = tap.parse(outcome.stdout)
    problems = [seen.problem] if seen.problem else []
    problems += secrets
    if outcome.ending and seen.failed == 0:
        problems.append(outcome.ending)
    if sanitizer_reports:
        problems.append("a sanitizer reported:\n" + sanitizer_reports)
    return Result(name, seen.passed, seen.failed + bool(problems), seen.skips, outcome.seconds,
                  "\n".join([outcome.output, *problems]))


# Published test keys lie in these: planted, to see that the scan finds them; golden files.
PLANTED = {"harness", "format"}


def python_tests(kind, folder, marks="", **more):
    """Jobs: the pytest files of a folder below tests/; each long one by itself, the others as one."""
    files = sorted(path.stem for path in (ROOT / "tests" / folder).glob("test_*.py"))
    alone = [f"{folder}/{stem}" for stem in files if f"{folder}/{stem}" in jobs.LONGEST]
    fit = [name for name in alone if not runs_no_test(name, kind)]
    rest = [f"--ignore=tests/{name}.py" for name in alone] + [f"tests/{folder}"]
    return [*(Job(name, partial(pytest, kind, name, [f"tests/{name}.py"], marks, **more))
              for name in fit),
            Job(folder, partial(pytest, kind, folder + ", the others" * bool(alone), rest, marks,
                                **more))]


def runs_no_test(name, kind):
    """Whether nothing in the file is for this build."""
    marked = _MARKS.search((ROOT / f"tests/{name}.py").read_text())
    marks = marked[1] if marked else ""
    return (kind != "release" and "mark.release" in marks
            and not (kind == "cover" and "mark.counted" in marks))


def pytest(kind, what, paths, marks="", data=None, timeout=900, on=scratch.place):
    """Runs pytest files against the CLI of a build."""
    name = f"{kind}: {what} (pytest)"
    with scratch.folder(on) as folder:
        env = test_environment(kind, folder)
        env.update(sanitizers.environment(kind, folder))
        folder.chmod(0o711)  # tests that run as an ordinary user pass through
        env["DEKHAND_PRINTED"] = str(folder / "printed")
        (folder / "printed").mkdir()
        if data is not None:
            env["DEKHAND_DATA"] = str(data)
        xml = folder / "results.xml"
        argv = [PYTHON, "-m", "pytest", "-q", "-c", "tests/pytest.ini", f"--junitxml={xml}",
                *(["-m", marks] if marks else []), *paths]
        outcome = run(argv, env=env, timeout=timeout)
        planted = what in PLANTED
        secrets = [] if planted else canary.scan_pytest(folder, outcome.output)
        return _judge_pytest(name, outcome, xml, sanitizers.reports(folder), secrets)


def _judge_pytest(name, outcome, xml, sanitizer_reports, secrets=()):
    passed, failed, skips = _read_junit(xml)
    problems = list(secrets)
    if outcome.ending and failed == 0:
        problems.append(outcome.ending)
    if passed + failed + len(skips) == 0:
        problems.append("ran no test")
    if sanitizer_reports:
        problems.append("a sanitizer reported:\n" + sanitizer_reports)
    return Result(name, passed, failed + bool(problems), skips, outcome.seconds,
                  "\n".join([outcome.output, *problems]))


def _read_junit(path):
    """(passed, failed, reasons of the skipped) of a junit file; nothing when there is none."""
    passed, failed, skips = 0, 0, []
    if not path.exists():
        return passed, failed, skips
    for case in ElementTree.parse(path).iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skip is not None:
            skips.append(f"{case.get('name')}: {skip.get('message', 'no reason given')}")
        else:
            passed += 1
    return passed, failed, skips
