"""`dekhand init`, and one value: `encrypt` and `decrypt`."""

import base64
import os

import pytest

from cli_tool import Cli
from format import dk1

ACME = ("--tenant", "acme")


def encrypt(cli, plain, *args):
    return cli.ok("encrypt", *(args or ACME), stdin=plain)


def decrypt(cli, value, *args):
    return cli.ok("decrypt", *(args or ACME), stdin=value)


def mode(path):
    return path.stat().st_mode & 0o777


# ---- init ----------------------------------------------------------------------------------------

def test_init_makes_files_for_the_owner_alone(fresh):
    fresh.ok("init", preexec_fn=lambda: os.umask(0))
    assert mode(fresh.state) == 0o700
    assert {path.name: mode(path) for path in fresh.state.iterdir()} == {
        "master.key": 0o600, "dekhand.db": 0o600, "anchor": 0o600, "anchor.lock": 0o600}


def test_init_prints_the_pin_and_what_to_keep_safe(fresh):
    text = fresh.ok("init").decode()
    pin = fresh.json("init", schema="init")["registryPin"]
    assert len(pin) == 64 and pin in text
    assert "Keep safe" in text and str(fresh.master_key) in text


def test_init_twice_changes_nothing(cli):
    before = {path.name: path.read_bytes() for path in cli.state.iterdir()}
    found = cli.json("init", schema="init")
    assert (found["madeMasterKey"], found["madeRegistry"]) == (False, False)
    assert {path.name: path.read_bytes() for path in cli.state.iterdir()} == before


@pytest.mark.parametrize("command", [("encrypt", *ACME), ("decrypt", *ACME), ("keys", "list"),
                                     ("rotate", "--all")])
def test_without_init_commands_say_what_to_do(fresh, command):
    assert "dekhand init" in fresh.fails(2, *command, stdin=b"dk1.1.AAAA")
    assert not fresh.master_key.exists()


@pytest.mark.parametrize("command", [("init",), ("encrypt", *ACME), ("keys", "list")])
def test_I08_lost_master_key_is_never_replaced(cli, command):
    key_id = cli.json("init")["kmsKeyId"]
    cli.master_key.unlink()
    said = cli.fails(2, *command, stdin=b"x")
    assert "copy master.key here" in said and str(cli.master_key) in said
    assert key_id in said or command != ("init",)
    assert not cli.master_key.exists()


def test_I08_another_master_key_does_not_open_the_registry(cli, tmp_path):
    (tmp_path / "other").mkdir()
    key_id = cli.json("init")["kmsKeyId"]
    other = {"KMS_STATE_DIR": str(tmp_path / "other")}
    cli.ok("init", env=other)
    cli.master_key.write_bytes((tmp_path / "other" / "master.key").read_bytes())
    said = cli.fails(2, "init")
    assert key_id in said and "copy master.key here" in said


def test_master_key_put_back_works_again(cli):
    value = encrypt(cli, b"hello")
    kept = cli.master_key.rename(cli.folder / "kept")
    cli.fails(2, "decrypt", *ACME, stdin=value)
    kept.rename(cli.master_key)
    assert decrypt(cli, value) == b"hello"


def test_lost_database_gets_a_new_registry_only_without_the_anchor(cli):
    before = cli.json("init")
    cli.database.unlink()
    assert "anchor" in cli.fails(2, "init") and "restore its database" in cli.fails(2, "init")
    (cli.state / "anchor").unlink()
    after = cli.json("init", schema="init")
    assert (after["madeMasterKey"], after["madeRegistry"]) == (False, True)
    assert after["kmsKeyId"] == before["kmsKeyId"]
    assert after["registryPin"] != before["registryPin"]


def bad_master_key(cli):
    cli.state.mkdir(0o700)
    cli.master_key.write_text("none")
    cli.master_key.chmod(0o600)
    return {}


def readable_master_key(cli):
    other = Cli(cli.folder / "home")
    other.ok("init")
    cli.state.mkdir(0o700)
    cli.master_key.write_bytes(other.master_key.read_bytes())
    cli.master_key.chmod(0o644)
    return {}


def lone_anchor(cli):
    cli.state.mkdir(0o700)
    (cli.state / "anchor").write_text("any")
    return {}


def key_and_anchor(cli):
    cli.ok("init")
    for path in cli.state.glob("dekhand.db*"):
        path.unlink()
    return {}


def key_and_pin(cli):
    key_and_anchor(cli)
    (cli.state / "anchor").unlink()
    return {"KMS_REGISTRY_PIN": "0" * 64}


@pytest.mark.parametrize("prepare", [
    bad_master_key, readable_master_key, lone_anchor, key_and_anchor, key_and_pin,
    lambda cli: {"KMS_REGISTRY_PIN": "0" * 64}, lambda cli: {"KMS_PROVIDER": "nobody"},
])
def test_an_init_that_is_refused_leaves_nothing_behind(fresh, prepare):
    env = prepare(fresh)
    before = sorted(fresh.state.iterdir()) if fresh.state.exists() else None
    fresh.fails(2, "init", env=env)
    assert (sorted(fresh.state.iterdir()) if fresh.state.exists() else None) == before


def test_an_init_that_is_refused_takes_no_file_that_was_there(cli):
    before = encrypt(cli, b"x")
    cli.master_key.rename(cli.folder / "kept")
    cli.fails(2, "init")
    (cli.folder / "kept").rename(cli.master_key)
    assert decrypt(cli, before) == b"x"


def test_pin_of_the_registry_is_accepted(cli):
    pin = cli.json("init")["registryPin"]
    assert encrypt(cli, b"x", *ACME, "--registry-pin", pin)


@pytest.mark.parametrize("command", [("init",), ("encrypt", *ACME), ("decrypt", *ACME)])
def test_another_registry_than_the_pinned_one_is_refused(cli, command):
    value = encrypt(cli, b"x")
    pin = cli.json("init")["registryPin"]
    wrong = pin[:-1] + ("0" if pin[-1] != "0" else "1")
    done = cli.run(*command, stdin=value, env={"KMS_REGISTRY_PIN": wrong})
    assert done.returncode in (1, 2) and done.stdout == b""
    assert b"pin" in done.stderr.lower()


def test_pin_alone_forbids_a_new_registry(fresh):
    fresh.fails(2, "init", env={"KMS_REGISTRY_PIN": "0" * 64})
    assert not fresh.master_key.exists()


@pytest.mark.parametrize("pin", ["0" * 63, "x" * 64, "0" * 65])
def test_F74_pin_that_is_none_is_named(cli, pin):
    assert "KMS_REGISTRY_PIN" in cli.fails(2, "init", env={"KMS_REGISTRY_PIN": pin})


# ---- a value goes in and comes out ---------------------------------------------------------------

VALUES = {
    "empty": b"",
    "letters": b"+1234567890",
    "utf8": "Zoë 王小明 שלום 🔑".encode(),
    "nul_bytes": b"\0a\0\0",
    "every_byte": bytes(range(256)),
    "newline_at_the_end": b"hello\n",
    "only_newlines": b"\n\r\n\n",
    "cr_lf_at_the_end": b"hello\r\n",
    "looks_encrypted": b"dk1.1.AAAA",
    "one_mebibyte": os.urandom(2**20),
}


@pytest.mark.parametrize("plain", VALUES.values(), ids=VALUES.keys())
def test_exact_bytes_come_back(cli, plain):
    value = encrypt(cli, plain)
    assert value.startswith(b"dk1.1.") and value.endswith(b"\n") and value.count(b"\n") == 1
    assert decrypt(cli, value) == plain
    cli.ok("rotate", "--all")
    assert decrypt(cli, value) == plain


def test_F57_value_over_one_mebibyte_is_refused(cli):
    assert "E_LIMIT" in cli.fails(1, "encrypt", *ACME, stdin=bytes(2**20 + 1))
    assert "E_LIMIT" in cli.fails(1, "encrypt", *ACME, stdin=bytes(3 * 2**20))
    assert "E_LIMIT" in cli.fails(1, "decrypt", *ACME, stdin=b"A" * (3 * 2**20))


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"], ids=["none", "lf", "cr_lf"])
def test_decrypt_takes_one_newline_off(cli, ending):
    assert decrypt(cli, encrypt(cli, b"x").rstrip(b"\n") + ending) == b"x"


@pytest.mark.parametrize("around", [(b"", b"\n\n"), (b" ", b""), (b"\n", b""), (b"", b" \n")])
def test_F61_decrypt_takes_nothing_else_off(cli, around):
    value = encrypt(cli, b"x").rstrip(b"\n")
    assert "E_FORMAT" in cli.fails(1, "decrypt", *ACME, stdin=around[0] + value + around[1])


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["lf", "cr_lf"])
def test_binary_value_that_ends_like_a_line_is_whole(cli, ending):
    encrypt(cli, b"x")
    key = cli.export("acme", 1)
    value = b""
    while not value.endswith(ending):
        value = dk1.encrypt(key, "acme", 1, b"hello", binary=True)
    assert decrypt(cli, value) == b"hello"


def test_two_encryptions_of_a_value_differ(cli):
    assert len({encrypt(cli, b"x") for _ in range(20)}) == 20


# ---- what is refused -----------------------------------------------------------------------------

def test_I16_R10_value_of_another_tenant_is_refused(cli):
    value = encrypt(cli, b"hello")
    encrypt(cli, b"hello", "--tenant", "globex")
    assert "E_AUTH" in cli.fails(1, "decrypt", "--tenant", "globex", stdin=value)


def test_value_is_refused_for_a_tenant_without_keys(cli):
    value = encrypt(cli, b"hello")
    cli.fails(1, "decrypt", "--tenant", "nobody", stdin=value)
    assert [key["tenantId"] for key in cli.json("keys", "list")["keys"]] == ["acme"]


def flipped(value):
    """The value with each character in turn made another one of its alphabet."""
    for i, letter in enumerate(value):
        other = b"A" if letter != ord("A") else b"B"
        yield value[:i] + other + value[i + 1:]


def test_F58_R26_every_changed_character_is_refused(cli):
    for changed in flipped(encrypt(cli, b"hello").rstrip(b"\n")):
        cli.fails(1, "decrypt", *ACME, stdin=changed)


def test_every_cut_value_is_refused(cli):
    value = encrypt(cli, b"hello").rstrip(b"\n")
    for n in range(0, len(value), 3):
        cli.fails(1, "decrypt", *ACME, stdin=value[:n])


def test_I19_wrong_key_and_failed_tag_read_the_same(cli):
    value = encrypt(cli, b"hello")
    encrypt(cli, b"hello", "--tenant", "globex")
    head, _, body = value.rpartition(b".")
    changed = head + b"." + body[:40] + (b"A" if body[40:41] != b"A" else b"B") + body[41:]
    answers = {cli.fails(1, "decrypt", "--tenant", "globex", stdin=value),
               cli.fails(1, "decrypt", *ACME, stdin=changed),
               cli.fails(1, "decrypt", *ACME, "--context", "a=b", stdin=value)}
    assert len(answers) == 1


@pytest.mark.parametrize("version", [b"0", b"01", b"2", b"2147483647", b"2147483648", b"4294967295",
                                     b"-1", b"1x", b""])
def test_F60_R9_version_that_is_none_is_refused(cli, version):
    body = encrypt(cli, b"hello").split(b".")[2]
    cli.fails(1, "decrypt", *ACME, stdin=b"dk1." + version + b"." + body)


@pytest.mark.parametrize("tenant", ["", "a b", "a/b", "t" * 129, "ë", "a\n"])
@pytest.mark.parametrize("command", ["encrypt", "decrypt"])
def test_tenant_that_is_no_id_is_refused(cli, command, tenant):
    value = encrypt(cli, b"x")
    assert "tenant" in cli.fails(2, command, "--tenant", tenant, stdin=value)


# ---- contexts ------------------------------------------------------------------------------------

def test_context_is_the_same_in_any_order(cli):
    value = encrypt(cli, b"x", *ACME, "--context", "field=a.b", "--context", "row=7")
    assert decrypt(cli, value, *ACME, "--context=row=7", "--context=field=a.b") == b"x"


def test_context_is_split_at_the_first_equals_sign(cli):
    value = encrypt(cli, b"x", *ACME, "--context", "a=b=c")
    assert decrypt(cli, value, *ACME, "--context", "a=b=c") == b"x"
    cli.fails(1, "decrypt", *ACME, "--context", "a=b", stdin=value)
    key = cli.export("acme", 1)
    assert dk1.decrypt(key, "acme", value.rstrip(b"\n"), {"a": "b=c"}) == b"x"


@pytest.mark.parametrize("context", [(), ("--context", "a=c"), ("--context", "A=b"),
                                     ("--context", "a=b", "--context", "c="), ("--context", "a=")])
def test_I16_another_context_is_refused(cli, context):
    value = encrypt(cli, b"x", *ACME, "--context", "a=b")
    assert "E_AUTH" in cli.fails(1, "decrypt", *ACME, *context, stdin=value)


WRONG_CONTEXTS = {
    "no_equals_sign": ("--context", "row"),
    "no_name": ("--context", "=7"),
    "name_twice": ("--context", "a=1", "--context", "a=2"),
    "seventeen_pairs": tuple(f"--context=n{i}=v" for i in range(17)),
    "long_name": ("--context", "n" * 257 + "=v"),
    "long_value": ("--context", "n=" + "v" * 257),
}


@pytest.mark.parametrize("context", WRONG_CONTEXTS.values(), ids=WRONG_CONTEXTS.keys())
def test_context_that_is_none_is_refused(cli, context):
    done = cli.run("encrypt", *ACME, *context, stdin=b"x")
    assert done.returncode in (1, 2) and done.stdout == b""
    assert b"context" in done.stderr or b"pair" in done.stderr


def test_sixteen_pairs_are_a_context(cli):
    context = tuple(f"--context=n{i}={'v' * 256}" for i in range(16))
    assert decrypt(cli, encrypt(cli, b"x", *ACME, *context), *ACME, *context) == b"x"


# ---- -o FILE -------------------------------------------------------------------------------------

def test_output_file_holds_the_value_and_is_private(cli, tmp_path):
    value = tmp_path / "value"
    assert encrypt(cli, b"hello", *ACME, "-o", value) == b""
    assert mode(value) == 0o600
    assert decrypt(cli, value.read_bytes(), *ACME, f"--output={tmp_path / 'plain'}") == b""
    assert (tmp_path / "plain").read_bytes() == b"hello"


def test_output_file_is_replaced_whole(cli, tmp_path):
    (tmp_path / "out").write_bytes(b"something long that was there before" * 100)
    encrypt(cli, b"x", *ACME, "-o", "out")
    assert decrypt(cli, (tmp_path / "out").read_bytes()) == b"x"


def test_I20_failed_run_leaves_no_file_and_keeps_the_old_one(cli, tmp_path):
    before = sorted(tmp_path.iterdir())
    cli.fails(1, "decrypt", *ACME, "-o", "out", stdin=b"dk1.1.AAAA")
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "out").write_bytes(b"old")
    cli.fails(1, "decrypt", *ACME, "-o", "out", stdin=b"dk1.1.AAAA")
    assert (tmp_path / "out").read_bytes() == b"old"


def test_output_into_a_folder_that_is_not_there_is_an_error(cli, tmp_path):
    assert "nowhere/out" in cli.fails(1, "encrypt", *ACME, "-o", "nowhere/out", stdin=b"x")
    (tmp_path / "folder").mkdir()
    assert "folder is a folder" in cli.fails(2, "encrypt", *ACME, "-o", "folder", stdin=b"x")
    assert not list(tmp_path.glob("folder.*"))


@pytest.mark.parametrize("make, what", [(lambda path: path.symlink_to("target"), "symbolic link"),
                                        (os.mkfifo, "not a regular file"),
                                        (lambda path: path.symlink_to("/dev/null"), "symbolic")])
def test_output_replaces_nothing_but_a_file(cli, tmp_path, make, what):
    make(tmp_path / "out")
    before = sorted(tmp_path.iterdir())
    said = cli.fails(2, "encrypt", *ACME, "-o", "out", stdin=b"x")
    assert what in said and "redirect standard output instead" in said
    assert sorted(tmp_path.iterdir()) == before
    assert what in cli.fails(2, "encrypt", "--csv", "--columns=v", *ACME, "-o", "out",
                             stdin=b"v\nx\n")


def test_F11_output_onto_a_full_disk_is_an_error(cli):
    with open("/dev/full", "wb") as full:
        done = cli.run("encrypt", *ACME, stdin=b"x", stdout=full)
    assert done.returncode == 1
    assert b"E_IO" in done.stderr


# ---- --json --------------------------------------------------------------------------------------

def test_json_of_encrypt_and_decrypt(cli):
    found = cli.json("encrypt", *ACME, stdin="Zoë\n".encode(), schema="encrypt")
    assert (found["tenantId"], found["keyVersion"], found["algorithm"]) == ("acme", 1, "aes-256-gcm")
    back = cli.json("decrypt", *ACME, stdin=found["encrypted"].encode(), schema="decrypt")
    assert back == {"tenantId": "acme", "plaintext": "Zoë\n"}


@pytest.mark.parametrize("plain", [b"\xff\xfe", b"a\0b", b"\xed\xa0\x80", b"\xc0\x80"])
def test_json_of_bytes_that_are_no_text(cli, plain):
    back = cli.json("decrypt", *ACME, stdin=encrypt(cli, plain), schema="decrypt")
    assert base64.b64decode(back["plaintextBase64"]) == plain


@pytest.mark.parametrize("plain", ["", "\x01\x1f\x7f\"\\/\u2028", "\ud7ff\ue000\U0010ffff"])
def test_json_escapes_every_text(cli, plain):
    value = encrypt(cli, plain.encode())
    assert cli.json("decrypt", *ACME, stdin=value, schema="decrypt")["plaintext"] == plain


# ---- the second implementation -------------------------------------------------------------------

PAIRS = (("field", "contacts.phone"), ("row", "ë 7"))
CONTEXT = tuple(f"--context={name}={value}" for name, value in PAIRS)


@pytest.mark.parametrize("plain", VALUES.values(), ids=VALUES.keys())
def test_R9_values_of_the_program_open_in_the_python_reader(cli, plain):
    value = encrypt(cli, plain, *ACME, *CONTEXT).rstrip(b"\n")
    assert dk1.decrypt(cli.export("acme", 1), "acme", value, PAIRS) == plain


@pytest.mark.parametrize("plain", VALUES.values(), ids=VALUES.keys())
def test_R9_values_of_the_python_writer_open_in_the_program(cli, plain):
    encrypt(cli, b"x")
    cli.ok("rotate", *ACME)
    value = dk1.encrypt(cli.export("acme", 2), "acme", 2, plain, PAIRS)
    assert decrypt(cli, value, *ACME, *CONTEXT) == plain


def test_F59_key_of_another_tenant_opens_nothing_even_outside(cli):
    value = encrypt(cli, b"x").rstrip(b"\n")
    encrypt(cli, b"x", "--tenant", "globex")
    with pytest.raises(dk1.WrongKey):
        dk1.decrypt(cli.export("globex", 1), "globex", value)


def test_wrap_of_the_registry_opens_in_the_python_reader(cli):
    """The master key file and a wrapped data key are what docs/FORMAT.md says."""
    encrypt(cli, b"x")
    [(number, _, master)] = dk1.parse_master_key_file(cli.master_key.read_bytes())
    assert dk1.local_key_id(master) == cli.json("init")["kmsKeyId"]
    [(wrap, timestamp, key_id)] = cli.query("SELECT encrypted_data_key, context_timestamp, "
                                            "kms_key_id FROM encryption_keys")
    context = dk1.data_key_context("acme", timestamp)
    assert dk1.local_unwrap({number: master}, key_id, wrap, context) == cli.export("acme", 1)
