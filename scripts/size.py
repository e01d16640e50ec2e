#!/usr/bin/env python3
"""Prints the longest functions and files of src/; `make size`.

Usage: size.py [ROOT]. Ends 1 when a function is over 80 lines or a file over 600, unless a comment
says why: `size: why` in the comment before the function, or in the one at the head of the file.
A function counts from its first line to its closing brace, as clang-format sets them.
"""

import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

MAX_FUNCTION = 80
MAX_FILE = 600
SHOWN = 10

EXCUSE = re.compile(r"\bsize:\s*[^\s*]")
NAME = re.compile(r"(\w+)\s*\(")


@dataclass
class Item:
    """A function or a file."""

    where: str
    name: str
    lines: int
    excused: bool


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    functions, files = measure(root)
    show("longest functions", functions)
    show("longest files", files)
    lengths = [item.lines for item in functions]
    if lengths:
        share = 100 * sum(n <= 50 for n in lengths) // len(lengths)
        print(f"{len(lengths)} functions: median {statistics.median(lengths):g} lines, "
              f"{share} % within 50")
    return 1 if complain(functions, MAX_FUNCTION) + complain(files, MAX_FILE) else 0


def measure(root):
    """(functions, files) of src/ as Items."""
    functions, files = [], []
    for path in sorted((root / "src").rglob("*.[ch]")):
        where = path.relative_to(root).as_posix()
        lines = path.read_text().splitlines()
        functions += functions_of(where, lines)
        files.append(Item(where, "", len(lines), excused(head_comment(lines))))
    return functions, files


def functions_of(where, lines):
    """A function's brace stands alone in column 0, and so does the one that closes it."""
    found = []
    opened = None
    for number, line in enumerate(lines):
        if line == "{":
            opened = number
        elif line.startswith("}") and opened is not None:
            start = signature_start(lines, opened)
            name = NAME.search(" ".join(lines[start:opened]))
            found.append(Item(f"{where}:{start + 1}", name[1] if name else "?",
                              number - start + 1, excused(comment_before(lines, start))))
            opened = None
    return found


def signature_start(lines, brace):
    """The first line of the declaration that ends just before line `brace`."""
    start = brace
    while start > 0 and not ends_something(lines[start - 1]):
        start -= 1
    return start


def ends_something(line):
    text = line.rstrip()
    return text == "" or text.startswith(("#", "}")) or text.endswith((";", "*/", "{", "\\"))


def comment_before(lines, start):
    """The comment that ends on the line before `start`; empty when there is none."""
    if start == 0 or not lines[start - 1].rstrip().endswith("*/"):
        return ""
    first = start - 1
    while first > 0 and "/*" not in lines[first]:
        first -= 1
    return "\n".join(lines[first:start])


def head_comment(lines):
    if not lines or not lines[0].startswith("/*"):
        return ""
    text = "\n".join(lines)
    return text[:text.find("*/")]


def excused(comment):
    return EXCUSE.search(comment) is not None


def show(title, items):
    print(f"{title}:")
    for item in sorted(items, key=lambda item: -item.lines)[:SHOWN]:
        print(f"  {item.lines:>4}  {item.where} {item.name}".rstrip())


def complain(items, most):
    """Prints each item over `most` lines that no comment excuses; returns how many."""
    over = [item for item in items if item.lines > most and not item.excused]
    for item in over:
        print(f"{item.where}: {item.name or 'the file'} has {item.lines} lines, over {most}: "
              "split it, or say why in a comment `size: why`")
    return len(over)


if __name__ == "__main__":
    sys.exit(main())
