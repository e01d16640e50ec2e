#!/usr/bin/python3
"""A second reader and writer of dekhand's formats, written from docs/FORMAT.md alone.

Section numbers are those of that page. It shares no code with the library: where the two disagree,
one of them is wrong. For tests; it keeps keys in ordinary memory and does not wipe them.
"""
import argparse
import base64
import binascii
import hashlib
import hmac
import os
import re
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
PLAIN_MAX = 1048576
VERSION_MAX = 2147483647
COMMITMENT = 16
NONCE = 12
TAG = 16
OVERHEAD = COMMITMENT + NONCE + TAG
MESSAGE_MAX = 1048576
MASTER_HEAD = b"dekhand-master-key 1\n"


class Dk1Error(Exception):
    """What any reader here can raise."""


class FormatError(Dk1Error):
    """The bytes are not of this format (E_FORMAT)."""


class WrongKey(Dk1Error):
    """Sealed under another key, tenant or version (E_WRONG_KEY)."""


class AuthError(Dk1Error):
    """The tag fails: altered, or another context (E_AUTH)."""


class Limit(ValueError):
    """More or longer than allowed (E_LIMIT); every other ValueError here is E_USAGE."""


# ---- 1 Notation ----------------------------------------------------------------------------------

def u32(n):
    return struct.pack(">I", n)


def lp(x):
    return u32(len(x)) + x


def hkdf(ikm, info, length):
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(ikm)


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def base64_encode(data):
    return base64.b64encode(data).decode("ascii")


def base64_decode(text):
    """Strict: the one text of these bytes, or FormatError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FormatError("not base64") from exc
    if base64_encode(data) != text:
        raise FormatError("not strict base64")
    return data


def base64url_encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def base64url_decode(text):
    """Strict, from bytes: no padding, unused bits zero."""
    if not re.fullmatch(rb"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise FormatError("not base64url")
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64url_encode(data) != text:
        raise FormatError("unused bits are not zero")
    return data


def check_timestamp(text):
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", text):
        raise ValueError("not a timestamp")
    return text


# ---- 2 Tenant, 3 Context -------------------------------------------------------------------------

def tenant_id(text):
    """The stored form of a tenant id, as bytes."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", text):
        raise ValueError("not a tenant id")
    if re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", text):
        text = text.lower()
    return text.encode("ascii")


def as_utf8(x, least):
    data = x if isinstance(x, bytes) else x.encode("utf-8")  # a lone surrogate raises here
    if not least <= len(data) <= 256:
        raise Limit("a context name has 1 to 256 bytes, a value 0 to 256")
    if "\0" in data.decode("utf-8"):
        raise ValueError("a context holds a NUL")
    return data


def encode_pairs(context):
    """pairs(c). `context` is a dict, or a list of (name, value) in any order."""
    items = context.items() if hasattr(context, "items") else (context or [])
    pairs = [(as_utf8(name, 1), as_utf8(value, 0)) for name, value in items]
    if len(pairs) > 16:
        raise Limit("more than 16 pairs")
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name is given twice")
    return u32(len(pairs)) + b"".join(lp(n) + lp(v) for n, v in sorted(pairs))


# ---- 4 dk1 ---------------------------------------------------------------------------------------

def check_key(key):
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return key


def derive(data_key, tenant, version):
    """4.1: (encryption key, commitment)."""
    if not 1 <= version <= VERSION_MAX:
        raise ValueError("a version is 1 to 2147483647")
    okm = hkdf(check_key(data_key), lp(b"dekhand/1") + lp(tenant_id(tenant)) + u32(version), 48)
    return okm[:32], okm[32:]


def field_aad(tenant, version, context):
    return lp(b"dk1") + lp(tenant_id(tenant)) + u32(version) + encode_pairs(context)


def to_text(version, body):
    return b"dk1.%d." % version + base64url_encode(body)


def to_binary(version, body):
    return b"\x01" + u32(version) + body


def encrypt(data_key, tenant, version, plaintext, context=(), binary=False, nonce=None):
    """4.2 and 4.3: the value as bytes. `nonce` is for tests; by default it is random."""
    if len(plaintext) > PLAIN_MAX:
        raise ValueError("a plaintext has at most 1048576 bytes")
    nonce = os.urandom(NONCE) if nonce is None else nonce
    if len(nonce) != NONCE:
        raise ValueError("a nonce has 12 bytes")
    key, commitment = derive(data_key, tenant, version)
    sealed = AESGCM(key).encrypt(nonce, plaintext, field_aad(tenant, version, context))
    body = commitment + nonce + sealed
    return to_binary(version, body) if binary else to_text(version, body)


def parse(value):
    """4.4 step 1: (version, body, is binary)."""
    if value[:1] == b"\x01":
        if len(value) < 5:
            raise FormatError("cut short")
        version, body, binary = struct.unpack(">I", value[1:5])[0], value[5:], True
    else:
        match = re.fullmatch(rb"dk1\.([1-9][0-9]{0,9})\.([A-Za-z0-9_-]*)", value)
        if not match:
            raise FormatError("not a dk1 value")
        version, body, binary = int(match[1]), base64url_decode(match[2]), False
    if not 1 <= version <= VERSION_MAX:
        raise FormatError("version out of range")
    if not OVERHEAD <= len(body) <= OVERHEAD + PLAIN_MAX:
        raise FormatError("impossible length")
    return version, body, binary


def convert(value, binary):
    """4.3: the other form, without a key."""
    version, body, _ = parse(value)
    return to_binary(version, body) if binary else to_text(version, body)


def decrypt(data_key, tenant, value, context=()):
    """4.4: the plaintext. `data_key` is the key of parse(value)[0], the version of the value."""
    version, body, _ = parse(value)
    key, commitment = derive(data_key, tenant, version)
    if not hmac.compare_digest(body[:COMMITMENT], commitment):
        raise WrongKey("sealed under another key")
    aad = field_aad(tenant, version, context)
    nonce, sealed = body[COMMITMENT:COMMITMENT + NONCE], body[COMMITMENT + NONCE:]
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise AuthError("altered, or another context") from None


# ---- 6 Check value, 7 Local wrap -----------------------------------------------------------------

def check_value(data_key):
    return hkdf(check_key(data_key), lp(b"dekhand/check/1"), 32)


def local_key_id(master_key):
    return "local:" + hkdf(check_key(master_key), lp(b"dekhand/local-id/1"), 16).hex()


def data_key_context(tenant, timestamp):
    return {"TenantId": tenant_id(tenant), "Purpose": "DataEncryption",
            "Timestamp": check_timestamp(timestamp)}


def registry_key_context(registry_uuid, timestamp):
    return {"TenantId": registry_uuid.lower(), "Purpose": "Registry",
            "Timestamp": check_timestamp(timestamp)}


def wrap_aad(context):
    return lp(b"dekhand/wrap/1") + encode_pairs(context)


def local_wrap(master_key, number, key, context, nonce=None):
    """encrypted_data_key, as text."""
    nonce = os.urandom(NONCE) if nonce is None else nonce
    sealed = AESGCM(check_key(master_key)).encrypt(nonce, check_key(key), wrap_aad(context))
    return base64_encode(b"\x01" + u32(number) + nonce + sealed)


def local_unwrap(master_keys, kms_key_id, encrypted_data_key, context):
    """The wrapped key. `master_keys` is {number: 32 bytes}."""
    wrap = base64_decode(encrypted_data_key)
    if len(wrap) != 65 or wrap[0] != 1:
        raise FormatError("not a local wrap")
    master_key = master_keys.get(struct.unpack(">I", wrap[1:5])[0])
    if master_key is None or local_key_id(master_key) != kms_key_id:
        raise WrongKey("the master key of this wrap is not here")
    try:
        return AESGCM(master_key).decrypt(wrap[5:17], wrap[17:], wrap_aad(context))
    except InvalidTag:
        raise AuthError("altered, or another context") from None


# ---- 8 Master key file ---------------------------------------------------------------------------

def write_master_key_file(entries):
    """`entries` is [(number, created, 32 bytes)], ascending. The bytes of the file."""
    lines = [b"%d %s %s\n" % (number, check_timestamp(created).encode(),
                              base64_encode(check_key(key)).encode())
             for number, created, key in entries]
    data = MASTER_HEAD + b"".join(lines)
    data += b"sha256 " + hashlib.sha256(data).hexdigest().encode() + b"\n"
    parse_master_key_file(data)
    return data


def parse_master_key_file(data):
    """[(number, created, 32 bytes)] in ascending order."""
    lines = data.split(b"\n")
    if len(lines) < 4 or lines[-1] != b"" or lines[0] + b"\n" != MASTER_HEAD:
        raise FormatError("not a master key file")
    before = data[:len(data) - len(lines[-2]) - 1]
    if lines[-2] != b"sha256 " + hashlib.sha256(before).hexdigest().encode():
        raise FormatError("the checksum is wrong")
    entries = []
    for line in lines[1:-2]:
        match = re.fullmatch(rb"([1-9][0-9]{0,9}) (\S{27}) ([A-Za-z0-9+/]{43}=)", line)
        if not match:
            raise FormatError("not a master key line")
        number, created = int(match[1]), match[2].decode("ascii", "replace")
        try:
            check_timestamp(created)
        except ValueError as exc:
            raise FormatError("not a timestamp") from exc
        if number > 0xFFFFFFFF or (entries and number <= entries[-1][0]):
            raise FormatError("the numbers do not ascend")
        entries.append((number, created, base64_decode(match[3].decode())))
        if not any(entries[-1][2]) or len(entries) > 64:
            raise FormatError("a key of zeros, or more than 64 keys")
    return entries


# ---- 9 Registry key, 10 Row MAC ------------------------------------------------------------------

def registry_subkeys(registry_key):
    """K_row, K_log, K_seal and pin by name."""
    return {name: hkdf(check_key(registry_key), lp(b"dekhand/" + label + b"/1"), 32)
            for name, label in (("k_row", b"row-mac"), ("k_log", b"log-mac"),
                                ("k_seal", b"seal-mac"), ("pin", b"pin"))}


def column_text(value):
    """The text of a column of Python type bool, int, bytes or str."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, bytes):
        return base64_encode(value).encode()
    return value.encode("utf-8", "surrogateescape")


LEFT_OUT = ("row_mac", "messages", "changed_xid")


def mac_message(label, registry_uuid, table, columns, left_out):
    message = lp(label) + lp(registry_uuid.lower().encode()) + lp(table.encode())
    for name, value in sorted((n.encode(), v) for n, v in columns.items() if n not in left_out):
        if value is not None:
            message += lp(name) + lp(column_text(value))
    if len(message) > MESSAGE_MAX:
        raise ValueError("a message has at most 1048576 bytes")
    return message


def mac_text(registry_key, which, message):
    return base64_encode(b"\x01" + hmac_sha256(registry_subkeys(registry_key)[which], message))


def row_message(registry_uuid, table, columns):
    """`columns` is {name: value or None} without generated columns."""
    return mac_message(b"dekhand/row/1", registry_uuid, table, columns, LEFT_OUT)


def row_mac(registry_key, registry_uuid, table, columns):
    return mac_text(registry_key, "k_row", row_message(registry_uuid, table, columns))


# ---- 11 Keys digest ------------------------------------------------------------------------------

def keys_digest(rows):
    """tenants.keys_digest. `rows` is [(version, row_mac as text)] in any order."""
    total = bytes(32)
    for version, mac in sorted(rows):
        total = hashlib.sha256(total + u32(version) + lp(mac.encode())).digest()
    return base64_encode(b"\x01" + total)


# ---- 12 Log rows and their chains ----------------------------------------------------------------

def log_message(registry_uuid, row):
    """`row` is {name: value or None} of a row of key_rotation_log; `success` may be 0 or 1."""
    row = {**row, "success": column_text(row["success"] in (1, "true")).decode()}
    return mac_message(b"dekhand/log/1", registry_uuid, "key_rotation_log", row, ("mac",))


def log_mac(registry_key, registry_uuid, row):
    return mac_text(registry_key, "k_log", log_message(registry_uuid, row))


def log_chain(row):
    """Which chain the row belongs to: ("process", node) or ("tenant", tenant_id)."""
    if row["operation"] == "decrypt" or row["tenant_id"] == "*":
        return "process", row["node"]
    return "tenant", row["tenant_id"]


# ---- 13 Seals ------------------------------------------------------------------------------------

def seal_message(registry_uuid, row):
    return mac_message(b"dekhand/seal/1", registry_uuid, "seals", row, ("mac",))


def seal_mac(registry_key, registry_uuid, row):
    return mac_text(registry_key, "k_seal", seal_message(registry_uuid, row))


def seal_hash(mac):
    """What the next seal has as `prev`."""
    return hashlib.sha256(mac.encode()).hexdigest()


def parse_heads(heads):
    """[(chain, epoch or None, mac or None)] of a seal, the chain as log_chain() names it."""
    lines = heads.split("\n")
    if lines.pop() != "":
        raise FormatError("a line without end")
    if lines and re.fullmatch(r"rekeyed [1-9][0-9]*", lines[-1]):
        lines.pop()
    return [] if hand_over(heads) else [parse_head(line) for line in lines]


def hand_over(heads):
    """(generation, pin) of the next key where the seal is the last under its own; else None."""
    found = re.fullmatch(r"rekey ([1-9][0-9]*) ([0-9a-f]{64})\n", heads)
    return (int(found[1]), found[2]) if found else None


def parse_head(line):
    mac = r"([A-Za-z0-9+/]{44})"
    tenant = re.fullmatch(r"tenant ([A-Za-z0-9._:-]{1,128}) ([1-9][0-9]*) (?:-|" + mac + ")", line)
    if tenant:
        return ("tenant", tenant[1]), int(tenant[2]), tenant[3]
    process = re.fullmatch(r"process (\S+/[0-9a-f]{16}) " + mac, line)
    if process:
        return ("process", process[1]), None, process[2]
    raise FormatError("not a head of a chain")


# ---- command line, for tests ---------------------------------------------------------------------

EXIT_USAGE = 2
EXIT_OF = {FormatError: 3, WrongKey: 4, AuthError: 5}


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description="One dk1 value, standard input to standard output, exact bytes. Ends 0; 2 usage, "
                    "3 FormatError, 4 WrongKey, 5 AuthError, and then writes nothing.")
    parser.add_argument("command", choices=["encrypt", "decrypt"])
    parser.add_argument("--key-base64", help="the data key; default: $DK1_KEY_BASE64")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--version", type=int,
                        help="needed to encrypt; decrypt refuses a value of another version")
    parser.add_argument("--context", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--binary", action="store_true", help="the binary form")
    args = parser.parse_args(argv)
    args.key_base64 = args.key_base64 or os.environ.get("DK1_KEY_BASE64")
    if not args.key_base64:
        parser.error("--key-base64 or DK1_KEY_BASE64 is required")
    if args.command == "encrypt" and args.version is None:
        parser.error("--version is required")
    if any("=" not in pair for pair in args.context):
        parser.error("--context is NAME=VALUE")
    args.pairs = [tuple(os.fsencode(pair).split(b"=", 1)) for pair in args.context]
    return args


def run(args, data):
    key = base64_decode(args.key_base64)
    if args.command == "encrypt":
        return encrypt(key, args.tenant, args.version, data, args.pairs, args.binary)
    version, _, binary = parse(data)
    if binary != args.binary:
        raise FormatError("the value is of the other form")
    if args.version is not None and version != args.version:
        raise WrongKey(f"the value is of version {version}")
    return decrypt(key, args.tenant, data, args.pairs)


def main(argv=None):
    args = parse_arguments(argv)
    try:
        out = run(args, sys.stdin.buffer.read())
    except (Dk1Error, ValueError) as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return EXIT_OF.get(type(exc), EXIT_USAGE)
    sys.stdout.buffer.write(out)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
