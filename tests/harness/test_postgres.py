"""One server for all suites: there while it is open, gone afterwards, missed when there is none."""

import subprocess

import pytest

import servers
from harness import postgres, tree
from harness.report import Report


def test_server_is_there_for_the_tests_and_gone_afterwards(tmp_path):
    report = Report(ci=False)
    with postgres.shared(report):
        url = tree.test_environment("release", tmp_path)["DEKHAND_TEST_PG"]
        pool = tree.test_environment("release", tmp_path)["DEKHAND_TEST_BOUNCER"]
        assert servers.psql(url, "SELECT 1") == "1"
        assert servers.psql(f"postgresql://{servers.USER}@{pool}/postgres", "SELECT 1") == "1"
    assert not set(postgres.NAMES) & set(tree.test_environment("release", tmp_path))
    with pytest.raises(subprocess.CalledProcessError) as error:
        servers.psql(url, "SELECT 1")
    assert "refused" in error.value.stderr
    with pytest.raises(subprocess.CalledProcessError) as error:
        servers.psql(f"postgresql://{servers.USER}@{pool}/postgres", "SELECT 1")
    assert "refused" in error.value.stderr
    assert report.failed == 0


def test_no_server_is_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    report = Report(ci=False)
    with postgres.shared(report):
        assert not set(postgres.NAMES) & set(tree.test_environment("release", tmp_path))
    assert report.failed == 1 and "servers.py" in capsys.readouterr().out
