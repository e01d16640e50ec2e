"""Fixtures of the tests that run the program."""

import os
import shutil

import pytest

import servers
from cli_tool import Cli


@pytest.fixture
def fresh(tmp_path):
    """The program before `init`."""
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def state_of_init(tmp_path_factory):
    first = Cli(tmp_path_factory.mktemp("init"))
    first.ok("init")
    return first.state


@pytest.fixture
def cli(fresh, state_of_init):
    """The program after `init`, on a copy of what that made."""
    shutil.copytree(state_of_init, fresh.state)
    return fresh


@pytest.fixture
def large(tmp_path):
    """A folder for files of hundreds of MiB: gone before the scan looks at what tests left."""
    folder = tmp_path / "large"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres():
    """The superuser's URL of the server that all suites share, or of one of our own."""
    shared = os.environ.get("DEKHAND_TEST_PG")
    if shared:
        yield shared
    else:
        with servers.Postgres.started() as own:
            yield own.url()


@pytest.fixture
def database(postgres):
    """The superuser's URL of a new database there; dropped afterwards."""
    with servers.new_database(postgres) as url:
        yield url
