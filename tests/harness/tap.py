"""Reads what a cmocka program prints with CMOCKA_MESSAGE_OUTPUT=TAP.

cmocka 1.1.5 prints a plan for each group, then for each test `ok 1 - name`, `not ok 2 - name`, or
for a skipped one `not ok 3 # SKIP name` (1.1.7: `ok 3 # SKIP name`). A group fixture that failed
is `not ok 0 - ...`, after which the program may still end 0. What a test prints itself stands
between; the last line of it before a skip is taken for the reason.
"""

import re
from dataclasses import dataclass, field

_PLAN = re.compile(r"1\.\.(\d+)$")
_SKIP = re.compile(r"(?:not )?ok \d+ # SKIP (.*)")
_RESULT = re.compile(r"(not )?ok (\d+) - ")


@dataclass
class Tap:
    planned: int = 0
    ran: int = 0
    passed: int = 0
    failed: int = 0
    skips: list[str] = field(default_factory=list)

    @property
    def problem(self):
        """What is wrong with the run as a whole; empty when nothing is."""
        if self.planned == 0:
            return "ran no test"
        if self.ran != self.planned:
            return f"planned {self.planned} tests, ran {self.ran}"
        return ""


def parse(text):
    tap = Tap()
    said = ""
    for line in text.splitlines():
        said = _take(tap, line, said)
    return tap


def _take(tap, line, said):
    """Counts a line. Returns what the running test said last."""
    if plan := _PLAN.match(line):
        tap.planned += int(plan[1])
    elif skip := _SKIP.match(line):
        tap.ran += 1
        tap.skips.append(f"{skip[1]}: {said}" if said else skip[1])
    elif result := _RESULT.match(line):
        tap.ran += result[2] != "0"
        tap.failed += result[1] is not None
        tap.passed += result[1] is None
    else:
        return line.strip() or said
    return ""
