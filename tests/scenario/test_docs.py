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
