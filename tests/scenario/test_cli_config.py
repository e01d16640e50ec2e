"""Settings: where a value comes from, what is refused; the master key file and who may read it."""

import os

import pytest

ACME = ("--tenant", "acme")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


def settings(cli, *args, **more):
    """{name: (value, source)}."""
    found = cli.json("config", *args, schema="config", **more)["settings"]
    return {entry["name"]: (entry["value"], entry["source"]) for entry in found}


def write_env(cli, text, name=".env"):
    (cli.folder / name).write_text(text)


# ---- where a value comes from --------------------------------------------------------------------

def test_flag_beats_environment_beats_file_beats_default(fresh):
    name = "KMS_ROTATION_DAYS"
    assert settings(fresh)[name] == ("90", "default")
    write_env(fresh, "KMS_ROTATION_DAYS=80\n")
    assert settings(fresh)[name] == ("80", "file")
    env = {name: "70"}
    assert settings(fresh, env=env)[name] == ("70", "environment")
    assert settings(fresh, "--rotation-days", "60", env=env)[name] == ("60", "flag")


def test_setting_without_value_or_default_is_unset(fresh):
    assert settings(fresh)["DATABASE_URL"] == (None, "unset")


def test_named_file_is_read_instead(fresh):
    write_env(fresh, "KMS_ROTATION_DAYS=80\n")
    write_env(fresh, "KMS_WARNING_DAYS=9\n", "other.env")
    found = fresh.json("config", "--env-file", "other.env", schema="config")
    assert found["file"] == "other.env"
    by_name = {entry["name"]: entry["source"] for entry in found["settings"]}
    assert by_name["KMS_WARNING_DAYS"] == "file" and by_name["KMS_ROTATION_DAYS"] == "default"


def test_F74_named_file_has_to_be_there(fresh):
    assert "nowhere.env" in fresh.fails(2, "config", "--env-file", "nowhere.env")


def test_file_may_be_written_as_a_shell_would(fresh):
    write_env(fresh, "# ours\r\n\nexport KMS_ROTATION_DAYS='80'\r\nKMS_WARNING_DAYS = \"9\" # days\n"
                     "KMS_POLL_SECONDS=7 # seconds\nAPP_NAME=theirs\nDEBUG=express:*\n")
    found = settings(fresh)
    assert found["KMS_ROTATION_DAYS"] == ("80", "file")
    assert found["KMS_WARNING_DAYS"] == ("9", "file")
    assert found["KMS_POLL_SECONDS"] == ("7", "file")
    assert found["DEBUG"] == (None, "unset")


def test_password_in_a_url_is_masked(fresh):
    env = {"DATABASE_URL": "postgres://user:s3cret-w0rd@host/db"}
    assert settings(fresh, env=env)["DATABASE_URL"] == ("postgres://user:********@host/db",
                                                        "environment")
    assert b"s3cret-w0rd" not in fresh.ok("config", env=env)


def test_text_names_every_setting(fresh):
    text = fresh.ok("config").decode()
    assert all(name in text for name in settings(fresh))


# ---- F74 -----------------------------------------------------------------------------------------

WRONG_VALUES = {
    "empty": ("KMS_ROTATION_DAYS", ""),
    "not_a_number": ("KMS_ROTATION_DAYS", "ninety"),
    "number_with_unit": ("KMS_ROTATION_DAYS", "90d"),
    "fraction": ("KMS_ROTATION_DAYS", "1.5"),
    "blank_before": ("KMS_ROTATION_DAYS", " 90"),
    "plus": ("KMS_ROTATION_DAYS", "+90"),
    "below": ("KMS_ROTATION_DAYS", "0"),
    "negative": ("KMS_POLL_SECONDS", "-1"),
    "above": ("KMS_ROTATION_DAYS", "731"),
    "too_long_a_number": ("KMS_CACHE_MAX_KEYS", "9" * 30),
    "empty_string": ("KMS_STATE_DIR", ""),
    "unknown_provider": ("KMS_PROVIDER", "gcp"),
    "unknown_log": ("KMS_LOG", "xml"),
    "unknown_store": ("DATABASE_URL", "mysql://host/db"),
    "store_without_path": ("DATABASE_URL", "sqlite:"),
}
CONTRADICTIONS = {
    "warning_not_below_rotation": ({"KMS_WARNING_DAYS": "30", "KMS_ROTATION_DAYS": "30"},
                                   ("KMS_WARNING_DAYS", "KMS_ROTATION_DAYS")),
    "hard_limit_below_soft": ({"KMS_CACHE_TTL_SECONDS": "100", "KMS_CACHE_HARD_TTL_SECONDS": "50"},
                              ("KMS_CACHE_HARD_TTL_SECONDS", "KMS_CACHE_TTL_SECONDS")),
    "aws_alone": ({"AWS_KMS_KEY_ID": "alias/x"}, ("E_CONFIG", "AWS_REGION is required")),
    "azure_alone": ({"AZURE_KEY_VAULT_URL": "https://x"}, ("E_CONFIG",)),
    "both": ({"AWS_KMS_KEY_ID": "a", "AZURE_KEY_VAULT_URL": "b"}, ("KMS_PROVIDER is required",)),
}


@pytest.mark.parametrize("name, value", WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_F74_wrong_value_in_the_environment_names_the_setting(fresh, name, value):
    assert name in fresh.fails(2, "init", env={name: value})
    assert not fresh.master_key.exists()


@pytest.mark.parametrize("name, value", WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_F74_wrong_value_in_a_file_names_the_setting(fresh, name, value):
    cli = fresh.without(name)
    write_env(cli, f"{name}=\"{value}\"\n")
    assert name in cli.fails(2, "init")


@pytest.mark.parametrize("env, words", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
@pytest.mark.parametrize("command", [("init",), ("encrypt", *ACME), ("rotate", "--due")])
def test_F74_contradictory_settings_are_named(cli, command, env, words):
    said = cli.fails(2, *command, stdin=b"x", env=env)
    assert all(word in said for word in words)


def test_refused_store_or_provider_tells_where_it_comes_from(cli):
    said = cli.fails(2, "keys", "list", env={"DATABASE_URL": "mysql://host/db"})
    assert "DATABASE_URL comes from the environment; `--database-url sqlite:PATH` wins" in said
    write_env(cli, "KMS_PROVIDER=aws\n")
    said = cli.fails(2, "keys", "list")
    assert "KMS_PROVIDER comes from .env; `--provider local` wins" in said
    assert cli.ok("keys", "list", "--provider", "local")
    assert "KMS_PROVIDER comes from" not in cli.fails(2, "keys", "list", "--provider", "aws")


def test_init_that_cannot_choose_a_provider_makes_nothing(fresh):
    fresh.fails(2, "init", "--provider", "aws")
    assert not fresh.state.exists()


def test_file_that_is_no_database_is_named(fresh):
    other = fresh.folder / "notes.txt"
    other.write_text("not a database, but a text of some length\n" * 100)
    assert "notes.txt" in fresh.fails(2, "init", "--database-url", f"sqlite:{other}")
    assert other.read_text().startswith("not a database")


def test_provider_that_is_named_settles_it(cli):
    cli.ok("init", env={"AWS_KMS_KEY_ID": "alias/x", "KMS_PROVIDER": "local"})


@pytest.mark.parametrize("name", ["KMS_ROTATON_DAYS", "KMS_CACHE_TTL_SECS", "KMS_STATEDIR"])
def test_F74_unknown_name_in_a_file_is_an_error_with_a_suggestion(fresh, name):
    write_env(fresh, f"\n{name}=1\n")
    said = fresh.fails(2, "version")
    assert name in said and ".env, line 2" in said and "did you mean KMS_" in said


def test_F74_unknown_name_in_the_environment_is_a_warning(fresh):
    done = fresh.run("version", env={"KMS_ROTATON_DAYS": "1", "DEKHAND_SOMETHING_ELSE": "1"})
    assert done.returncode == 0
    assert b"warning: KMS_ROTATON_DAYS" in done.stderr
    assert b"did you mean KMS_ROTATION_DAYS?" in done.stderr
    assert b"warning: DEKHAND_SOMETHING_ELSE" in done.stderr


def test_names_that_kubernetes_makes_are_passed_over(fresh):
    made = {"KMS_PORT": "tcp://10.0.0.1:8200", "KMS_SERVICE_HOST": "10.0.0.1",
            "KMS_SERVICE_PORT": "8200", "KMS_SERVICE_PORT_HTTP": "8200",
            "KMS_PORT_8200_TCP": "tcp://10.0.0.1:8200", "KMS_PORT_8200_TCP_ADDR": "10.0.0.1",
            "DEKHAND_SERVICE_HOST": "10.0.0.1", "DEKHAND_PORT_8200_TCP_PROTO": "tcp"}
    assert fresh.run("version", env=made).stderr == b""


@pytest.mark.parametrize("text", ["KMS_ROTATION_DAYS\n", "KMS_LOG=\"text\n", "KMS_LOG=te\0xt\n",
                                  "#" * 300_000])
def test_F74_file_that_is_none_is_refused(fresh, text):
    write_env(fresh, text)
    assert ".env" in fresh.fails(2, "version")


@pytest.mark.parametrize("args, why", [(("--state-dir",), "--state-dir wants a value"),
                                       (("--log=text", "--log=json"), "--log is given twice")])
def test_settings_as_flags_are_named_as_flags(fresh, args, why):
    assert why in fresh.fails(2, "config", *args)


# ---- F75: the master key file --------------------------------------------------------------------

COMMANDS = pytest.mark.parametrize("command", [("init",), ("encrypt", *ACME), ("keys", "list"),
                                               ("rotate", "--all")])


@COMMANDS
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_F75_master_key_that_others_may_touch_is_refused(cli, command, mode):
    cli.master_key.chmod(mode)
    said = cli.fails(2, *command, stdin=b"x")
    assert str(cli.master_key) in said and "chmod 600" in said


@COMMANDS
def test_F75_master_key_behind_a_symbolic_link_is_refused(cli, command):
    cli.master_key.rename(cli.folder / "elsewhere")
    cli.master_key.symlink_to(cli.folder / "elsewhere")
    assert "symbolic link" in cli.fails(2, *command, stdin=b"x")


@COMMANDS
def test_F75_master_key_that_is_no_file_is_refused(cli, command):
    cli.master_key.unlink()
    os.mkfifo(cli.master_key, 0o600)
    assert "not a regular file" in cli.fails(2, *command, stdin=b"x")


@AS_ROOT
@COMMANDS
def test_F75_master_key_of_another_user_is_refused(cli, command):
    os.chown(cli.master_key, 65534, 65534)
    assert "belongs to user 65534" in cli.fails(2, *command, stdin=b"x")


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + b"\n", lambda key: b"",
                                    lambda key: key.replace(b"dekhand", b"dekhanD"),
                                    lambda key: key[:60] + bytes([key[60] ^ 1]) + key[61:]],
                         ids=["cut", "longer", "empty", "other_head", "one_bit"])
def test_damaged_master_key_file_is_refused_and_kept(cli, change):
    damaged = change(cli.master_key.read_bytes())
    cli.master_key.write_bytes(damaged)
    done = cli.run("init")
    assert done.returncode != 0 and str(cli.master_key) in done.stderr.decode()
    assert cli.master_key.read_bytes() == damaged
