"""`dekhand bench` on PostgreSQL: its figures, and that nothing of it stays."""

import json
import signal
import subprocess
import time

import pytest

import servers
from cli_tool import PROGRAM

FEW = ("bench", "--postgres", "--tenants", "3000", "--rounds", "1")
FIGURES = ["pg_new_tenants", "pg_cold_keys", "pg_cached_statements", "pg_health_pages",
           "pg_idle_polls"]


def schemas(database):
    return servers.psql(database, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'dekhand%'")


def folders(fresh):
    return list(fresh.folder.glob("dekhand-bench*"))


@pytest.mark.slow
def test_figures_of_a_server(fresh, database):
    fresh.env.update(DATABASE_URL=database, TMPDIR=str(fresh.folder))
    found = fresh.json(*FEW, "--postgres-tenants", "2000", schema="bench")
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert list(figures) == FIGURES
    assert figures["pg_cached_statements"]["time"] == 0
    assert figures["pg_health_pages"]["time"] > 0
    assert found["postgres"]["healthKeys"] == 5000
    assert any("Buffers: shared" in line for line in found["postgres"]["healthPlan"])
    assert schemas(database) == ""
    assert not folders(fresh)


@pytest.mark.slow
def test_schema_that_the_url_names_is_left_alone(fresh, database):
    fresh.env.update(DATABASE_URL=f"{database}?dekhand_schema=mine", TMPDIR=str(fresh.folder))
    fresh.ok("init")
    before = servers.psql(database, "SELECT registry_uuid FROM mine.registry")
    found = json.loads(fresh.ok(*FEW, "--json"))
    assert [figure["name"] for figure in found["figures"]] == FIGURES
    assert servers.psql(database, "SELECT registry_uuid FROM mine.registry") == before
    assert servers.psql(database, "SELECT count(*) FROM mine.tenants") == "0"
    assert schemas(database) == ""


def test_first_signal_drops_the_schema(fresh, database):
    env = {**fresh.env, "DATABASE_URL": database, "TMPDIR": str(fresh.folder)}
    with subprocess.Popen([PROGRAM, "bench", "--postgres"], env=env, cwd=fresh.folder,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
        while schemas(database) == "" and bench.poll() is None:
            time.sleep(0.05)
        assert folders(fresh)
        bench.send_signal(signal.SIGINT)
        _, told = bench.communicate(timeout=60)
    assert bench.returncode == -signal.SIGINT
    assert b"stopped by SIGINT" in told
    assert schemas(database) == ""
    assert not folders(fresh)


def test_server_that_is_not_there_is_told(fresh):
    fresh.env.update(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", TMPDIR=str(fresh.folder))
    done = fresh.run(*FEW)
    assert done.returncode == 1
    assert b"127.0.0.1:1/none cannot be reached" in done.stderr
    assert b"pg_" not in done.stdout
    assert not folders(fresh)
