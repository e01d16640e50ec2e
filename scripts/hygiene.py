#!/usr/bin/env python3
"""Looks for what does not belong in the tree: a work machine's paths, registry hosts, private keys,
words about the workplace, a TODO without an issue, trailing white space.

Usage: hygiene.py [ROOT]. Prints each finding as file:line and ends 1, or says that all is clean.
Reads the files git knows and those it would add; without git every file outside build/.
"""

import re
import subprocess
import sys
from pathlib import Path

WORDS = ("chatgpt", "claude", "anthropic", "openai", "copilot", "language model", "helper agent")
HOSTS = ("deb.debian.org", "pypi.org", "files.pythonhosted.org", "proxy.golang.org",
         "registry.npmjs.org", "crates.io")
# These hold the lists above and examples of what they forbid.
OWN = ("scripts/hygiene.py", "tests/harness/test_hygiene.py")
# Data that is kept byte for byte as it is.
DATA = ("tests/golden/", "tests/vectors/", "tests/fuzz/corpus/")


def any_of(words):
    return "|".join(map(re.escape, words))


# (what it is, pattern); a line matches as a whole.
FORBIDDEN = (
    ("path of a work machine", re.compile(r"(?<![\w.)}*])/(?:work|root|home)/[\w.~-]")),
    ("registry host", re.compile(rf"(?<![\w-])(?:{any_of(HOSTS)})(?![\w-])", re.I)),
    ("private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("word about the workplace", re.compile(rf"\b(?:{any_of(WORDS)})\b", re.I)),
)
TODO = re.compile(r"\b(?:TODO|FIXME)\b(?!.*#\d)")  # not in prose, which may speak of them
TRAILING = re.compile(r"[ \t]+\r?$")


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    names = [name for name in tree_files(root) if name not in OWN]
    findings = [text for name in names for text in check_file(root, name)]
    for text in findings:
        print(text)
    if not findings:
        print(f"hygiene holds: {len(names)} files")
    return 1 if findings else 0


def tree_files(root):
    """Paths below `root`, as text."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, check=True, capture_output=True, text=True).stdout
        names = {name for name in listed.split("\0") if name}
    else:
        names = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    return sorted(name for name in names if not passed_over(name) and (root / name).is_file())


def passed_over(name):
    return name.startswith("build/") or "__pycache__" in name


def check_file(root, name):
    """A line of text for each finding in a file."""
    data = (root / name).read_bytes()
    patterns = list(FORBIDDEN)
    if not name.endswith(".md"):
        patterns.append(("TODO without an issue (#n)", TODO))
    if not name.startswith(DATA) and b"\0" not in data:
        patterns.append(("trailing white space", TRAILING))
    return [f"{name}:{number}: {what}"
            for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1)
            for what, pattern in patterns if pattern.search(line)]


if __name__ == "__main__":
    sys.exit(main())
