"""What an operator sees: keys, rotation, streams, places, help, and a database that is read-only."""

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

import cli_tool
from cli_tool import Cli, check_schema

COMMANDS = (("init",), ("demo",), ("encrypt",), ("decrypt",), ("keys", "list"), ("keys", "show"),
            ("keys", "export"), ("rotate",), ("cache", "clear"), ("config",), ("bench",), ("version",))
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def tenants(cli):
    """The program with a value of two tenants."""
    cli.values = {tenant: cli.ok("encrypt", "--tenant", tenant, stdin=tenant.encode())
                  for tenant in ("acme", "globex")}
    return cli


def reads_everything(cli):
    return all(cli.ok("decrypt", "--tenant", tenant, stdin=value) == tenant.encode()
               for tenant, value in cli.values.items())


def versions(cli):
    """{(tenant, version): state}."""
    keys = cli.json("keys", "list", schema="keys-list")["keys"]
    return {(key["tenantId"], key["version"]): key["state"] for key in keys}


def dump(cli):
    with closing(sqlite3.connect(f"file:{cli.database}?mode=ro", uri=True)) as registry:
        return list(registry.iterdump())


# ---- keys ----------------------------------------------------------------------------------------

def test_keys_list_counts_what_there_is(tenants):
    found = tenants.json("keys", "list", schema="keys-list")
    assert [key["tenantId"] for key in found["keys"]] == ["acme", "globex"]
    assert found["stats"] == {"totalKeys": 2, "activeKeys": 2, "expiredKeys": 0,
                              "keysNearExpiration": 0}
    assert found["keys"][0]["messages"] == 1


def test_keys_list_of_one_tenant_and_of_none(tenants):
    found = tenants.json("keys", "list", "--tenant", "globex", schema="keys-list")
    assert [key["tenantId"] for key in found["keys"]] == ["globex"]
    assert tenants.json("keys", "list", "--tenant", "nobody", schema="keys-list")["keys"] == []


def test_keys_show_tells_the_history(tenants):
    tenants.ok("rotate", "--tenant", "acme")
    found = tenants.json("keys", "show", "--tenant", "acme", schema="keys-show")
    assert [(key["version"], key["state"]) for key in found["keys"]] == [
        (1, "retired"), (2, "active")]
    assert [(entry["operation"], entry["fromVersion"], entry["toVersion"])
            for entry in found["history"]] == [("rotate", 1, 2), ("create", None, 1)]
    assert found["history"][0]["performedBy"].startswith("cli:")
    assert "rotate" in tenants.ok("keys", "show", "--tenant", "acme").decode()


def test_keys_show_of_a_tenant_without_keys_fails(cli):
    assert "E_NOT_FOUND" in cli.fails(1, "keys", "show", "--tenant", "nobody", "--json")


def test_export_is_asked_for_twice_and_written_down(tenants):
    export = ("keys", "export", "--tenant", "acme", "--version", "1")
    assert "--allow-key-export" in tenants.fails(2, *export)
    line = tenants.ok(*export, "--allow-key-export")
    assert len(line) == 45 and line.endswith(b"=\n")
    history = tenants.json("keys", "show", "--tenant", "acme", schema="keys-show")["history"]
    assert history[0]["operation"] == "export"


@pytest.mark.parametrize("version", ["0", "-1", "x", "", "1x", "2147483648", " 1", "1.0"])
def test_export_wants_a_version(tenants, version):
    said = tenants.fails(2, "keys", "export", "--tenant", "acme", "--version", version,
                         "--allow-key-export")
    assert "--version" in said


def test_export_of_an_unknown_version_or_tenant_fails(tenants):
    for tenant, version in (("acme", "2"), ("nobody", "1")):
        tenants.fails(1, "keys", "export", "--tenant", tenant, "--version", version,
                      "--allow-key-export")


# ---- rotate --------------------------------------------------------------------------------------

def test_rotate_one_tenant(tenants):
    found = tenants.json("rotate", "--tenant", "acme", schema="rotate")
    assert (found["rotated"], found["failed"]) == (1, 0)
    assert versions(tenants) == {("acme", 1): "retired", ("acme", 2): "active",
                                 ("globex", 1): "active"}
    assert tenants.ok("encrypt", "--tenant", "acme", stdin=b"x").startswith(b"dk1.2.")
    assert reads_everything(tenants)


def test_rotate_all_three_times(tenants):
    for _ in range(3):
        assert tenants.json("rotate", "--all", schema="rotate")["rotated"] == 2
    assert [state for (_, version), state in versions(tenants).items() if version == 4] == [
        "active", "active"]
    assert reads_everything(tenants)


def test_rotate_due_takes_only_what_expires_soon(tenants):
    tenants.ok("encrypt", "--tenant", "young", stdin=b"x", env={"KMS_ROTATION_DAYS": "8"})
    assert tenants.json("rotate", "--due", schema="rotate")["rotated"] == 0
    soon = {"KMS_WARNING_DAYS": "9"}
    keys = tenants.json("keys", "list", env=soon, schema="keys-list")["keys"]
    assert [key["tenantId"] for key in keys if key["due"]] == ["young"]
    found = tenants.json("rotate", "--due", env=soon, schema="rotate")
    assert [(r["tenantId"], r["toVersion"]) for r in found["rotations"]] == [("young", 2)]


@pytest.mark.parametrize("which", [("--all",), ("--due",), ("--tenant", "acme"),
                                   ("--all", "--compromised")])
def test_dry_run_changes_nothing(tenants, which):
    before = dump(tenants)
    found = tenants.json("rotate", *which, "--dry-run", schema="rotate",
                         env={"KMS_WARNING_DAYS": "89"})
    assert (found["rotated"], found["dryRun"]) == (0, True)
    assert dump(tenants) == before


def test_I09_compromised_version_is_marked_and_still_reads(tenants):
    tenants.ok("rotate", "--tenant", "acme", "--compromised")
    found = tenants.json("keys", "show", "--tenant", "acme", schema="keys-show")
    assert [key["compromisedAt"] is not None for key in found["keys"]] == [True, False]
    assert "compromise" in {entry["operation"] for entry in found["history"]}
    assert tenants.ok("encrypt", "--tenant", "acme", stdin=b"x").startswith(b"dk1.2.")
    assert reads_everything(tenants)


def test_rotate_of_a_tenant_without_keys_fails(cli):
    done = cli.run("rotate", "--tenant", "nobody", "--json")
    assert done.returncode == 1
    check_schema("rotate", json.loads(done.stdout))
    assert b"E_NOT_FOUND" in done.stderr


@pytest.mark.parametrize("args", [(), ("--all", "--due"), ("--all", "--tenant", "a"),
                                  ("--due", "--compromised")])
def test_rotate_wants_one_choice(cli, args):
    cli.fails(2, "rotate", *args)


# ---- the call ------------------------------------------------------------------------------------

WRONG_CALLS = {
    "unknown_command": ("enrypt",),
    "half_a_command": ("keys",),
    "unknown_half": ("keys", "delete"),
    "unknown_option": ("version", "--jsn"),
    "unknown_letter": ("version", "-x"),
    "missing_value": ("encrypt", "--tenant"),
    "value_for_a_switch": ("version", "--json=yes"),
    "option_twice": ("encrypt", "--tenant", "a", "--tenant", "b"),
    "word_too_many": ("version", "now"),
    "no_tenant": ("encrypt",),
    "no_tenant_to_show": ("keys", "show"),
    "no_version": ("keys", "export", "--tenant", "a", "--allow-key-export"),
    "rows_of_bench": ("bench", "--rows", "x"),
    "bench_of_no_server": ("bench", "--postgres"),
}


@pytest.mark.parametrize("args", WRONG_CALLS.values(), ids=WRONG_CALLS.keys())
def test_wrong_call_is_answered_with_a_sentence(cli, args):
    said = cli.fails(2, *args)
    assert said.startswith("dekhand: ") and len(said.split()) > 3


def test_call_without_a_command_lists_them(fresh):
    said = fresh.fails(2)
    for command in COMMANDS:
        assert " ".join(command) in said


@pytest.mark.parametrize("ask", ["--help", "-h", "help"])
def test_help_lists_the_commands(fresh, ask):
    text = fresh.ok(ask).decode()
    for command in COMMANDS:
        assert " ".join(command) in text


@pytest.mark.parametrize("command", COMMANDS, ids="_".join)
def test_help_of_every_command_needs_nothing(fresh, command):
    text = fresh.ok(*command, "--help").decode()
    assert text.startswith(f"dekhand {' '.join(command)}: ") and "--json" in text
    assert list(fresh.folder.iterdir()) == [fresh.home]


def test_version(fresh):
    number = fresh.json("version", schema="version")["version"]
    assert fresh.ok("version") == fresh.ok("--version") == f"dekhand {number}\n".encode()


@pytest.mark.parametrize("args", [(b"\xff",), ("version", b"--\xff"), ("init", b"\xff\xfe"),
                                  ("encrypt", "--tenant", b"\xc3("),
                                  ("encrypt", "--tenant", "a", "--context", b"a=\xff")])
def test_F76_arguments_that_are_not_utf8_are_refused(cli, args):
    done = cli.run(*args, stdin=b"x")
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.decode()


# ---- streams -------------------------------------------------------------------------------------

WRITERS = [("init",), ("keys", "list"), ("keys", "list", "--json"), ("config",), ("version",),
           ("encrypt", "--tenant", "acme"), ("rotate", "--all", "--dry-run"), ("demo",),
           ("--help",), ("version", "--help"), ("keys", "show", "--tenant", "acme")]
EACH_WRITER = pytest.mark.parametrize("args", WRITERS, ids="_".join)


@EACH_WRITER
def test_F76_full_disk_behind_standard_output_is_an_error(tenants, args):
    with open("/dev/full", "wb") as full:
        assert tenants.run(*args, stdin=b"x", stdout=full).returncode == 1


@EACH_WRITER
def test_F76_closed_standard_output_is_an_error(tenants, args):
    before = dump(tenants)
    assert tenants.run(*args, stdin=b"x", preexec_fn=lambda: os.close(1)).returncode == 1
    if args[0] != "encrypt":
        assert dump(tenants) == before


@EACH_WRITER
def test_F76_pipe_that_nobody_reads_is_an_error(tenants, args):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        assert tenants.run(*args, stdin=b"x", stdout=pipe).returncode == 1


def test_F76_csv_into_a_pipe_that_is_closed_halfway(cli):
    data = b"t,v\n" + b"acme,some value\n" * 200_000
    with subprocess.Popen([cli_tool.PROGRAM, "encrypt", "--csv", "--columns=v", "--tenant-column=t"],
                          env=cli.env, cwd=cli.folder, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        try:
            process.stdin.write(data)
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.stdin = None
        process.stdout = None
        assert process.wait(timeout=60) == 1
        assert b"E_IO" in process.stderr.read()


def test_F76_closed_pipe_is_called_so(cli):
    reader, writer = os.pipe()
    os.close(reader)
    done = cli.run("keys", "list", stdout=writer)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b"dekhand: E_IO: standard output was closed\n"


def test_failed_rotation_of_a_tenant_is_told_once(cli):
    done = cli.run("rotate", "--tenant", "nosuch")
    assert done.returncode == 1
    assert done.stderr.count(b"E_NOT_FOUND") == 1 and b"what to do" in done.stderr


@pytest.mark.parametrize("command", ["encrypt", "decrypt"])
def test_file_as_a_word_is_pointed_to_standard_input(fresh, command):
    said = fresh.fails(2, command, "--tenant", "x", "customers.csv")
    assert "`customers.csv` is not an option: the input is standard input (`< customers.csv`)" in said


def test_rejects_are_an_option_of_encrypt_alone(fresh):
    assert b"--rejects" in fresh.ok("encrypt", "--help")
    assert b"--rejects" not in fresh.ok("decrypt", "--help")


def test_F76_messages_never_go_into_a_file_when_standard_error_is_closed(cli, tmp_path):
    rows = b"t,v\nacme,x\na b,y\nglobex,z\n"
    done = cli.run("encrypt", "--csv", "--columns=v", "--tenant-column=t", "--rejects", "bad",
                   "-o", "out", stdin=rows, preexec_fn=lambda: os.close(2))
    assert done.returncode == 3
    assert (tmp_path / "bad").read_bytes() == b"a b,y\n"
    assert (tmp_path / "out").read_bytes().count(b"\n") == 3


def test_F76_no_streams_at_all(fresh):
    done = fresh.run("init", preexec_fn=lambda: os.closerange(0, 3))
    assert done.returncode == 1
    assert fresh.json("init", schema="init")["madeRegistry"] is False


def test_closed_standard_input_is_an_error(cli):
    done = cli.run("encrypt", "--tenant", "acme", preexec_fn=lambda: os.close(0))
    assert done.returncode == 1 and done.stdout == b""


def run_on_terminal(cli, stdin, *args):
    """Standard error is a terminal; what appeared on it."""
    master, terminal = pty.openpty()
    with open(stdin, "rb") as source, open(terminal, "wb") as stderr:
        done = subprocess.run([cli_tool.PROGRAM, *args], stdin=source, stdout=subprocess.DEVNULL,
                              stderr=stderr, env=cli.env, cwd=cli.folder, timeout=60, check=False)
    assert done.returncode == 0
    seen = os.read(master, 65536)
    os.close(master)
    return seen


def test_progress_appears_on_a_terminal_only(cli, tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes(b"v\n" + b"some value\n" * 5000)
    args = ("encrypt", "--csv", "--columns", "v", "--tenant", "acme")
    seen = run_on_terminal(cli, source, *args)
    assert b"%" in seen and b"ETA" in seen and b"rows/s" in seen
    done = cli.run(*args, stdin=source.read_bytes())
    assert b"ETA" not in done.stderr and b"\r" not in done.stderr and b"\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["encrypt", "decrypt"])
def test_json_summary_of_csv(cli, command):
    cli.ok("encrypt", "--tenant", "acme", stdin=b"x")
    done = cli.run(command, "--csv", "--columns", "v", "--tenant", "acme", "--json",
                   stdin=b"id,v\n1,\n2,\n")
    found = json.loads(done.stderr.splitlines()[-1])
    check_schema("csv-summary", found)
    assert (found["rows"], found["values"], found["nulls"], found["badRows"]) == (2, 0, 2, 0)


# ---- log -----------------------------------------------------------------------------------------

def test_debug_prints_audit_lines_that_are_json(cli):
    done = cli.run("encrypt", "--tenant", "acme", stdin=b"x", env={"DEBUG": "kms:*"})
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("[KMS Audit] ")]
    found = [json.loads(line.removeprefix("[KMS Audit] ")) for line in lines]
    assert {"generateDataKey", "decryptDataKey"} <= {entry["operation"] for entry in found}
    assert all(entry["success"] is True and entry["timestamp"] for entry in found)
    assert "acme" in {entry["tenantId"] for entry in found}


@pytest.mark.parametrize("debug", ["app:*,kms:*", "*", "-kms:*,kms:audit", "express:* kms:*"])
def test_debug_is_a_list_as_in_node(cli, debug):
    done = cli.run("encrypt", "--tenant", "acme", stdin=b"x", env={"DEBUG": debug})
    assert b"[KMS Audit]" in done.stderr


@pytest.mark.parametrize("debug", ["", "express:*", "*,-kms:*", "skms:*", "kms", "x:kms:*"])
def test_debug_of_another_program_prints_nothing(cli, debug):
    done = cli.run("encrypt", "--tenant", "acme", stdin=b"x", env={"DEBUG": debug})
    assert done.returncode == 0 and b"[KMS Audit]" not in done.stderr


# ---- demo ----------------------------------------------------------------------------------------

def test_demo_is_quick_and_leaves_nothing_behind(fresh):
    temporary = fresh.folder / "tmp"
    temporary.mkdir()
    started = time.monotonic()
    found = fresh.json("demo", env={"TMPDIR": str(temporary)}, schema="demo")
    assert time.monotonic() - started < 10
    assert found["ok"] and all(step["ok"] for step in found["steps"])
    assert list(temporary.iterdir()) == []
    assert not fresh.state.exists()


def test_demo_can_be_kept(fresh):
    text = fresh.ok("demo", "--keep", env={"TMPDIR": str(fresh.folder)}).decode()
    [kept] = fresh.folder.glob("dekhand-demo-*")
    assert str(kept) in text
    assert {"app.db", "dekhand.db", "master.key"} <= {path.name for path in kept.iterdir()}


@pytest.mark.slow
def test_bench_prints_its_figures(fresh):
    found = fresh.json("bench", "--rows", "2000", "--rounds", "3", "--keys", "20000", schema="bench")
    assert found["csvRows"] == 2000
    assert fresh.ok("bench", "--rows", "2000", "--rounds", "3", "--keys", "20000")


# ---- the guide's queries -------------------------------------------------------------------------

GUIDE = {
    "recent operations": """
        SELECT operation, tenant_id, from_version, to_version, success, performed_at
        FROM key_rotation_log ORDER BY performed_at DESC LIMIT 50""",
    "operations by type": """
        SELECT operation, COUNT(*) as count, SUM(CASE WHEN success THEN 1 ELSE 0 END) as successful,
               SUM(CASE WHEN NOT success THEN 1 ELSE 0 END) as failed
        FROM key_rotation_log WHERE julianday(performed_at) > julianday('now') - 7
        GROUP BY operation""",
    "health": """
        SELECT tenant_id, health_status FROM key_rotation_health
        ORDER BY CASE health_status WHEN 'EXPIRED' THEN 1 WHEN 'WARNING' THEN 2
                 WHEN 'NOTICE' THEN 3 ELSE 4 END""",
    "totals": """
        SELECT COUNT(*) as total_keys, COUNT(DISTINCT tenant_id) as unique_tenants,
               SUM(CASE WHEN is_active THEN 1 ELSE 0 END) as active_keys FROM encryption_keys""",
    "backup": """
        SELECT tenant_id, kms_key_id, encrypted_data_key, version, created_at, expires_at
        FROM encryption_keys WHERE is_active = TRUE""",
    "keys of a tenant": """
        SELECT * FROM encryption_keys WHERE tenant_id = 'acme' ORDER BY version DESC""",
}


def test_queries_of_the_guide_run_on_the_registry(tenants):
    tenants.ok("rotate", "--tenant", "acme")
    tenants.ok("encrypt", "--tenant", "young", stdin=b"x", env={"KMS_ROTATION_DAYS": "8"})
    answers = {name: tenants.query(sql) for name, sql in GUIDE.items()}
    recent = [row[0] for row in answers["recent operations"] if row[0] != "decrypt"]
    assert recent == ["create", "rotate", "create", "create"]
    kinds = {row[0]: row[1:] for row in answers["operations by type"]}
    assert kinds["create"] == (3, 3, 0) and kinds["rotate"] == (1, 1, 0)
    assert kinds["decrypt"][1] == kinds["decrypt"][0] > 0
    assert answers["health"][0] == ("young", "NOTICE")
    assert answers["totals"] == [(4, 3, 3)]
    assert len(answers["backup"]) == 3 and len(answers["keys of a tenant"]) == 2


# ---- places --------------------------------------------------------------------------------------

def test_state_stands_in_the_home_without_settings(fresh):
    cli = fresh.without("KMS_STATE_DIR")
    cli.ok("init")
    assert (cli.home / ".local/state/dekhand/master.key").exists()


def test_state_stands_in_xdg_state_home(fresh):
    cli = fresh.without("KMS_STATE_DIR")
    cli.ok("init", env={"XDG_STATE_HOME": str(cli.folder / "xdg")})
    assert (cli.folder / "xdg/dekhand/master.key").exists()


def test_flag_wins_over_the_environment(fresh):
    fresh.ok("init", "--state-dir", "elsewhere")
    assert (fresh.folder / "elsewhere/master.key").exists()
    assert not fresh.state.exists()


def test_F74_without_home_the_setting_is_required(fresh):
    cli = fresh.without("KMS_STATE_DIR", "HOME")
    assert "KMS_STATE_DIR is required" in cli.fails(2, "init")


def test_database_may_stand_elsewhere(fresh):
    url = {"DATABASE_URL": f"sqlite:{fresh.folder}/db/registry.db"}
    (fresh.folder / "db").mkdir()
    fresh.ok("init", env=url)
    assert (fresh.folder / "db/registry.db").exists() and not fresh.database.exists()


def test_state_folder_with_a_name_that_is_not_utf8_gives_json_all_the_same(fresh):
    odd = os.fsencode(fresh.folder) + b"/\xff\xfe"
    json.loads(fresh.ok("init", "--json", "--state-dir", odd))


# ---- a registry that cannot be written -----------------------------------------------------------

@pytest.fixture
def ordinary_user(tenants):
    """The program and its state belong to an ordinary user, who may read them and no more."""
    with tempfile.TemporaryDirectory(prefix="dekhand-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / "program"
        shutil.copy(cli_tool.PROGRAM, program)
        program.chmod(0o755)
        cli = Cli(folder)
        shutil.copytree(tenants.state, cli.state)
        for path in (*cli.state.iterdir(), cli.state):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o500 if path.is_dir() else 0o400)
        cli.values = tenants.values
        cli.program = str(program)
        yield cli


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def run_as_nobody(cli, *args, stdin=b""):
    return subprocess.run([cli.program, *args], input=stdin, env=cli.env, cwd="/", timeout=60,
                          capture_output=True, preexec_fn=become_nobody, check=False)


@AS_ROOT
def test_F16_read_only_registry_decrypts_and_encrypts_for_known_tenants(ordinary_user):
    value = ordinary_user.values["acme"]
    done = run_as_nobody(ordinary_user, "decrypt", "--tenant", "acme", stdin=value)
    assert (done.returncode, done.stdout) == (0, b"acme"), done.stderr
    done = run_as_nobody(ordinary_user, "encrypt", "--tenant", "acme", stdin=b"x")
    assert done.returncode == 0 and done.stdout.startswith(b"dk1.1."), done.stderr


@AS_ROOT
@pytest.mark.parametrize("args", [("encrypt", "--tenant", "new"), ("rotate", "--all")])
def test_F16_read_only_registry_takes_no_change(ordinary_user, args):
    done = run_as_nobody(ordinary_user, *args, stdin=b"x")
    assert done.returncode in (1, 3) and b"E_READ_ONLY" in done.stderr
    assert not done.stdout.startswith(b"dk1.")


@AS_ROOT
def test_F16_health_of_a_read_only_registry_is_degraded(ordinary_user):
    done = run_as_nobody(ordinary_user, "health", "--json")
    body = json.loads(done.stdout)
    check_schema("health", body)
    assert done.returncode == 3 and body["status"] == "degraded"
    assert body["checks"]["database"]["status"] == "warning"
    assert "E_READ_ONLY" in body["issues"][0]


@AS_ROOT
def test_doctor_tells_an_ordinary_user_of_the_memory_limit(ordinary_user):
    ordinary_user.env["KMS_CACHE_MAX_KEYS"] = "10000000"
    done = run_as_nobody(ordinary_user, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["memory"]["level"] == "note" and "KMS_CACHE_MAX_KEYS" in checks["memory"]["fix"]
    assert checks["user"]["level"] == "ok"


@AS_ROOT
@pytest.mark.parametrize("command, code", [("health", 1), ("doctor", 7)])
def test_another_users_registry_is_not_taken_for_none(ordinary_user, command, code):
    os.chown(ordinary_user.state, 0, 0)
    ordinary_user.state.chmod(0o700)
    done = run_as_nobody(ordinary_user, command)
    assert done.returncode == code, done.stdout
    assert b"cannot be reached: Permission denied" in done.stdout
    assert b"dekhand init" not in done.stdout
