"""A secret that went through every command is nowhere it should not be."""

import base64
import secrets

import pytest

from format import dk1

# The harness looks for it in all that is left and printed (tests/harness/canary.py).
MARK = b"dekhand-canary-b2f1c7e6"


def forms(secret):
    """The bytes as themselves, in hex and in both base64 alphabets, without padding."""
    texts = (secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret))
    return {secret, secret.hex().upper().encode(), *(text.rstrip(b"=") for text in texts)}


class Watch:
    """Runs commands and keeps what they wrote."""

    def __init__(self, cli, log):
        self.cli = cli
        self.loud = {"DEBUG": "*", "KMS_LOG": log}
        self.messages = b""
        self.data = b""

    def run(self, *args, stdin=b"", code=0, secret_output=False):
        done = self.cli.run(*args, stdin=stdin, env=self.loud)
        assert done.returncode == code, done
        self.messages += done.stderr
        if not secret_output:
            self.data += done.stdout
        return done.stdout


def use_everything(watch, canary):
    """Every command, good and bad calls, with the canary as the value."""
    csv = b"t,v\nacme,%s\na b,%s\nacme,x\"%s\n" % (canary, canary, canary)
    bulk = ("--csv", "--columns", "v", "--tenant-column", "t")
    jsonl = b"".join(line % canary for line in (
        b'{"t":"acme","v":"%s"}\n', b'{"t":"a b","v":"%s"}\n', b'{"t":"acme","v":["%s"]}\n',
        b'{"t":"acme","v":"%s', b'","%s"\n', b'{"t":"acme","v":"\\x%s"}\n'))
    lines = ("--jsonl", "--fields", "v", "--tenant-column", "t")
    value = watch.run("encrypt", "--tenant", "acme", "--context", "a=b", stdin=canary)
    encrypted = watch.run("encrypt", *bulk, "--rejects", "rejects", stdin=csv, code=3)
    watch.run("encrypt", *bulk, stdin=csv, code=1)
    sealed = watch.run("encrypt", *lines, "--rejects", "rejects.jsonl", stdin=jsonl, code=3)
    watch.run("encrypt", *lines, stdin=jsonl, code=1)
    watch.run("decrypt", *lines, stdin=sealed.replace(b"acme", b"globex"), code=3)
    watch.run("decrypt", *lines, stdin=sealed, secret_output=True)
    watch.run("encrypt", "--tenant", "not a tenant", stdin=canary, code=2)
    watch.run("decrypt", "--tenant", "acme", stdin=value, code=1)
    watch.run("decrypt", "--tenant", "acme", stdin=canary, code=1)
    watch.run("decrypt", *bulk, stdin=encrypted, secret_output=True)
    watch.run("rotate", "--all")
    watch.run("rotate", "--tenant", "acme", "--compromised", "--json")
    opened = watch.run("decrypt", "--tenant", "acme", "--context", "a=b", stdin=value,
                       secret_output=True)
    assert opened == canary
    for command in (("init",), ("keys", "list"), ("keys", "list", "--json"), ("config",),
                    ("keys", "show", "--tenant", "acme", "--json"), ("version",), ("demo",),
                    ("audit", "list"), ("audit", "verify"), ("audit", "export"), ("registry", "show")):
        watch.run(*command)


def keys_of(watch):
    """Every key there is by name: of versions, derived ones, the registry's, the master key."""
    cli = watch.cli
    [(number, _, master)] = dk1.parse_master_key_file(cli.master_key.read_bytes())
    found = {"master key": master}
    [row] = cli.query("SELECT encrypted_data_key, kms_key_id, registry_uuid, context_timestamp "
                      "FROM registry")
    found["registry key"] = dk1.local_unwrap({number: master}, row[1], row[0],
                                             dk1.registry_key_context(row[2], row[3]))
    for version in (1, 2, 3):
        line = watch.run("keys", "export", "--tenant", "acme", "--version", str(version),
                         "--allow-key-export", secret_output=True)
        found[f"data key {version}"] = base64.b64decode(line)
        found[f"derived key {version}"] = dk1.derive(base64.b64decode(line), "acme", version)[0]
    return found


@pytest.fixture(scope="module")
def canary():
    return MARK + secrets.token_hex(16).encode()


@pytest.fixture(params=("text", "json"))
def watch(cli, canary, request):
    watch = Watch(cli, request.param)
    use_everything(watch, canary)
    return watch


def places(watch):
    """{place: bytes} of everything that was written."""
    files = {path.name: path.read_bytes() for path in watch.cli.state.iterdir()}
    return {"messages": watch.messages, "data": watch.data, **files}


def test_I28_F78_R28_plaintext_is_in_no_file_no_message_and_no_ciphertext(watch, canary):
    assert (watch.cli.folder / "rejects").read_bytes().count(canary) == 2
    assert (watch.cli.folder / "rejects.jsonl").read_bytes().count(canary) == 5
    assert b"[KMS Audit]" in watch.messages
    found = [place for place, content in places(watch).items()
             for form in forms(canary) if form in content]
    assert found == []


def test_I28_F78_R28_keys_are_in_no_file_no_message_and_no_ciphertext(watch):
    keys = keys_of(watch)
    assert len(keys) == 8
    found = [(name, place) for place, content in places(watch).items()
             for name, key in keys.items() for form in forms(key) if form in content]
    assert found == [("master key", "master.key")]


def test_I28_files_that_went_away_leave_nothing_beside(watch):
    assert {path.name for path in watch.cli.state.iterdir()} == {
        "master.key", "dekhand.db", "anchor", "anchor.lock"}
    assert {path.name for path in watch.cli.folder.iterdir()} == {"state", "home", "rejects",
                                                                  "rejects.jsonl"}
