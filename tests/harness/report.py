"""Counts tests: one line a suite while running, one closing line."""

import os
import textwrap
from dataclasses import dataclass, field


@dataclass
class Result:
    """What a suite came to. `output` is shown when something failed."""

    name: str
    passed: int = 0
    failed: int = 0
    skips: list[str] = field(default_factory=list)  # a reason for each skipped test
    seconds: float = 0.0
    output: str = ""


LAST_LINES = 20  # of a failing suite, once more at the end


def _end_of(output):
    return "\n".join(output.splitlines()[-LAST_LINES:])


class Report:
    def __init__(self, ci=None):
        self.ci = os.environ.get("CI") == "true" if ci is None else ci
        self.passed = self.failed = self.skipped = 0
        self.failures = []  # names and outputs, repeated at the end: logs are read from there

    def add(self, result):
        """Counts and prints a suite; True when nothing failed. With CI=true a skip has failed."""
        failed, skipped = result.failed, len(result.skips)
        if self.ci:
            failed, skipped = failed + skipped, 0
        self.passed += result.passed
        self.failed += failed
        self.skipped += skipped
        print(f"{result.name:<46}{result.passed:>5} passed {failed:>3} failed {skipped:>3} skipped"
              f"{result.seconds:>8.1f} s", flush=True)
        for reason in result.skips:
            print(f"    skipped: {reason}", flush=True)
        if failed:
            output = textwrap.indent(result.output.rstrip("\n"), "    ")
            print(output, flush=True)
            self.failures.append(f"{result.name}: {failed} failed\n{_end_of(output)}")
        return failed == 0

    def close(self):
        """Prints the closing line; returns the exit status."""
        if self.failures:
            print("", "What failed:", *self.failures, sep="\n", flush=True)
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1
