#!/usr/bin/env python3
"""Compares docs/BAR.md with the tests; `make check`.

Usage: bar.py [ROOT]. Prints each id that is missing, that claims a test and has none, or that is
marked `later` and has one, and ends 1; or says that the bar holds.
"""

import re
import sys
from pathlib import Path

IDS = ([f"I{n:02}" for n in range(1, 33)] + [f"F{n:02}" for n in range(1, 81)]
       + [f"R{n}" for n in range(1, 31)])
STEPS = ("Core", "Believe nothing", "PostgreSQL and many nodes", "AWS and Azure", "Daemon",
         "Re-encryption and purge", "Recovery and evidence", "Speed", "Clients")
STATUSES = ("test", "part", "later")

ROW = re.compile(r"\|\s*([IFR]\d+)\s*\|")
# One id or several at the beginning of a test's name: I05_F36_one_of_32_rotators_wins.
NAME_IDS = re.compile(r"(?:[IFR]\d+_)+(?=[a-z0-9])")
C_NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
C_NAME = re.compile(r"\b(?:test_)?([IFR]\d+_\w+)")
PYTHON_NAME = re.compile(r"^[ \t]*def test_([IFR]\d+_\w+)", re.M)


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    rows, findings = read_rows((root / "docs" / "BAR.md").read_text())
    tests = read_tests(root / "tests")
    findings += [f"{test_id}: docs/BAR.md has no such row" for test_id in IDS
                 if test_id not in rows]
    findings += judge(rows, tests)
    for text in findings:
        print(text)
    if not findings:
        counts = ", ".join(f"{list(rows.values()).count(status)} {status}" for status in STATUSES)
        print(f"the bar holds: {len(rows)} ids ({counts})")
    return 1 if findings else 0


def read_rows(text):
    """({id: status} of docs/BAR.md, what is wrong with its rows)."""
    rows, findings = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        if not (match := ROW.match(line)):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        why = "a second row" if match[1] in rows else judge_row(cells)
        if why:
            findings.append(f"docs/BAR.md:{number}: {match[1]}: {why}")
        rows.setdefault(match[1], cells[-1])
    return rows, findings


def judge_row(cells):
    """Why a row is not one; None when it is."""
    if cells[0] not in IDS:
        return "no such id"
    if len(cells) != 4 or not cells[1]:
        return "not: id | words | step | status"
    if cells[2] not in STEPS:
        return f"the step is none of: {', '.join(STEPS)}"
    if cells[3] not in STATUSES:
        return f"the status is none of: {', '.join(STATUSES)}"
    return None


def read_tests(folder):
    """{id: [file: test, ..]} of the C and Python tests below `folder`."""
    tests = {}
    for path in sorted(folder.rglob("*")):
        for name in names_of(path):
            for test_id in NAME_IDS.match(name)[0].strip("_").split("_"):
                where = f"{path.relative_to(folder.parent)}: {name}"
                if where not in tests.setdefault(test_id, []):
                    tests[test_id].append(where)
    return tests


def names_of(path):
    """The names of a file's tests that begin with an id, without `test_`."""
    if path.name.endswith("_test.c"):
        found = C_NAME.findall(C_NOISE.sub(" ", path.read_text()))
    elif path.name.startswith("test_") and path.suffix == ".py":
        found = PYTHON_NAME.findall(path.read_text())
    else:
        return []
    return [name for name in found if NAME_IDS.match(name)]


def judge(rows, tests):
    """What docs/BAR.md says and the tests do not, and the other way round."""
    findings = [f"{test_id}: no such id ({tests[test_id][0]})"
                for test_id in tests if test_id not in IDS]
    for test_id, status in rows.items():
        if status in ("test", "part") and test_id not in tests:
            findings.append(f"{test_id}: docs/BAR.md says `{status}`, and no test begins with it")
        if status == "later" and test_id in tests:
            findings.append(f"{test_id}: docs/BAR.md says `later`, and there is {tests[test_id][0]}")
    return findings


if __name__ == "__main__":
    sys.exit(main())
