"""Where things are: sources, builds, programs, and the environment that tests see."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3"
ROOMS_OF_TESTS = ("unit", "contract", "vectors", "scenario")

# The caller's settings stay outside: a test that wants one sets it. MAKE*: `make check -j4` must
# not reach into the builds made here.
NOT_FOR_TESTS = ("KMS_", "DEKHAND_", "AWS_", "AZURE_", "MAKE", "MFLAGS", "CMOCKA_", "PYTEST_",
                 "PG")
NOT_FOR_TESTS_EXACT = ("BUILD", "DATA", "DATABASE_URL", "DEBUG", "DESTDIR", "PREFIX", "LIBDIR")

FOR_TESTS = {}  # what every test sees besides: where the servers are that all share


def out_dir(build):
    """The folder of a build, as the Makefile names it."""
    return ROOT / "build" if build == "release" else ROOT / "build" / build


def test_sources(room):
    return sorted((ROOT / "tests" / room).glob("*_test.c"))


def test_program(build, source):
    return out_dir(build) / source.relative_to(ROOT).with_suffix("")


def clean_environment():
    """The environment without the caller's settings; tools speak English."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOT_FOR_TESTS) and name not in NOT_FOR_TESTS_EXACT
    }
    return {**kept, "LC_ALL": "C.UTF-8"}


def test_environment(build, scratch):
    """What a test sees; `scratch` is its own temporary folder."""
    env = clean_environment()
    env.update(
        DEKHAND_ROOT=str(ROOT),
        DEKHAND_BUILD=build,
        DEKHAND_BIN=str(out_dir(build) / "dekhand"),
        TMPDIR=str(scratch),
        XDG_STATE_HOME=str(scratch / "state"),
        PYTHONDONTWRITEBYTECODE="1",
        **FOR_TESTS,
    )
    return env
