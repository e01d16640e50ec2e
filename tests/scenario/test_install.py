"""make install, then the examples of docs/ compiled and run as an application would."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.release

ROOT = Path(os.environ.get("DEKHAND_ROOT", Path(__file__).parents[2]))
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.c"))
INSTALLED = ("bin/dekhand", "lib/libdekhand.so.0", "lib/libdekhand.so", "lib/libdekhand.a",
             "lib/pkgconfig/dekhand.pc", "include/dekhand.h", "include/dekhand_admin.h",
             "share/bash-completion/completions/dekhand", "share/zsh/site-functions/_dekhand",
             "share/fish/vendor_completions.d/dekhand.fish", "share/man/man1/dekhand.1",
             "share/man/man1/dekhand-encrypt.1", "share/man/man3/dekhand_encrypt.3",
             "share/man/man5/dekhand.env.5", "share/man/man7/dekhand-errors.7")
EACH_EXAMPLE = pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: source.stem)


def run(argv, **more):
    """Runs a command; what it said is part of the failure."""
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=300,
                          **more)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def usr(tmp_path_factory):
    """The /usr of a fresh root into which the build was installed."""
    root = tmp_path_factory.mktemp("root")
    run(["make", "--no-print-directory", "install", f"DESTDIR={root}", "PREFIX=/usr"], cwd=ROOT)
    return root / "usr"


def pkg_config(usr, *options):
    env = dict(os.environ, PKG_CONFIG_PATH=str(usr / "lib" / "pkgconfig"),
               PKG_CONFIG_SYSROOT_DIR=str(usr.parent))
    return shlex.split(run(["pkg-config", *options, "dekhand"], env=env))


def build(source, program, *flags):
    run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", program, source, *flags])


def run_example(program, folder, **more):
    """Runs a program on a state directory that does not exist yet."""
    env = dict(os.environ, KMS_STATE_DIR=str(folder / "state"), **more)
    run([program], cwd=folder, env=env)


def test_everything_is_installed(usr):
    missing = [name for name in INSTALLED if not (usr / name).is_file()]
    assert missing == []
    assert os.readlink(usr / "lib" / "libdekhand.so") == "libdekhand.so.0"


def test_installed_program_runs(usr, tmp_path):
    assert run([usr / "bin" / "dekhand", "version"], cwd=tmp_path)


@pytest.mark.parametrize("page", ["dekhand", "dekhand-encrypt", "dekhand.env", "dekhand-errors",
                                  "libdekhand", "dekhand_encrypt"])
def test_installed_manual_pages_are_found(usr, page):
    shown = run(["mandoc", "-Tascii", *(usr / "share/man").glob(f"*/{page}.?")],
                cwd=usr / "share/man")
    assert {"NAME", "SEE ALSO"} <= set(re.sub(".\b", "", shown).splitlines())


def test_there_are_examples():
    assert EXAMPLES


@EACH_EXAMPLE
def test_example_runs_with_the_shared_library(usr, tmp_path, source):
    program = tmp_path / source.stem
    build(source, program, *pkg_config(usr, "--cflags", "--libs"))
    assert "libdekhand.so.0" in run(["readelf", "-d", program])
    run_example(program, tmp_path, LD_LIBRARY_PATH=str(usr / "lib"))


@EACH_EXAMPLE
def test_example_runs_with_the_archive(usr, tmp_path, source):
    flags = pkg_config(usr, "--static", "--cflags", "--libs")
    archive = ["-l:libdekhand.a" if flag == "-ldekhand" else flag for flag in flags]
    program = tmp_path / source.stem
    build(source, program, *archive)
    assert "libdekhand" not in run(["readelf", "-d", program])
    run_example(program, tmp_path)
