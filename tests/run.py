#!/usr/bin/env python3
"""Runs the tests: `make check`, `quick`, `check-shared`, `san`, `cover`, `fuzz`, `soak`.

One line a suite, what a failing suite printed, and as the last line `N passed, N failed,
N skipped`. Ends 0 only when something passed and nothing failed; with CI=true a skip is a failure.
"""

import argparse
import shutil
import signal
import sys
from pathlib import Path

from harness import canary, command, coverage, fuzzers, suites
from harness.report import Report, Result
from harness.tree import ROOT

# Tests that read the release build itself mean nothing for another build.
ANY_BUILD = "not release and not slow"
SOAK_SECONDS = 7200


def check(report, _options):
    built = report.add(suites.build("release", "all")) and report.add(
        suites.build("release", "tests"))
    report.add(suites.build("clang", "all"))
    static_checks(report)
    report.add(code_format())
    if built:
        suites.programs(report, "release")
    report.add(suites.python_tests("release", "harness"))
    report.add(suites.python_tests("release", "format"))
    if built:
        report.add(suites.python_tests("release", "scenario"))
    san(report, _options)
    cover(report, _options)
    report.add(canary.result())


def quick(report, _options):
    built = report.add(suites.build("release", "all", "tests"))
    static_checks(report)
    if built:
        suites.programs(report, "release", ("unit", "contract"))
    report.add(suites.python_tests("release", "harness", "not slow"))
    report.add(suites.python_tests("release", "format", "not slow"))


def shared(report, options):
    if not options.data.is_dir():
        report.add(Result("release: tests/shared", skips=[f"{options.data}: no such folder"]))
    elif report.add(suites.build("release", "all")):
        report.add(suites.python_tests("release", "shared", data=options.data.resolve()))


def san(report, _options):
    if report.add(suites.build("asan", "all", "tests")):
        suites.programs(report, "asan")
        report.add(suites.python_tests("asan", "scenario", ANY_BUILD))
    if report.add(suites.build("tsan", "tests")):
        suites.programs(report, "tsan")


def cover(report, _options):
    if not report.add(suites.build("cover", "all", "tests")):
        return
    coverage.forget()
    suites.programs(report, "cover")
    report.add(suites.python_tests("cover", "scenario", ANY_BUILD))
    report.add(coverage.gates())


def fuzz(report, options):
    fuzzers.run_all(report, options.seconds)


def soak(report, _options):
    if report.add(suites.build("release", "all", "tests")):
        report.add(suites.python_tests("release", "soak", timeout=SOAK_SECONDS))


def static_checks(report):
    for path in ("layers", "size", "bar", "hygiene"):
        report.add(suites.script(f"scripts/{path}.py"))


def code_format():
    if shutil.which("clang-format") is None:
        return Result("clang-format", skips=["clang-format is not installed"])
    files = sorted(path for folder in ("src", "include", "tests", "docs/examples")
                   for path in (ROOT / folder).rglob("*.[ch]"))
    return suites.command("clang-format", ["clang-format", "--dry-run", "-Werror", *files])


def interrupt(_number, _frame):
    command.stop_all()
    raise KeyboardInterrupt


MODES = {mode.__name__: mode for mode in (check, quick, shared, san, cover, fuzz, soak)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared",
                        help="shared: the folder of the shared data")
    parser.add_argument("--seconds", type=int, default=60, help="fuzz: seconds for each target")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    report = Report()
    try:
        MODES[options.mode](report, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
