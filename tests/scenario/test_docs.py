"""The pages that are made from the code are those of the code; what others say can be done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli_tool import Cli, told

ROOT = Path(os.environ["DEKHAND_ROOT"])
PAGES = sorted((ROOT / "docs" / "man").glob("*.[1-8]"))
WORDS = ROOT / "docs" / "man" / "words.txt"
COMMANDS = {page.stem for page in PAGES if page.suffix == ".1"}

pytestmark = pytest.mark.release


def words():
    """{page: {heading: text}}"""
    parts = re.split(r"^# (.*)\n", WORDS.read_text(), flags=re.M)[1:]
    return {name: dict(zip(*[iter(re.split(r"^## (.*)\n", text, flags=re.M)[1:])] * 2))
            for name, text in zip(parts[::2], parts[1::2])}


def test_the_pages_are_what_the_code_says():
    done = subprocess.run([sys.executable, str(ROOT / "scripts/docs.py"), "--check"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_has_a_page_with_words():
    listed = subprocess.run([ROOT / "build/dekhand", "--help"], capture_output=True, text=True,
                            timeout=30, check=True).stdout
    names = {f"dekhand-{name}" for name in re.findall(r"^  (\w\S*) ", listed, re.M)} | {"dekhand"}
    assert COMMANDS == names
    for name in names:
        assert words().get(name, {}).get("DESCRIPTION"), f"{WORDS}: nothing about {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_manual_page_is_sound(page):
    if page.read_text().startswith(".so "):
        assert (ROOT / "docs" / "man" / page.read_text().split("/")[1].strip()).is_file()
        return
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", page], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout + done.stderr == "", told(done)


@pytest.mark.parametrize("page", [name for name, parts in words().items() if "EXAMPLES" in parts])
def test_examples_of_a_manual_page_run(page, tmp_path):
    cli = Cli(tmp_path)
    script = "\n".join(line[4:] for line in words()[page]["EXAMPLES"].splitlines()
                       if line.startswith("    "))
    assert "dekhand" in script
    env = dict(cli.env, PATH=f"{ROOT / 'build'}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-euc", f"set -o pipefail; dekhand init >/dev/null\n{script}"],
                          env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0, f"{script}\n{told(done)}"


# ---- docs/modules ---------------------------------------------------------------------------------

ROOMS = {room.name: room for room in (ROOT / "src").iterdir() if room.is_dir()}
ROOMS["door"] = ROOT / "src"
SOURCE = (".c", ".h", ".def", ".map")
NAMED = re.compile(r"`([\w./-]+\.(?:c|h|def|map|py|sh|sql))`")
SECTIONS = ["What holds", "How it fails", "How it is tested"]


def test_every_room_has_its_page():
    assert {page.stem for page in (ROOT / "docs" / "modules").glob("*.md")} == set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_page_names_the_files_of_the_room_and_no_others(room):
    text = (ROOT / "docs" / "modules" / f"{room}.md").read_text()
    files = {path.name for path in ROOMS[room].iterdir() if path.suffix in SOURCE}
    table = set(NAMED.findall("\n".join(re.findall(r"^\| (`.*?) \|", text, re.M))))
    assert table == files
    for name in NAMED.findall(text):
        folder = ROOT if "/" in name else ROOMS[room]
        assert (folder / name).is_file(), name
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    assert "**Called by**" in text and "**Refuses to know**" in text


# ---- docs/OPERATIONS.md ---------------------------------------------------------------------------

OPERATIONS = ROOT / "docs" / "OPERATIONS.md"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", OPERATIONS.read_text(), re.M | re.S)


def test_the_story_of_the_operations_page_runs_as_written(tmp_path):
    cli = Cli(tmp_path).without("KMS_STATE_DIR")
    script = "set -eEuo pipefail\ntrap 'echo \"line $LINENO: $BASH_COMMAND\" >&2' ERR\n"
    env = dict(cli.env, PATH=f"{ROOT / 'build'}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", script + "\n".join(blocks("sh"))], cwd=tmp_path, env=env,
                          capture_output=True, text=True, timeout=120, check=False)
    assert len(blocks("sh")) > 10
    assert done.returncode == 0, told(done) + done.stderr[-2000:]


def test_the_operations_page_names_every_error_and_event_and_no_others():
    text = OPERATIONS.read_text()
    errors = set(re.findall(r"DK_ERROR\(([A-Z_]+),", (ROOT / "src/base/errors.def").read_text()))
    named = set(re.findall(r"^\| (`E_.*?) \|", text, re.M))
    assert {name for row in named for name in re.findall(r"`E_(\w+)`", row)} == errors
    events = {name for path in (ROOT / "src").rglob("*.c") for name in
              re.findall(r'DK_LOG\([^;"]*?, (?:DEBUG|INFO|WARN|ERROR), "(\w+)"', path.read_text())}
    assert set(re.findall(r"^\| `([a-z]+(?:_[a-z]+)+)` \|", text, re.M)) == events


@pytest.mark.parametrize("page", ["README.md", "docs/AWS.md", "docs/OPERATIONS.md",
                                  "docs/SECURITY.md"])
def test_commands_on_a_page_exist(page):
    reference = (ROOT / "docs" / "REFERENCE.md").read_text()
    helps = {name: text for name, text in
             re.findall(r"^### dekhand (.*?)\n(.*?)(?=^###? )", reference, re.M | re.S)}
    flags = "\n".join(f"--{flag} " for flag in re.findall(
        r'DK_OPTION\(\w+, "\w+", "([\w-]+)"', (ROOT / "src/base/options.def").read_text()))
    text = (ROOT / page).read_text().replace("\\\n", " ")
    text = "\n".join(code for pair in re.findall(r"^```\w*\n(.*?)^```|`([^`\n]+)`", text, re.M | re.S)
                     for code in pair)
    called = re.findall(r"(?:^|[`(]|&& |\| +|-- |[A-Z_]+=\S+ )(?:/usr/local/bin/)?dekhand "
                        r"([a-z][^`|\n;)<>&]*)", text, re.M)
    assert len(called) > 5
    for words in called:
        first, *rest = words.split()
        name = first if first in helps else " ".join([first, *rest[:1]])
        assert name in helps or any(key.startswith(f"{first} ") for key in helps), words
        for option in re.findall(r"(?<!\S)(--[\w-]+)", words):
            assert re.search(rf"{option}(?!\S)", helps.get(name, "") + flags), words


def heads(page):
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-")
            for head in re.findall(r"^#+ (.*)$", page.read_text(), re.M)}


@pytest.mark.parametrize("page", ["OPERATIONS.md", "AWS.md"])
def test_links_of_a_page_lead_somewhere(page):
    for name, head in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", (ROOT / "docs" / page).read_text()):
        assert head in heads(ROOT / "docs" / (name or page)), f"{name}#{head}"
