"""Fixtures of the tests that run the program."""

import pytest

from cli_tool import Cli


@pytest.fixture
def fresh(tmp_path):
    """The program before `init`."""
    return Cli(tmp_path)


@pytest.fixture
def cli(fresh):
    """The program after `init`."""
    fresh.ok("init")
    return fresh
