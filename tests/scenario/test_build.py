"""What is built: hardened, nothing but dekhand_* leaves it, no path of the machine inside."""

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.release

ROOT = Path(os.environ.get("DEKHAND_ROOT", Path(__file__).parents[2]))
BUILD = ROOT / "build"
PROGRAM = BUILD / "dekhand"
LIBRARY = BUILD / "libdekhand.so.0"
ARCHIVE = BUILD / "libdekhand.a"
LOADED = pytest.mark.parametrize("file", [PROGRAM, LIBRARY], ids=lambda file: file.name)


def output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True,
                          env=dict(os.environ, LC_ALL="C")).stdout


def dynamic(file):
    """{tag: [values]} of the dynamic section."""
    entries = {}
    for tag, value in re.findall(r"^ 0x[0-9a-f]+ \((\w+)\)\s+(.*)$", output(
            "readelf", "-dW", file), re.M):
        entries.setdefault(tag, []).append(value)
    return entries


def segments(file):
    """{type: flags} of the program headers."""
    rows = re.findall(r"^  ([A-Z_]+) +(?:0x[0-9a-f]+ ){5}([RWE ]{3})", output(
        "readelf", "-lW", file), re.M)
    return {kind: flags.replace(" ", "") for kind, flags in rows}


def imported(file):
    return {name.partition("@")[0] for name in re.findall(
        r" UND (\S+)", output("readelf", "--dyn-syms", "-W", file))}


def defined(*argv):
    """Names that nm lists as defined; the node of a symbol version is no symbol."""
    rows = re.findall(r"^[0-9a-f]+ (\w) (\S+)$", output("nm", "--defined-only", *argv), re.M)
    return {name.partition("@")[0] for kind, name in rows if kind != "A"}


def declared():
    """The functions that the public headers declare."""
    text = "".join(path.read_text() for path in sorted((ROOT / "include").glob("*.h")))
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return set(re.findall(r"\b(dekhand_\w+)\s*\(", code))


@LOADED
def test_relocations_are_read_only_and_bound_at_start(file):
    entries = dynamic(file)
    assert "GNU_RELRO" in segments(file)
    assert "BIND_NOW" in "".join(entries["FLAGS"]) and "NOW" in "".join(entries["FLAGS_1"])


@LOADED
def test_stack_is_not_executable(file):
    assert segments(file)["GNU_STACK"] == "RW"


@LOADED
def test_no_segment_is_writable_and_executable(file):
    rows = re.findall(r"^  LOAD +(?:0x[0-9a-f]+ ){5}([RWE ]{3})", output(
        "readelf", "-lW", file), re.M)
    assert rows and not [flags for flags in rows if "W" in flags and "E" in flags]


@LOADED
def test_stack_protector_and_fortify_are_in_use(file):
    names = imported(file)
    assert "__stack_chk_fail" in names
    assert [name for name in names if name.endswith("_chk")]


@LOADED
def test_no_search_path_and_no_text_relocation(file):
    entries = dynamic(file)
    assert not {"RPATH", "RUNPATH", "TEXTREL"} & set(entries)
    assert "TEXTREL" not in "".join(entries.get("FLAGS", []))


@pytest.mark.parametrize("file", [PROGRAM, LIBRARY, ARCHIVE], ids=lambda file: file.name)
def test_no_path_of_this_machine_inside(file):
    assert os.fsencode(ROOT.resolve()) + b"/" not in file.read_bytes()


def test_program_is_position_independent():
    kind = re.search(r"Type:\s+(.*)", output("readelf", "-hW", PROGRAM))[1]
    assert kind.startswith("DYN")
    assert "PIE" in "".join(dynamic(PROGRAM)["FLAGS_1"])


def test_library_has_its_soname():
    assert dynamic(LIBRARY)["SONAME"] == ["Library soname: [libdekhand.so.0]"]


def test_library_exports_what_the_headers_declare_and_nothing_else():
    names = defined("-D", LIBRARY)
    assert names and not [name for name in names if not name.startswith("dekhand_")]
    assert names == declared()


def test_archive_shows_the_same_names_as_the_library():
    assert defined("-g", ARCHIVE) == defined("-D", LIBRARY)
