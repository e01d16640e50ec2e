#!/usr/bin/env python3
"""Runs the tests: `make check`, `quick`, `check-shared`, `san`, `cover`, `fuzz`, `soak`.

One line a suite, what a failing suite printed, and as the last line `N passed, N failed,
N skipped`. Ends 0 only when something passed and nothing failed; with CI=true a skip is a failure.
"""

import argparse
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from harness import canary, command, coverage, fuzzers, jobs, postgres, scratch, suites
from harness.report import Report, Result
from harness.tree import ROOT

# Tests that read the release build itself mean nothing for another build.
ANY_BUILD = "not release and not slow"
COUNTED = "(not release or counted) and not slow"  # the only tests of what they run
SOAK_SECONDS = 7200
GOALS = {"release": ("all", "tests"), "clang": ("all",), "asan": ("all", "tests"),
         "cover": ("all", "tests"), "tsan": ("tests",)}


def check(report, _options):
    """Builds all, then runs all in one line: a slow suite of one build holds up no other."""
    jobs.run(report, static_checks())
    run_builds(report, GOALS, [*suites.python_tests("release", "harness"),
                               *suites.python_tests("release", "format")])
    report.add(canary.result())


def quick(report, _options):
    built = report.add(suites.build("release", "all", "tests"))
    jobs.run(report, [*static_checks(),
                      *(suites.programs("release", ("unit", "contract")) if built else []),
                      *suites.python_tests("release", "harness", "not slow"),
                      *suites.python_tests("release", "format", "not slow")])


def shared(report, options):
    if not options.data.is_dir():
        report.add(Result("release: tests/shared", skips=[f"{options.data}: no such folder"]))
    elif report.add(suites.build("release", "all")):
        jobs.run(report, suites.python_tests("release", "shared", data=options.data.resolve(),
                                             on=scratch.disk))


def san(report, _options):
    run_builds(report, ("asan", "tsan"))


def cover(report, _options):
    run_builds(report, ("cover",))


def run_builds(report, kinds, others=()):
    """Makes the builds, runs the tests of those that were made, and judges the coverage."""
    built = [kind for kind in kinds if report.add(suites.build(kind, *GOALS[kind]))]
    if "cover" in built:
        coverage.forget()
    jobs.run(report, [job for kind in built for job in tests_of(kind)] + list(others))
    if "cover" in built:
        report.add(coverage.gates())


def tests_of(kind):
    found = []
    if kind != "clang":
        found += suites.programs(kind) + suites.programs_elsewhere(kind)
    if kind in ("release", "asan", "cover"):
        marks = {"release": "", "cover": COUNTED}.get(kind, ANY_BUILD)
        found += suites.python_tests(kind, "scenario", marks)
    return found


def fuzz(report, options):
    fuzzers.run_all(report, options.seconds)


def soak(report, _options):
    if report.add(suites.build("release", "all", "tests")):
        jobs.run(report, suites.python_tests("release", "soak", timeout=SOAK_SECONDS,
                                             on=scratch.disk))


def static_checks():
    scripts = [suites.script(f"scripts/{name}.py") for name in ("layers", "size", "bar", "hygiene")]
    return [*scripts, jobs.Job("clang-format", code_format)]


def code_format():
    if shutil.which("clang-format") is None:
        return Result("clang-format", skips=["clang-format is not installed"])
    files = sorted(path for folder in ("src", "include", "tests", "docs/examples")
                   for path in (ROOT / folder).rglob("*.[ch]"))
    return suites.command("clang-format", ["clang-format", "--dry-run", "-Werror", *files])


def interrupt(_number, _frame):
    command.stop_all()  # the commands under way end, and say so where they were begun


MODES = {mode.__name__: mode for mode in (check, quick, shared, san, cover, fuzz, soak)}
NO_SERVER = {"fuzz", "soak"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared",
                        help="shared: the folder of the shared data")
    parser.add_argument("--seconds", type=int, default=60, help="fuzz: seconds for each target")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    report = Report()
    try:
        with nullcontext() if options.mode in NO_SERVER else postgres.shared(report):
            MODES[options.mode](report, options)
    except KeyboardInterrupt:
        pass
    if command.is_stopping():
        print("interrupted", file=sys.stderr)
        return 130
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
