#!/usr/bin/env python3
"""Writes docs/REFERENCE.md from the tables of the code; --check compares instead.

Commands come from `dekhand COMMAND --help`, settings from `dekhand config --json`, errors from
src/base/errors.def. The program is build/dekhand, or DEKHAND_BIN.
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "REFERENCE.md"
DEKHAND = os.environ.get("DEKHAND_BIN", str(ROOT / "build" / "dekhand"))
CLEAN = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent"}


def run(*words):
    done = subprocess.run([DEKHAND, *words], env=CLEAN, cwd="/", capture_output=True, text=True,
                          timeout=30, check=True)
    return done.stdout


def commands():
    for line in run("--help").splitlines():
        match = re.match(r"  (\S+(?: \S+)?)  +\S", line)
        if match:
            text = run(*match.group(1).split(), "--help").split("\nSettings as flags")[0].rstrip()
            yield f"### dekhand {match.group(1)}\n\n```\n{text}\n```\n"


def settings():
    yield "| name | default | unit | |\n|---|---|---|---|"
    for row in json.loads(run("config", "--json"))["settings"]:
        value = row["value"] if row["source"] == "default" else ""
        yield f"| `{row['name']}` | {value} | {row['unit']} | {row['help'].replace('|', '/')} |"


def errors():
    text = (ROOT / "src/base/errors.def").read_text()
    strings = r'"((?:[^"\\]|\\.)*)"'
    pattern = (r"DK_ERROR\((\w+), (\d+), " + strings + r", (\w+), (\d+), (\d+),\s*" + strings +
               r",\s*" + strings + r"\)")
    yield "| name | number | exit | retry | what it means | what to do |\n|---|---|---|---|---|---|"
    for name, number, _, retry, _, code, what, todo in re.findall(pattern, text):
        again = "yes" if retry == "true" else ""
        yield f"| `E_{name}` | {number} | {code} | {again} | {what} | {todo} |"


def page():
    parts = ["# Reference", "", "Made from the tables of the code by `make docs`.", "",
             "Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 done but something needs "
             "attention, 4 refused by a gate, 5 denied, 6 unreachable (try again), 7 findings.", "",
             "SIGINT, SIGTERM and SIGHUP: `-o` and `--rejects` leave no file, what was there before "
             "stays. `--csv` writes the rows that are done to standard output and `rotate` ends "
             "between two tenants; both say how far they came, then end by the signal (a shell sees "
             "128 + its number). A second signal ends them at once.",
             "", "## Commands", "", "\n".join(commands()), "## Settings", "",
             "A flag beats the environment beats the file.", "", "\n".join(settings()), "",
             "## Errors", "", "\n".join(errors()), ""]
    return "\n".join(parts)


def main():
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != text:
            print("docs/REFERENCE.md is not what the code says: run `make docs`")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
