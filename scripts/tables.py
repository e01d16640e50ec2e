"""What the tables of the code say, for the pages that are made from them.

Commands and their options come from `dekhand --help` and `dekhand COMMAND --help`, settings and
errors from src/base/*.def, the library's calls from the public headers. The program is
build/dekhand, or DEKHAND_BIN.
"""

import os
import re
import subprocess
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEKHAND = os.environ.get("DEKHAND_BIN", str(ROOT / "build" / "dekhand"))
CLEAN = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent"}
EXIT_CODES = ((0, "ok"), (1, "failed"), (2, "usage or configuration"),
              (3, "done but something needs attention"), (4, "refused by a gate"), (5, "denied"),
              (6, "unreachable (try again)"), (7, "findings"))

Option = namedtuple("Option", "letter name arg help")
Command = namedtuple("Command", "name summary help options")  # help: the text as it is printed
Setting = namedtuple("Setting", "name flag type default least most unit secret reload help")
Error = namedtuple("Error", "name number outward retryable http exit text todo")
Call = namedtuple("Call", "names prototypes text")  # of the library, with the comment above


def run(*words):
    done = subprocess.run([DEKHAND, *words], env=CLEAN, cwd="/", capture_output=True, text=True,
                          timeout=30, check=True)
    return done.stdout


def read_options(text):
    rows = re.findall(r"^  (?:-(\w), |    )--([\w-]+)(?: ([A-Z]\S*))? +(\S.*)$", text, re.M)
    return [Option(*row) for row in rows]


def commands():
    for line in run("--help").splitlines():
        match = re.match(r"  (\S+(?: \S+)?)  +(\S.*)", line)
        if match:
            text = run(*match.group(1).split(), "--help").split("\nSettings as flags")[0].rstrip()
            yield Command(match.group(1), match.group(2), text, read_options(text))


def rows(path, macro):
    """The arguments of each MACRO(..) of a .def file; texts without their quotes, NULL as None."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / path).read_text(), flags=re.S)
    text = re.sub(r'"\s*\n\s*"', "", text)
    part = r'\s*("(?:[^"\\]|\\.)*"|[\w-]+)\s*'
    for row in re.finditer(macro + r"\((" + part + "(?:," + part + r")*)\)", text):
        found = re.findall(part, row.group(1))
        yield [None if word == "NULL" else word.strip('"').replace('\\"', '"') for word in found]


def settings():
    return [Setting(*row[1:]) for row in rows("src/base/options.def", "DK_OPTION")]


def errors():
    return [Error(f"E_{row[0]}", *row[1:]) for row in rows("src/base/errors.def", "DK_ERROR")]


def plain(comment):
    """The text of a C comment, one paragraph a blank line."""
    lines = [re.sub(r"^\s*(?:/\*|\*/|\*)? ?", "", line) for line in comment.splitlines()]
    text = "\n".join(lines).replace("*/", "")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def header(path):
    """(paragraphs at the head of a public header, its calls, its types as they are written)"""
    text = (ROOT / path).read_text()
    calls = []
    for match in re.finditer(r"(/\*(?:(?!\*/).)*\*/\n)?((?:^DEKHAND_API [^;]*;\n)+)", text,
                             re.S | re.M):
        prototypes = [" ".join(part.split()) for part in
                      re.findall(r"DEKHAND_API ([^;]*;)", match.group(2))]
        names = [re.search(r"(\w+)\(", part).group(1) for part in prototypes]
        comment = match.group(1) or ""
        calls.append(Call(names, prototypes, [] if "----" in comment else plain(comment)))
    types = re.findall(r"^(?:struct|enum) \w+ \{.*?^\};$|^(?:struct|enum) \w+ \{[^\n]*\};$", text,
                       re.M | re.S)
    return plain(re.match(r"/\*.*?\*/", text, re.S).group()), calls, types
