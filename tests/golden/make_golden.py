#!/usr/bin/python3
"""Writes the golden files beside it, from tests/format/dk1.py with fixed keys and nonces.

A golden file is kept for ever: every version of dekhand must read it. So this script refuses to
overwrite; a new format or a new case gets a new file. `--into DIR` writes elsewhere, to compare.
"""
import argparse
import hashlib
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "format"))
import dk1  # noqa: E402  (found by the line above)

LINE_FORMAT = """\
#
# One item a line. `#` begins a comment line; an empty line ends a case; all else is name=value.
# A name that ends in _hex has bytes in lower-case hex, two digits a byte; an empty value is no bytes.
{extra}# Every other value is the text itself up to the end of the line; `version` and `number` are decimal.
# Each case begins with case=<word>. Lines have at most 4000 bytes and end in LF.
"""
CONTEXT_EXTRA = ("# context_hex=<name>:<value> is one pair, both in hex; it comes 0 to 16 times, in the order in\n"
                 "# which the caller gives the pairs.\n")
COLUMN_EXTRA = ("# column=<name>:<text> is a column as it enters the MAC, null=<name> one that is NULL and left\n"
                "# out; the columns of a row are sorted by name.\n")
HEX_EXTRA = "# column_hex=<name>:<hex> is a column too, its text in hex: it has line ends or is not ASCII.\n"
KEY_EXTRA = "# key=<version>:<row_mac> is a key row of the tenant, in the order of the versions.\n"

UUID_LOWER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
REGISTRY_UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
CREATED = "2025-10-14T12:00:00.000000Z"


def fixed(label, n=32):
    """n bytes that nobody uses for anything else."""
    return hashlib.sha256(b"dekhand golden " + label.encode()).digest()[:n]


def lines(*items):
    return "".join(f"{name}={value.hex() if isinstance(value, bytes) else value}\n"
                   for name, value in items) + "\n"


def context_items(pairs):
    return [("context_hex", f"{dk1.as_utf8(n, 1).hex()}:{dk1.as_utf8(v, 0).hex()}")
            for n, v in pairs]


# ---- dk1 -----------------------------------------------------------------------------------------

LONG = bytes((7 * i + i // 256) % 256 for i in range(1000))
UTF8 = "Zoë 王小明 Ωμέγα שלום 🔑".encode()
PAIRS = [("row", "17"), ("field", "contacts.phone_number"), ("a", ""), ("Field", "É")]

DK1_CASES = [  # (case, tenant, version, context, plaintext)
    ("empty_value", "acme", 1, [], b""),
    ("ascii", "acme", 1, [], b"+1234567890"),
    ("utf8", "acme", 2, [], UTF8),
    ("bytes_1000", "acme", 10, [], LONG),
    ("context_unsorted", "acme", 3, PAIRS, b"+1234567890"),
    ("context_16_pairs", "acme", 3, [(f"n{15 - i}", f"v{i}") for i in range(16)], b"sixteen"),
    ("context_longest_pair", "acme", 3, [("n" * 256, "v" * 256)], b"longest"),
    ("version_largest", "acme", 2147483647, [], b"+1234567890"),
    ("tenant_uuid_upper", UUID_LOWER.upper(), 1, [("field", "contacts.phone_number")], b"+1234567890"),
    ("tenant_case_kept", "Acme.EU:shop_1-A", 1, [], b"+1234567890"),
    ("tenant_128_bytes", "t" * 127 + "Z", 1, [], b"+1234567890"),
]


def dk1_case(case, tenant, version, context, plain, data_key, nonce):
    key, commitment = dk1.derive(data_key, tenant, version)
    value = dk1.encrypt(data_key, tenant, version, plain, context, nonce=nonce)
    return lines(("case", case), ("data_key_hex", data_key), ("tenant", tenant),
                 ("tenant_stored", dk1.tenant_id(tenant).decode()), ("version", version),
                 *context_items(context), ("nonce_hex", nonce), ("plain_hex", plain),
                 ("key_hex", key), ("commitment_hex", commitment),
                 ("aad_hex", dk1.field_aad(tenant, version, context)),
                 ("text", value.decode()), ("binary_hex", dk1.convert(value, binary=True)))


def dk1_file():
    head = ("# dk1 values, text and binary: docs/FORMAT.md sections 2 to 4.\n"
            + LINE_FORMAT.format(extra=CONTEXT_EXTRA)
            + "# tenant is as the caller gives it, tenant_stored what it becomes. key_hex and commitment_hex\n"
              "# are derived from data_key_hex; aad_hex is what the tag covers beside the ciphertext.\n\n")
    return head + "".join(dk1_case(*case, fixed(f"data key {case[0]}"), fixed(f"nonce {case[0]}", 12))
                          for case in DK1_CASES)


# ---- keys ----------------------------------------------------------------------------------------

def subkeys_case(case, registry_key):
    sub = dk1.registry_subkeys(registry_key)
    return lines(("case", case), ("registry_key_hex", registry_key), ("k_row_hex", sub["k_row"]),
                 ("k_log_hex", sub["k_log"]), ("k_seal_hex", sub["k_seal"]), ("pin", sub["pin"].hex()))


def check_value_case(case, data_key):
    return lines(("case", case), ("data_key_hex", data_key),
                 ("check_value_hex", dk1.check_value(data_key)))


def derived_file():
    head = ("# Check values and what is derived from a registry key: docs/FORMAT.md sections 6 and 9.\n"
            + LINE_FORMAT.format(extra="") + "\n")
    return (head + check_value_case("check_value", fixed("data key ascii"))
            + check_value_case("check_value_ff", b"\xff" * 32)
            + subkeys_case("registry_key", fixed("registry key")))


def wrap_case(case, number, master_key, key, context, nonce):
    return lines(("case", case), ("number", number), ("master_key_hex", master_key),
                 ("kms_key_id", dk1.local_key_id(master_key)), ("key_hex", key),
                 *context_items(context.items()), ("aad_hex", dk1.wrap_aad(context)),
                 ("nonce_hex", nonce),
                 ("encrypted_data_key", dk1.local_wrap(master_key, number, key, context, nonce)))


def local_wrap_file():
    head = ("# Wraps of the local provider: docs/FORMAT.md section 7. The master keys are those of\n"
            "# master.key.\n" + LINE_FORMAT.format(extra=CONTEXT_EXTRA)
            + "# key_hex is the key that encrypted_data_key wraps, number that of the master key.\n\n")
    data = dk1.data_key_context(UUID_LOWER.upper(), CREATED)
    registry = dk1.registry_key_context(REGISTRY_UUID, "2025-10-14T12:00:00.000001Z")
    return (head + wrap_case("data_key", 1, fixed("master key 1"), fixed("data key ascii"), data,
                             fixed("nonce wrap 1", 12))
            + wrap_case("registry_key", 1, fixed("master key 1"), fixed("registry key"), registry,
                        fixed("nonce wrap 2", 12))
            + wrap_case("second_master_key", 4294967295, fixed("master key 2"), fixed("data key utf8"),
                        dk1.data_key_context("acme", "2026-12-31T23:59:59.999999Z"),
                        fixed("nonce wrap 3", 12)))


MASTER_KEYS = [(1, CREATED, fixed("master key 1")),
               (4294967295, "2026-01-02T03:04:05.678901Z", fixed("master key 2"))]


def master_key_text_file():
    head = ("# What master.key holds: docs/FORMAT.md section 8. One case a key, in the order of the file.\n"
            + LINE_FORMAT.format(extra="") + "\n")
    return head + "".join(
        lines(("case", f"key_{i}"), ("number", number), ("created", created), ("key_hex", key),
              ("kms_key_id", dk1.local_key_id(key)))
        for i, (number, created, key) in enumerate(MASTER_KEYS, 1))


# ---- rows ----------------------------------------------------------------------------------------

def key_row(**changes):
    row = {
        "id": "0b9f2c1e-7f0a-4d0e-8f39-5a1d2c3b4e5f", "tenant_id": UUID_LOWER,
        "kms_key_id": dk1.local_key_id(fixed("master key 1")),
        "encrypted_data_key": dk1.local_wrap(fixed("master key 1"), 1, fixed("data key ascii"),
                                             dk1.data_key_context(UUID_LOWER, CREATED),
                                             fixed("nonce wrap 1", 12)),
        "version": 1, "state": "active", "provider": "local", "context_timestamp": CREATED,
        "check_value": dk1.check_value(fixed("data key ascii")), "created_at": CREATED,
        "expires_at": "2026-01-12T12:00:00.000000Z", "rotated_at": None, "compromised_at": None,
        "disabled_at": None, "purged_at": None,
    }
    return {**row, **changes}


ROTATED = "2026-01-05T02:00:00.123456Z"
PURGED = {"state": "purged", "rotated_at": ROTATED, "disabled_at": "2026-02-05T02:00:00.000000Z",
          "purged_at": "2026-02-08T02:00:00.000000Z"}
KEY_ROWS = [
    ("key_active", key_row()),
    ("key_retired", key_row(state="retired", rotated_at=ROTATED)),
    ("key_compromised", key_row(state="retired", rotated_at=ROTATED, compromised_at=ROTATED)),
    ("key_purged_blob_null", key_row(encrypted_data_key=None, **PURGED)),
    ("key_purged_blob_empty", key_row(encrypted_data_key="", **PURGED)),
    ("key_version_largest", key_row(id="0b9f2c1e-7f0a-4d0e-8f39-5a1d2c3b4e60", tenant_id="acme",
                                    version=2147483647)),
]
TENANT_ROWS = [
    ("tenant_default_rotation", {"tenant_id": "acme", "next_version": 2, "epoch": 1,
                                 "rotation_days": None}),
    ("tenant_own_rotation", {"tenant_id": UUID_LOWER, "next_version": 2147483647,
                             "epoch": 9223372036854775807, "rotation_days": 30}),
]


def row_case(case, table, row):
    registry_key = fixed("registry key")
    columns = [(("null", name) if value is None else
                ("column", f"{name}:{dk1.column_text(value).decode()}"))
               for name, value in sorted(row.items())]
    return lines(("case", case), ("registry_key_hex", registry_key),
                 ("registry_uuid", REGISTRY_UUID), ("table", table), *columns,
                 ("message_hex", dk1.row_message(REGISTRY_UUID, table, row)),
                 ("row_mac", dk1.row_mac(registry_key, REGISTRY_UUID, table, row)))


def row_mac_of(case):
    return dk1.row_mac(fixed("registry key"), REGISTRY_UUID, "encryption_keys", dict(KEY_ROWS)[case])


def row_mac_file():
    head = ("# MACs of registry rows: docs/FORMAT.md section 10.\n"
            + LINE_FORMAT.format(extra=COLUMN_EXTRA)
            + "# message_hex is what is authenticated under K_row.\n\n")
    return (head + "".join(row_case(case, "encryption_keys", row) for case, row in KEY_ROWS)
            + "".join(row_case(case, "tenants", row) for case, row in TENANT_ROWS))


# ---- log, seals, digests -------------------------------------------------------------------------

NODE = "db-1.example/0123456789abcdef"
DIGEST_KEYS = [  # (case, [(version, row MAC)]); the first is key_active of row_mac.txt
    ("digest_one_key", [(1, row_mac_of("key_active"))]),
    ("digest_three_keys", [(1, row_mac_of("key_retired")), (2, row_mac_of("key_compromised")),
                           (2147483647, row_mac_of("key_version_largest"))]),
    ("digest_no_key", []),
]


def log_row(**changes):
    row = {
        "id": "7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a01", "tenant_id": UUID_LOWER, "operation": "create",
        "from_version": None, "to_version": None, "success": True, "error_message": None,
        "performed_at": CREATED, "performed_by": "cli:alice", "node": NODE, "detail": None,
        "prev": None,
    }
    return {**row, **changes}


def log_rows():
    """(case, row), the rows of one tenant's chain, then those of a process's."""
    first = log_row(to_version=1, detail=dk1.local_key_id(fixed("master key 1")))
    rotated = log_row(id="7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a02", operation="rotate", from_version=1,
                      to_version=2147483647, performed_at=ROTATED, prev=log_mac_of(first),
                      detail=dk1.local_key_id(fixed("master key 2")))
    failed = log_row(id="7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a03", operation="rotate",
                     from_version=2147483647, success=False, prev=log_mac_of(rotated),
                     error_message="E_LIMIT: tenant Zoë has used up its versions",
                     performed_at="2026-01-05T02:00:01.000000Z")
    one = log_row(id="7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a04", operation="decrypt", from_version=1)
    many = log_row(id="7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a05", operation="decrypt", tenant_id="*",
                   detail=f"acme:1 Acme.EU:shop_1-A:12 {UUID_LOWER}:2147483647",
                   prev=log_mac_of(one), performed_at=ROTATED)
    bare = log_row(id="7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a06", operation="export", from_version=1,
                   performed_by=None, node=None, tenant_id="acme")
    whole = log_row(id="7d0c4a7e-3b0f-4a55-9d35-0c6f4f5e6a07", operation="accept-restore", tenant_id="*",
                    prev=log_mac_of(many), performed_at="2026-01-05T02:00:00.123457Z")
    return [("log_first", first), ("log_next", rotated), ("log_failed", failed),
            ("log_unwrap_one", one), ("log_unwrap_many", many), ("log_whole_registry", whole),
            ("log_without_names", bare)]


def log_mac_of(row):
    return dk1.log_mac(fixed("registry key"), REGISTRY_UUID, row)


def seal_mac_of(row):
    return dk1.seal_mac(fixed("registry key"), REGISTRY_UUID, row)


def seal_rows():
    macs = [log_mac_of(row) for _, row in log_rows()]
    first = {"n": 1, "at": CREATED, "heads": "", "prev": None}
    second = {"n": 2, "at": "2025-10-14T12:00:00.000001Z", "prev": dk1.seal_hash(seal_mac_of(first)),
              "heads": f"tenant {UUID_LOWER} 1 {macs[0]}\ntenant acme 9223372036854775807 -\n"}
    third = {"n": 3, "at": ROTATED, "heads": f"process {NODE} {macs[4]}\n",
             "prev": dk1.seal_hash(seal_mac_of(second))}
    largest = {**third, "n": 9223372036854775807}
    return [("seal_first", first), ("seal_tenants", second), ("seal_process", third),
            ("seal_number_largest", largest)]


def rekey_seal_rows():
    """The last seal under a key, and the one that ends a rekey."""
    third = dict(seal_rows())["seal_process"]
    pin = dk1.registry_subkeys(fixed("registry key"))["pin"].hex()
    last = {**third, "n": 4, "heads": f"rekey 2 {pin}\n", "prev": dk1.seal_hash(seal_mac_of(third))}
    end = {**last, "n": 5, "heads": third["heads"] + "rekeyed 2\n",
           "prev": dk1.seal_hash(seal_mac_of(last))}
    return [("seal_hand_over", last), ("seal_rekeyed", end)]


def column_item(name, value):
    if value is None:
        return "null", name
    text = dk1.column_text(value)
    if b"\n" in text or not text.isascii():
        return "column_hex", f"{name}:{text.hex()}"
    return "column", f"{name}:{text.decode()}"


def mac_case(case, table, row, message, mac, *more):
    return lines(("case", case), ("registry_key_hex", fixed("registry key")),
                 ("registry_uuid", REGISTRY_UUID), ("table", table),
                 *[column_item(name, value) for name, value in sorted(row.items())],
                 ("message_hex", message), ("mac", mac), *more)


def log_mac_file():
    head = ("# MACs of log rows: docs/FORMAT.md section 12.\n"
            + LINE_FORMAT.format(extra=COLUMN_EXTRA + HEX_EXTRA)
            + "# message_hex is what is authenticated under K_log. The first three cases are one chain, the\n"
              "# three after them another.\n\n")
    return head + "".join(
        mac_case(case, "key_rotation_log", row, dk1.log_message(REGISTRY_UUID, row), log_mac_of(row))
        for case, row in log_rows())


def seal_mac_file(rows):
    head = ("# MACs and hashes of seals: docs/FORMAT.md section 13.\n"
            + LINE_FORMAT.format(extra=COLUMN_EXTRA + HEX_EXTRA)
            + "# message_hex is what is authenticated under K_seal; hash is what the next seal has as prev.\n\n")
    return head + "".join(
        mac_case(case, "seals", row, dk1.seal_message(REGISTRY_UUID, row), seal_mac_of(row),
                 ("hash", dk1.seal_hash(seal_mac_of(row))))
        for case, row in rows)


def chained_tenants():
    digests = {case: dk1.keys_digest(keys) for case, keys in DIGEST_KEYS}
    heads = {case: log_mac_of(row) for case, row in log_rows()}
    return [
        ("tenant_chained", {"tenant_id": UUID_LOWER, "next_version": 2, "epoch": 1,
                            "rotation_days": None, "keys_digest": digests["digest_one_key"],
                            "log_head": heads["log_first"]}),
        ("tenant_chained_without_log", {"tenant_id": "acme", "next_version": 2147483648, "epoch": 3,
                                        "rotation_days": 30, "log_head": None,
                                        "keys_digest": digests["digest_three_keys"]}),
    ]


def tenant_chain_file():
    head = ("# MACs of tenants that have a digest and a chain: docs/FORMAT.md section 10.\n"
            + LINE_FORMAT.format(extra=COLUMN_EXTRA)
            + "# message_hex is what is authenticated under K_row.\n\n")
    return head + "".join(row_case(case, "tenants", row) for case, row in chained_tenants())


def keys_digest_file():
    head = ("# What the key rows of a tenant add up to: docs/FORMAT.md section 11.\n"
            + LINE_FORMAT.format(extra=KEY_EXTRA) + "\n")
    return head + "".join(
        lines(("case", case), *[("key", f"{version}:{mac}") for version, mac in keys],
              ("keys_digest", dk1.keys_digest(keys)))
        for case, keys in DIGEST_KEYS)


FILES = {
    "dk1.txt": lambda: dk1_file().encode(),
    "derived.txt": lambda: derived_file().encode(),
    "local_wrap.txt": lambda: local_wrap_file().encode(),
    "master.key": lambda: dk1.write_master_key_file(MASTER_KEYS),
    "master_key.txt": lambda: master_key_text_file().encode(),
    "row_mac.txt": lambda: row_mac_file().encode(),
    "log_mac.txt": lambda: log_mac_file().encode(),
    "seal_mac.txt": lambda: seal_mac_file(seal_rows()).encode(),
    "rekey_seals.txt": lambda: seal_mac_file(rekey_seal_rows()).encode(),
    "tenant_chain.txt": lambda: tenant_chain_file().encode(),
    "keys_digest.txt": lambda: keys_digest_file().encode(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=pathlib.Path, default=HERE)
    into = parser.parse_args().into
    there = [name for name in FILES if (into / name).exists()]
    if there:
        sys.exit(f"make_golden.py: golden files are never overwritten: {', '.join(there)}")
    for name, make in FILES.items():
        (into / name).write_bytes(make())


if __name__ == "__main__":
    main()
