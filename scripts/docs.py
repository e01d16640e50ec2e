#!/usr/bin/env python3
"""Writes docs/REFERENCE.md and docs/man/ from the tables of the code; --check compares instead."""

import json
import sys

import manpages
import tables

PAGE = tables.ROOT / "docs" / "REFERENCE.md"
MAN = tables.ROOT / "docs" / "man"


def commands():
    for command in tables.commands():
        yield f"### dekhand {command.name}\n\n```\n{command.help}\n```\n"


def settings():
    yield "| name | default | unit | |\n|---|---|---|---|"
    for row in json.loads(tables.run("config", "--json"))["settings"]:
        value = row["value"] if row["source"] == "default" else ""
        yield f"| `{row['name']}` | {value} | {row['unit']} | {row['help'].replace('|', '/')} |"


def errors():
    yield "| name | number | exit | retry | what it means | what to do |\n|---|---|---|---|---|---|"
    for row in tables.errors():
        again = "yes" if row.retryable == "true" else ""
        yield f"| `{row.name}` | {row.number} | {row.exit} | {again} | {row.text} | {row.todo} |"


def reference():
    exits = ", ".join(f"{code} {text}" for code, text in tables.EXIT_CODES)
    parts = ["# Reference", "", "Made from the tables of the code by `make docs`.", "",
             f"Exit codes: {exits}.", "",
             "SIGINT, SIGTERM and SIGHUP: `-o` and `--rejects` leave no file, what was there before "
             "stays. `--csv` and `--jsonl` write the rows that are done to standard output and "
             "`rotate` ends between two tenants; they say how far they came, then end by the signal "
             "(a shell sees 128 + its number). A second signal ends them at once.", "",
             "## Commands", "", "\n".join(commands()), "## Settings",
             "", "A flag beats the environment beats the file.", "", "\n".join(settings()), "",
             "## Errors", "", "\n".join(errors()), ""]
    return "\n".join(parts)


def main():
    wanted = {PAGE: reference()}
    wanted.update((MAN / name, text) for name, text in manpages.pages().items())
    stale = {path for path in MAN.glob("*.[1-8]") if path not in wanted}
    stale |= {path for path, text in wanted.items()
              if not path.exists() or path.read_text() != text}
    if "--check" in sys.argv[1:]:
        for path in sorted(stale):
            print(f"{path.relative_to(tables.ROOT)} is not what the code says: run `make docs`")
        return 1 if stale else 0
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
