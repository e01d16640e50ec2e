"""Line and branch coverage of the cover build, from gcovr, and the gates it must pass."""

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.command import run
from harness.report import Result
from harness.tree import clean_environment, out_dir

LINES_OF_ALL = 90.0
EVERY_BRANCH = ("src/crypto/field.c", "src/crypto/context.c", "src/keys/states.c",
                "src/keys/access.c")


@dataclass
class FileCover:
    path: str
    lines: int = 0
    lines_hit: int = 0
    branches: int = 0
    branches_hit: int = 0
    missed_branches: list[int] = field(default_factory=list)  # their lines


def forget():
    """Removes the counts of earlier runs."""
    for path in out_dir("cover").rglob("*.gcda"):
        path.unlink()


def gates():
    """Prints the table of files; one test for each gate."""
    began = time.monotonic()
    files, output = _measure()
    print(table(files), flush=True)
    failures = check(files)
    count = 1 + len(EVERY_BRANCH)
    return Result("cover: gates", count - len(failures), len(failures),
                  seconds=time.monotonic() - began, output="\n".join([output, *failures]))


def check(files):
    """A sentence for each gate that does not hold."""
    failures = []
    share = _percent(sum(f.lines_hit for f in files), sum(f.lines for f in files))
    if not files or share < LINES_OF_ALL:
        failures.append(f"src/: {share:.1f} % of the lines, {LINES_OF_ALL:.0f} % wanted")
    by_path = {f.path: f for f in files}
    for path in EVERY_BRANCH:
        seen = by_path.get(path)
        if seen is None:
            failures.append(f"{path}: no coverage data")
        elif seen.branches_hit < seen.branches:
            failures.append(f"{path}: branches never taken in lines "
                            + ", ".join(map(str, seen.missed_branches)))
    return failures


def table(files):
    rows = [f"{'':<34}{'lines':>16}{'branches':>20}"]
    for f in files:
        rows.append(_row(f.path, f.lines_hit, f.lines, f.branches_hit, f.branches))
    rows.append(_row("all", *(sum(getattr(f, name) for f in files) for name in
                              ("lines_hit", "lines", "branches_hit", "branches"))))
    return "\n".join(rows)


def read(document):
    """FileCover for each file of a gcovr JSON document."""
    return [_read_file(entry) for entry in document["files"]]


def _measure():
    with tempfile.TemporaryDirectory(prefix="dekhand-") as folder:
        out = Path(folder) / "cover.json"
        outcome = run(["gcovr", "--root", ".", "--filter", "src/", "--exclude-throw-branches",
                       "--exclude-unreachable-branches", "--json", out,
                       out_dir("cover") / "obj" / "src"], env=clean_environment())
        if outcome.code != 0 or not out.exists():
            return [], outcome.output
        return read(json.loads(out.read_text())), outcome.output


def _read_file(entry):
    cover = FileCover(entry["file"])
    for line in entry["lines"]:
        if line.get("gcovr/noncode") or line.get("gcovr/excluded"):
            continue
        taken = [branch["count"] > 0 for branch in line["branches"]]
        cover.lines += 1
        cover.lines_hit += line["count"] > 0
        cover.branches += len(taken)
        cover.branches_hit += sum(taken)
        if not all(taken):
            cover.missed_branches.append(line["line_number"])
    return cover


def _row(name, lines_hit, lines, branches_hit, branches):
    return (f"{name:<34}{lines_hit:>5}/{lines:<5}{_percent(lines_hit, lines):>5.0f} %"
            f"{branches_hit:>8}/{branches:<5}{_percent(branches_hit, branches):>5.0f} %")


def _percent(part, whole):
    return 100.0 * part / whole if whole else 100.0
