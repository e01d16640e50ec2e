"""The Python reader and writer against the golden files, docs/FORMAT.md's examples and bad input.

The names carry no id of docs/BAR.md: these tests show that the second implementation is right. That
the library agrees with it is shown by the library's own tests over the same golden files.
"""
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest

import dk1

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
FORMAT_MD = HERE.parent.parent / "docs" / "FORMAT.md"


def parse_cases(text):
    """[(case, [(name, value), ..])] of the line format that heads each golden file."""
    cases = []
    for line in text.split("\n"):
        if line.startswith("#") or not line:
            continue
        name, value = line.split("=", 1)
        if name == "case":
            cases.append((value, []))
        else:
            cases[-1][1].append((name, value))
    return cases


class Case:
    """One case: c["x"] is the text of x, c.hex("x") its bytes."""

    def __init__(self, items):
        self.items = items
        self.by_name = dict(items)

    def __getitem__(self, name):
        return self.by_name[name]

    def hex(self, name):
        return bytes.fromhex(self.by_name[name])

    def context(self):
        return [tuple(bytes.fromhex(half) for half in value.split(":"))
                for name, value in self.items if name == "context_hex"]

    def row(self):
        columns = dict(value.split(":", 1) for name, value in self.items if name == "column")
        in_hex = dict(value.split(":", 1) for name, value in self.items if name == "column_hex")
        return {**columns, **{name: bytes.fromhex(text).decode() for name, text in in_hex.items()},
                **{value: None for name, value in self.items if name == "null"}}


def load(name, prefix=""):
    cases = parse_cases((GOLDEN / name).read_text("ascii"))
    return [pytest.param(Case(items), id=case) for case, items in cases if case.startswith(prefix)]


def examples():
    """The fenced blocks of docs/FORMAT.md, by the word after case=."""
    blocks = re.findall(r"^```\n(.*?)^```$", FORMAT_MD.read_text("utf-8"), re.M | re.S)
    return {case: Case(items) for block in blocks if block.startswith("case=")
            for case, items in parse_cases(block)}


EXAMPLES = examples()


def only(*names):
    return [pytest.param(EXAMPLES[name], id=name) for name in names]


DK1 = load("dk1.txt") + only("example_plain", "example_context")


# ---- golden files --------------------------------------------------------------------------------

@pytest.mark.parametrize("c", DK1)
def test_writer_makes_the_golden_value(c):
    args = (c.hex("data_key_hex"), c["tenant"], int(c["version"]), c.hex("plain_hex"), c.context())
    text = dk1.encrypt(*args, nonce=c.hex("nonce_hex"))
    assert text == c["text"].encode()
    assert dk1.encrypt(*args, binary=True, nonce=c.hex("nonce_hex")) == c.hex("binary_hex")
    assert dk1.convert(text, binary=True) == c.hex("binary_hex")
    assert dk1.convert(c.hex("binary_hex"), binary=False) == text


@pytest.mark.parametrize("c", DK1)
def test_reader_opens_the_golden_value(c):
    for value in (c["text"].encode(), c.hex("binary_hex")):
        for tenant in (c["tenant"], c["tenant_stored"]):
            plain = dk1.decrypt(c.hex("data_key_hex"), tenant, value, c.context())
            assert plain == c.hex("plain_hex")


@pytest.mark.parametrize("c", DK1)
def test_steps_between_are_the_golden_ones(c):
    key, commitment = dk1.derive(c.hex("data_key_hex"), c["tenant"], int(c["version"]))
    assert (key, commitment) == (c.hex("key_hex"), c.hex("commitment_hex"))
    assert dk1.tenant_id(c["tenant"]).decode() == c["tenant_stored"]
    assert dk1.field_aad(c["tenant"], int(c["version"]), c.context()) == c.hex("aad_hex")


@pytest.mark.parametrize("c", load("local_wrap.txt") + only("example_wrap"))
def test_local_wrap(c):
    number, master_key, context = int(c["number"]), c.hex("master_key_hex"), c.context()
    assert dk1.local_key_id(master_key) == c["kms_key_id"]
    assert dk1.wrap_aad(context) == c.hex("aad_hex")
    wrap = dk1.local_wrap(master_key, number, c.hex("key_hex"), context, c.hex("nonce_hex"))
    assert wrap == c["encrypted_data_key"]
    assert dk1.local_unwrap({number: master_key}, c["kms_key_id"], wrap, context) == c.hex("key_hex")


def test_master_key_file():
    data = (GOLDEN / "master.key").read_bytes()
    cases = parse_cases((GOLDEN / "master_key.txt").read_text("ascii"))
    want = [(int(c["number"]), c["created"], c.hex("key_hex"))
            for c in (Case(items) for _, items in cases)]
    assert dk1.parse_master_key_file(data) == want
    assert dk1.write_master_key_file(want) == data
    for (_, _, key), (_, items) in zip(want, cases):
        assert dk1.local_key_id(key) == dict(items)["kms_key_id"]


def test_master_key_file_of_the_page():
    block = re.search(r"^```\n(dekhand-master-key 1\n.*?)^```$", FORMAT_MD.read_text(), re.M | re.S)
    [(number, _, key)] = dk1.parse_master_key_file(block[1].encode())
    assert (number, key) == (1, EXAMPLES["example_wrap"].hex("master_key_hex"))


@pytest.mark.parametrize("c", load("derived.txt", "check_value") + only("example_check_value"))
def test_check_value(c):
    assert dk1.check_value(c.hex("data_key_hex")) == c.hex("check_value_hex")


@pytest.mark.parametrize("c", load("derived.txt", "registry_key") + only("example_registry_key"))
def test_registry_subkeys(c):
    sub = dk1.registry_subkeys(c.hex("registry_key_hex"))
    assert sub["pin"].hex() == c["pin"]
    for name in ("k_row", "k_log", "k_seal"):
        assert sub[name] == c.hex(name + "_hex")


@pytest.mark.parametrize("c", load("row_mac.txt") + load("tenant_chain.txt") + only("example_row"))
def test_row_mac(c):
    row = {**c.row(), "row_mac": "left out", "messages": "7", "changed_xid": "9"}
    assert dk1.row_message(c["registry_uuid"], c["table"], row) == c.hex("message_hex")
    mac = dk1.row_mac(c.hex("registry_key_hex"), c["registry_uuid"].upper(), c["table"], row)
    assert mac == c["row_mac"]


def test_row_mac_text_of_each_type():
    typed = {"a": True, "b": False, "c": 2147483647, "d": b"\xff\xfe", "e": None, "f": "", "g": "é"}
    text = {"a": "true", "b": "false", "c": "2147483647", "d": "//4=", "f": "", "g": "é"}
    assert dk1.row_message("u", "t", typed) == dk1.row_message("u", "t", text)
    assert dk1.row_message("u", "t", {**text, "f": None}) != dk1.row_message("u", "t", text)


def test_row_mac_is_the_same_while_a_later_column_is_null():
    old = {"epoch": 1, "next_version": 2, "rotation_days": None, "tenant_id": "acme"}
    new = {**old, "keys_digest": None, "log_head": None}
    assert dk1.row_message("u", "tenants", new) == dk1.row_message("u", "tenants", old)


def test_message_above_1_mib_is_refused():
    fixed = len(dk1.row_message("u", "t", {"a": ""}))
    assert len(dk1.row_message("u", "t", {"a": "x" * (1048576 - fixed)})) == 1048576
    with pytest.raises(ValueError):
        dk1.row_message("u", "t", {"a": "x" * (1048577 - fixed)})


@pytest.mark.parametrize("c", load("keys_digest.txt") + only("example_digest"))
def test_keys_digest(c):
    rows = [value.split(":") for name, value in c.items if name == "key"]
    rows = [(int(version), mac) for version, mac in rows]
    assert dk1.keys_digest(rows[::-1]) == c["keys_digest"]
    for i, (version, mac) in enumerate(rows):
        assert dk1.keys_digest(rows[:i] + rows[i + 1:]) != c["keys_digest"]
        assert dk1.keys_digest(rows[:i] + [(version, mac[::-1])] + rows[i + 1:]) != c["keys_digest"]


@pytest.mark.parametrize("c", load("log_mac.txt") + only("example_log_row"))
def test_log_mac(c):
    row = {**c.row(), "mac": "left out"}
    assert dk1.log_message(c["registry_uuid"], row) == c.hex("message_hex")
    assert dk1.log_mac(c.hex("registry_key_hex"), c["registry_uuid"].upper(), row) == c["mac"]
    stored = {**row, "success": 1 if row["success"] == "true" else 0}
    assert dk1.log_message(c["registry_uuid"], stored) == c.hex("message_hex")


def test_golden_log_rows_are_two_chains():
    c = {param.id: param.values[0] for param in load("log_mac.txt")}
    for chain in (("log_first", "log_next", "log_failed"),
                  ("log_unwrap_one", "log_unwrap_many", "log_whole_registry")):
        rows = [c[name].row() for name in chain]
        assert [row["prev"] for row in rows] == [None, *(c[name]["mac"] for name in chain[:-1])]
        assert len({dk1.log_chain(row) for row in rows}) == 1


@pytest.mark.parametrize("c", load("seal_mac.txt") + load("rekey_seals.txt") + only("example_seal"))
def test_seal_mac_and_hash(c):
    row = {**c.row(), "mac": "left out"}
    assert dk1.seal_message(c["registry_uuid"], row) == c.hex("message_hex")
    assert dk1.seal_mac(c.hex("registry_key_hex"), c["registry_uuid"].upper(), row) == c["mac"]
    assert dk1.seal_hash(c["mac"]) == c["hash"]
    heads = [line for line in row["heads"].splitlines() if not line.startswith("rekey")]
    assert [*map(head_line, dk1.parse_heads(row["heads"]))] == heads
    assert (dk1.hand_over(row["heads"]) is None) != row["heads"].startswith("rekey ")


def head_line(head):
    (kind, name), epoch, mac = head
    return f"{kind} {name} {mac}" if epoch is None else f"{kind} {name} {epoch} {mac or '-'}"


MAC = "A" * 44


@pytest.mark.parametrize("heads", [
    f"tenant acme 1 {MAC}", "\n", f"tenant acme 1 {MAC}\n\n", f"tenant acme 0 {MAC}\n", "tenant acme -\n",
    f"tenant  acme 1 {MAC}\n", f"tenant acme 01 {MAC}\n", f"tenant acme 1 {MAC}=\n", f"tenant acme 1 {MAC} \n",
    f"tenant a/b 1 {MAC}\n", "process db/0123456789abcdef -\n", f"process db {MAC}\n", f"process {MAC}\n",
    f"process db/0123456789ABCDEF {MAC}\n", f"tenant acme 1 {MAC}\r\n", f"seal acme 1 {MAC}\n",
])
def test_heads_that_are_not_exact_are_refused(heads):
    with pytest.raises(dk1.FormatError):
        dk1.parse_heads(heads)


def test_generator_makes_the_golden_files_again(tmp_path):
    script = [sys.executable, str(GOLDEN / "make_golden.py")]
    subprocess.run([*script, "--into", str(tmp_path)], check=True)
    made = sorted(p.name for p in tmp_path.iterdir())
    assert made
    for name in made:
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes(), name
    again = subprocess.run([*script, "--into", str(tmp_path)], capture_output=True)
    assert again.returncode == 1 and b"never overwritten" in again.stderr


# ---- values that must be refused -----------------------------------------------------------------

KEY = bytes(range(32))
PLAIN = b"+1234567890"
CONTEXT = [("field", "contacts.phone_number"), ("row", "17")]


def value(binary=False, **changes):
    args = {"data_key": KEY, "tenant": "acme", "version": 3, "plaintext": PLAIN, "context": CONTEXT}
    return dk1.encrypt(**{**args, **changes}, binary=binary)


def refused(error, data, tenant="acme", context=CONTEXT, key=KEY):
    with pytest.raises(error):
        dk1.decrypt(key, tenant, data, context)


@pytest.mark.parametrize("binary", [False, True])
def test_each_flipped_bit_is_refused(binary):
    good = value(binary)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        refused(dk1.Dk1Error, bytes(bad))


def test_flipped_bit_names_the_part_that_was_altered():
    good = value(binary=True)
    parts = [(0, dk1.FormatError), (4, dk1.WrongKey), (5, dk1.WrongKey), (20, dk1.WrongKey),
             (21, dk1.AuthError), (33, dk1.AuthError), (len(good) - 1, dk1.AuthError)]
    for at, error in parts:
        bad = bytearray(good)
        bad[at] ^= 0x10
        refused(error, bytes(bad))


@pytest.mark.parametrize("binary", [False, True])
def test_each_cut_value_is_refused(binary):
    good = value(binary)
    for n in range(len(good)):
        refused(dk1.Dk1Error, good[:n])
    for n in range(5 + dk1.OVERHEAD):
        refused(dk1.FormatError, value(binary=True)[:n])


def test_wrong_tenant_version_or_data_key_is_a_wrong_key():
    for binary in (False, True):
        refused(dk1.WrongKey, value(binary), tenant="acme2")
        refused(dk1.WrongKey, value(binary), tenant="Acme")
        refused(dk1.WrongKey, value(binary), key=bytes(32))
    refused(dk1.WrongKey, value().replace(b"dk1.3.", b"dk1.4.", 1))
    refused(dk1.WrongKey, b"\x01\0\0\0\x04" + value(binary=True)[5:])


@pytest.mark.parametrize("context", [
    [], [("field", "contacts.phone_number")], [*CONTEXT, ("extra", "")],
    [("field", "contacts.phone_number"), ("row", "18")], [("Field", "contacts.phone_number"), ("row", "17")],
    [("fiel", "dcontacts.phone_number"), ("row", "17")],
])
def test_other_context_is_refused(context):
    refused(dk1.AuthError, value(), context=context)


def test_order_of_the_context_is_without_effect():
    assert dk1.decrypt(KEY, "acme", value(), CONTEXT[::-1]) == PLAIN
    assert dk1.decrypt(KEY, "acme", value(), dict(CONTEXT)) == PLAIN


@pytest.mark.parametrize("head", [
    b"", b"dk1", b"dk1.", b"dk1..", b"dk2.3.", b"DK1.3.", b" dk1.3.", b"dk1.03.", b"dk1.+3.", b"dk1.-3.",
    b"dk1.0.", b"dk1.2147483648.", b"dk1.4294967299.", b"dk1.3..", b"dk1.3,", b"dk1.\xd9\xa3.",
    b"dk1.18446744073709551619.", b"dk1.99999999999999999999999999999999.", b"\xef\xbb\xbfdk1.3.",
])
def test_text_with_another_head_is_refused(head):
    refused(dk1.FormatError, head + value().split(b".")[2])


@pytest.mark.parametrize("change", [
    lambda v: v + b"\n", lambda v: v + b" ", lambda v: v + b"=", lambda v: v + b"==", lambda v: v + b".",
    lambda v: v + b"\0", lambda v: v[:-1] + b"+", lambda v: v[:-1] + b"/", lambda v: v[:20] + b"\n" + v[20:],
    lambda v: v + b"A", lambda v: v[:-3], lambda v: v[:40] + b"\xc3\xa9" + v[42:],
])
def test_text_that_is_not_strict_base64url_is_refused(change):
    good = value(plaintext=b"x")  # 45 bytes of body: 60 letters, no unused bits
    assert len(good.split(b".")[2]) == 60
    refused(dk1.FormatError, change(good))


@pytest.mark.parametrize("n", [0, 2])
def test_unused_bits_must_be_zero(n):
    good = value(plaintext=b"x" * n)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(good[-1:])
    refused(dk1.FormatError, good[:-1] + alphabet[last + 1:last + 2])


@pytest.mark.parametrize("version", [0, 2147483648, 4294967295])
def test_version_out_of_range_is_refused(version):
    refused(dk1.FormatError, b"\x01" + dk1.u32(version) + value(binary=True)[5:])
    with pytest.raises(ValueError):
        value(version=version)


def test_sizes_and_the_limit_of_1_mib():
    for n in (0, 1, 2, 3, 13, 1000):
        for version in (1, 10, 2147483647):
            assert len(value(True, plaintext=bytes(n), version=version)) == n + 49
            text = 5 + len(str(version)) + -(-4 * (n + 44) // 3)
            assert len(value(plaintext=bytes(n), version=version)) == text
    largest = value(plaintext=bytes(1048576))
    assert dk1.decrypt(KEY, "acme", largest, CONTEXT) == bytes(1048576)
    with pytest.raises(ValueError):
        value(plaintext=bytes(1048577))
    refused(dk1.FormatError, b"\x01" + dk1.u32(3) + bytes(dk1.OVERHEAD + 1048577))


# ---- tenants and contexts ------------------------------------------------------------------------

@pytest.mark.parametrize("tenant", ["", "t" * 129, "a b", "a/b", "a\n", "\u00e9", "a\0b", "a,b"])
def test_what_is_no_tenant_is_refused(tenant):
    with pytest.raises(ValueError):
        dk1.tenant_id(tenant)


def test_only_the_uuid_form_is_lower_cased():
    assert dk1.tenant_id("3F2504E0-4F89-41D3-9A0C-0305E82C3301").islower()
    for kept in ("3F2504E04F8941D39A0C0305E82C3301", "3F2504E0-4F89-41D3-9A0C-0305E82C330G",
                 "3F2504E0-4F89-41D3-9A0C-0305E82C33011", "3F2504E04-F89-41D3-9A0C-0305E82C3301"):
        assert dk1.tenant_id(kept) == kept.encode()


@pytest.mark.parametrize("context", [
    [("", "v")], [("n" * 257, "v")], [("n", "v" * 257)], [("n", "v"), ("n", "w")], [("n\0", "v")],
    [("n", "\0")], [(b"\xff", "v")], [("n", b"\xed\xa0\x80")], [("n", b"\xc0\x80")], [("n", "\ud800")],
    [("n", b"\xf4\x90\x80\x80")], [("\u00e9" * 129, "v")], [(f"n{i}", "") for i in range(17)],
])
def test_what_is_no_context_is_refused(context):
    with pytest.raises(ValueError):
        dk1.encode_pairs(context)


def test_context_encoding_is_injective():
    near = [[], [("ab", "c")], [("a", "bc")], [("a", "b"), ("c", "")], [("a", ""), ("b", "c")], [("a", "")],
            [("abc", "")], [("A", "bc")], [("a", "\u00e9")], [("a", "e\u0301")]]
    assert len({dk1.encode_pairs(c) for c in near}) == len(near)
    seen, rng = {}, random.Random(4)
    for _ in range(20000):
        names = rng.sample(["a", "b", "ab", "ba", "aa", "\u00e9", "\U0001f511"], rng.randrange(4))
        pairs = frozenset((n, "".join(rng.choices("ab\u00e9", k=rng.randrange(4)))) for n in names)
        assert seen.setdefault(dk1.encode_pairs(list(pairs)), pairs) == pairs


# ---- wraps and the master key file ---------------------------------------------------------------

MASTER = bytes(range(0x40, 0x60))
WRAP_CONTEXT = dk1.data_key_context("acme", "2025-10-14T12:00:00.000000Z")
WRAP = dk1.local_wrap(MASTER, 1, KEY, WRAP_CONTEXT)


def unwrap_refused(error, wrap=WRAP, context=None, keys=None, key_id=dk1.local_key_id(MASTER)):
    with pytest.raises(error):
        dk1.local_unwrap(keys or {1: MASTER}, key_id, wrap, context or WRAP_CONTEXT)


def test_wrap_opens_only_under_its_whole_context():
    for name in WRAP_CONTEXT:
        unwrap_refused(dk1.AuthError, context={**WRAP_CONTEXT, name: "other"})
        unwrap_refused(dk1.AuthError, context={k: v for k, v in WRAP_CONTEXT.items() if k != name})
    unwrap_refused(dk1.AuthError, context={**WRAP_CONTEXT, "More": ""})
    unwrap_refused(dk1.AuthError, context=dk1.registry_key_context("acme", WRAP_CONTEXT["Timestamp"]))


def test_each_flipped_bit_of_a_wrap_is_refused():
    raw = dk1.base64_decode(WRAP)
    for bit in range(8 * len(raw)):
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        unwrap_refused(dk1.Dk1Error, dk1.base64_encode(bytes(bad)))


def test_wrap_of_another_master_key_is_refused():
    unwrap_refused(dk1.WrongKey, keys={2: MASTER})
    unwrap_refused(dk1.WrongKey, keys={1: KEY})
    unwrap_refused(dk1.WrongKey, key_id="local:" + "0" * 32)


@pytest.mark.parametrize("change", [
    lambda w: w[:-1], lambda w: w + "=", lambda w: w + "\n", lambda w: " " + w, lambda w: w[:-4], lambda w: "",
    lambda w: w[:-2] + "b=", lambda w: w[:4] + "-" + w[5:],
])
def test_wrap_that_is_not_strict_base64_is_refused(change):
    unwrap_refused(dk1.FormatError, change(WRAP))


def resum(lines):
    data = b"".join(lines)
    return data + b"sha256 " + dk1.hashlib.sha256(data).hexdigest().encode() + b"\n"


HEAD = dk1.MASTER_HEAD
ONE = b"1 2025-10-14T12:00:00.000000Z " + dk1.base64_encode(MASTER).encode() + b"\n"
TWO = b"2" + ONE[1:]


@pytest.mark.parametrize("data", [
    b"", HEAD, HEAD + ONE, resum([HEAD]), resum([ONE]), resum([HEAD, ONE])[:-1], resum([HEAD, ONE]) + b"\n",
    resum([HEAD, TWO, ONE]), resum([HEAD, ONE, ONE]), resum([HEAD, ONE, b"\n"]), resum([HEAD, b"0" + ONE[1:]]),
    resum([HEAD, b"0" + ONE]), resum([HEAD, b"4294967296" + ONE[1:]]), resum([HEAD, ONE.replace(b" ", b"  ")]),
    resum([HEAD, ONE.replace(b"\n", b"\r\n")]), resum([HEAD, ONE.replace(b".000000Z", b"Z")]),
    resum([HEAD, ONE[:-2] + b"\n"]), resum([HEAD.replace(b"1", b"2"), ONE]),
    resum([HEAD, ONE[:30] + b"A" * 43 + b"=\n"]), resum([HEAD, ONE]).replace(b"QEFC", b"QEFD"),
    resum([HEAD] + [b"%d" % n + ONE[1:] for n in range(1, 66)]),
])
def test_master_key_file_that_is_not_exact_is_refused(data):
    with pytest.raises(dk1.FormatError):
        dk1.parse_master_key_file(data)


def test_master_key_file_that_is_exact_is_read():
    assert [n for n, _, _ in dk1.parse_master_key_file(resum([HEAD, ONE, TWO]))] == [1, 2]


# ---- command line --------------------------------------------------------------------------------

def command(*args, data=b"", env=None):
    done = subprocess.run([sys.executable, str(HERE / "dk1.py"), *args], input=data, capture_output=True,
                          env={**os.environ, "DK1_KEY_BASE64": dk1.base64_encode(KEY), **(env or {})})
    return done.returncode, done.stdout


@pytest.mark.parametrize("form", [[], ["--binary"]])
def test_command_line_round_trip_with_exact_bytes(form):
    plain = bytes(range(256)) + b"\n"
    args = ["--tenant", "acme", "--version", "3", "--context", "a=b=c", "--context", "\u00e9=", *form]
    code, sealed = command("encrypt", *args, data=plain)
    assert code == 0
    assert dk1.decrypt(KEY, "acme", sealed, [("a", "b=c"), ("\u00e9", "")]) == plain
    assert command("decrypt", *args, data=sealed) == (0, plain)


def test_command_line_refusals_have_their_own_exit_and_no_output():
    sealed = value()
    right = ["--context", "row=17", "--context", "field=contacts.phone_number"]
    assert command("decrypt", "--tenant", "acme", *right, data=sealed) == (0, PLAIN)
    assert command("decrypt", "--tenant", "acme", *right, data=sealed + b"\n") == (3, b"")
    assert command("decrypt", "--tenant", "acme", *right, "--binary", data=sealed) == (3, b"")
    assert command("decrypt", "--tenant", "other", *right, data=sealed) == (4, b"")
    assert command("decrypt", "--tenant", "acme", *right, "--version", "4", data=sealed) == (4, b"")
    assert command("decrypt", "--tenant", "acme", data=sealed) == (5, b"")
    assert command("encrypt", "--tenant", "a b", "--version", "1") == (2, b"")
    assert command("encrypt", "--tenant", "acme") == (2, b"")
    assert command("encrypt", "--tenant", "acme", "--version", "1", env={"DK1_KEY_BASE64": ""}) == (2, b"")
