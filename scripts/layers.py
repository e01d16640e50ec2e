#!/usr/bin/env python3
"""Checks that each file includes only what its room may know; `make layers`.

Usage: layers.py [ROOT]. Prints each violation as file:line and ends 1, or says that all hold.
"""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

PUBLIC = ("dekhand.h", "dekhand_admin.h")
FACES = ("provider/provider.h", "store/store.h")
EVERYTHING = ("*",)

# What a room may include besides its own files, as patterns of paths below src/; the order of the
# rows is the order of the rooms. A room never includes one below it.
ROOMS = {
    "base": (),
    "crypto": ("base/*",),
    "net": ("base/*",),
    "provider": ("base/*", "crypto/*", "net/*"),
    "store": ("base/*",),
    "keys": ("base/*", "crypto/*", *FACES),
    "jobs": ("base/*", "crypto/*", "keys/*", *FACES),
    "daemon": ("base/*", "net/*", *PUBLIC),
    "cli": ("base/*", "net/*", *PUBLIC),
}
# The benchmark measures the parts as well as the whole; the demo's application reaches its server
# the way the registry does, with the same demands on TLS.
EXCEPTED = {**{f"cli/{name}.c": EVERYTHING for name in
               ("bench", "bench_cache", "bench_kms", "bench_kms_cache", "bench_postgres",
                "bench_pg_server")},
            "cli/demo_postgres.c": ("cli/*", "base/*", "store/pg_stmt.h", *PUBLIC)}

C_LIBRARY = {
    f"{name}.h" for name in
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal "
    "stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath "
    "threads time uchar wchar wctype".split()
}

INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    files = source_files(root)
    violations = [text for path in files for text in check_file(root, path)]
    for text in violations:
        print(text)
    if not violations:
        print(f"layers hold: {len(files)} files")
    return 1 if violations else 0


def source_files(root):
    return sorted(path for folder in ("src", "include") for path in (root / folder).rglob("*")
                  if path.suffix in (".c", ".h", ".def"))


def check_file(root, path):
    """A line of text for each include of `path` that is not allowed."""
    judge = judge_public if path.is_relative_to(root / "include") else judge_source
    violations = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if include := INCLUDE.match(line):
            why = judge(root, path, include[1] == '"', include[2])
            if why:
                violations.append(f"{path.relative_to(root)}:{number}: {include[2]}: {why}")
    return violations


def judge_public(_root, _path, _quoted, name):
    """Why a public header may not include `name`; None when it may."""
    if name in PUBLIC or name in C_LIBRARY:
        return None
    return "a public header includes the C library and public headers only"


def judge_source(root, path, quoted, name):
    """Why a file below src/ may not include `name`; None when it may."""
    file = path.relative_to(root / "src").as_posix()
    ours = name in PUBLIC or (root / "src" / name).is_file()
    if not quoted and not ours:
        return None  # the system's
    if not quoted and name not in PUBLIC:
        return "a file of ours is included in quotes"
    if not ours or ".." in Path(name).parts:
        return 'no such file below src/ (write it from there: "base/bytes.h")'
    if "/" not in file:
        return None  # the door wires everything
    room = file.split("/")[0]
    if room not in ROOMS:
        return f"{room}/ is no room (STYLE, The map)"
    allowed = EXCEPTED.get(file, (f"{room}/*", *ROOMS[room]))
    if any(fnmatchcase(name, pattern) for pattern in allowed):
        return None
    return f"{room}/ may include: {', '.join((f'{room}/*', *ROOMS[room]))}"


if __name__ == "__main__":
    sys.exit(main())
