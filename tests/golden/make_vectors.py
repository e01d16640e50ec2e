#!/usr/bin/python3
"""Writes tests/vectors/dk1.txt, the vectors of dk1, from tests/format/dk1.py with fixed inputs.

The file is frozen: every version of dekhand must answer each vector as it says. So this script
refuses to overwrite; more vectors get a file of their own. `--into DIR` writes elsewhere, to compare.
"""
import argparse
import base64
import pathlib
import string
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "format"))
import dk1  # noqa: E402  (found by the line above)
from make_golden import UUID_LOWER, fixed  # noqa: E402
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402

HEAD = """\
# Vectors of dk1, one failure each: docs/FORMAT.md section 16. Frozen; made by tests/golden/make_vectors.py.
#
# key <tenant> <version> <data key>: all keys that there are. Several tenants have the same data key.
# <name> <result> <tenant> <context> <value> <plaintext>: what a reader of <value> for <tenant> answers.
#
# result: ok, or the name of the error as docs/FORMAT.md has it. The plaintext of a failure is `-`.
# A word that begins with `=` is bytes in hex; a `*n` at its end repeats the last byte n times.
# Every other word is the bytes as they stand.
# context: `-` for none, or pairs with `,` between them, each <name>:<value> in hex (`*n` as above).

"""

TENANT, VERSION = "acme", 7
FIELD, ROW = ("field", "contacts.phone_number"), ("row", "17")
CONTEXT = [FIELD, ROW]
PLAIN = b"+1234567890"
NONCE = fixed("vector nonce", 12)
ALL16 = [(f"n{15 - i:02}", f"v{i}") for i in range(16)]
LONG_TENANT = "t" * 127 + "Z"
KEYS = {
    **{(TENANT, version): fixed(f"vector key {version}") for version in (1, 2, 7, 12, 2147483647)},
    **{(tenant, 7): fixed("vector key 7") for tenant in ("Acme", "acme2", UUID_LOWER, LONG_TENANT)},
    ("other", 7): fixed("vector key other"),
}


# ---- words ---------------------------------------------------------------------------------------

PLAIN_WORD = set((string.ascii_letters + string.digits + string.punctuation).encode())


def hex_word(data):
    """Hex; a long run of the last byte is told by its length."""
    run = len(data) - len(data.rstrip(data[-1:]))
    if run <= 16:
        return data.hex()
    return f"{data[:len(data) - run + 1].hex()}*{run}"


def word(data):
    data = data.encode() if isinstance(data, str) else data
    if len(data) in range(1, 200) and set(data) <= PLAIN_WORD and data[:1] not in (b"=", b"-", b"#"):
        return data.decode()
    return "=" + hex_word(data)


def raw(x):
    return x if isinstance(x, bytes) else x.encode()


def context_word(context):
    return ",".join(f"{hex_word(raw(n))}:{hex_word(raw(v))}" for n, v in context) or "-"


# ---- values --------------------------------------------------------------------------------------

def make(tenant=TENANT, version=VERSION, plain=PLAIN, context=CONTEXT, binary=True, nonce=NONCE):
    key = KEYS[dk1.tenant_id(tenant).decode(), version]
    return dk1.encrypt(key, tenant, version, plain, context, binary, nonce)


B, T = make(), make(binary=False)
BODY, LETTERS = B[5:], T.split(b".")[2]


def as_text(body, version=b"7"):
    return b"dk1." + version + b"." + dk1.base64url_encode(body)


def flip(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:]


def put(data, at, new):
    return data[:at] + new + data[at + len(new):]


def sealed_by_hand(key=None, commitment=None, aad=None, version=VERSION, nonce=NONCE):
    """A value with one step of sealing done otherwise."""
    good_key, good_commitment = dk1.derive(KEYS[TENANT, VERSION], TENANT, VERSION)
    aad = dk1.field_aad(TENANT, VERSION, CONTEXT) if aad is None else aad
    sealed = AESGCM(key or good_key).encrypt(nonce, PLAIN, aad)
    return dk1.to_binary(version, (commitment or good_commitment) + nonce + sealed)


# ---- vectors: each group yields (name, result, {tenant, context, value, plain}) -------------------

def valid():
    def both(name, **args):
        for form, binary in (("text", False), ("binary", True)):
            value = make(**args, binary=binary)
            given = {"tenant": args.get("tenant", TENANT), "context": args.get("context", CONTEXT)}
            yield f"{name}_{form}", "ok", {**given, "value": value, "plain": args.get("plain", PLAIN)}
    yield from both("plain")
    for n in (0, 1, 2, 3, 15, 16, 17, 255):
        yield from both(f"length_{n}", plain=bytes(range(1, n + 1)))
    for version in (1, 2, 12, 2147483647):
        yield from both(f"version_{version}", version=version)
    for name, context in (("none", []), ("one_pair", [ROW]), ("empty_value", [("a", "")]),
                          ("16_pairs", ALL16), ("longest_pair", [("n" * 256, "v" * 256)]),
                          ("utf8", [("straße", "Ωμέγα 🔑")]), ("name_begins_another", [("ab", "2"), ("a", "1")])):
        yield from both(f"context_{name}", context=context)
    yield from both("tenant_uuid_upper", tenant=UUID_LOWER.upper())
    yield from both("tenant_128_bytes", tenant=LONG_TENANT)
    for form, value in (("text", T), ("binary", B)):
        yield f"context_reordered_{form}", "ok", {"context": CONTEXT[::-1], "value": value, "plain": PLAIN}
    yield "tenant_uuid_other_case", "ok", {"tenant": UUID_LOWER, "value": make(tenant=UUID_LOWER.upper()),
                                           "plain": PLAIN}


def lengths():
    for n in range(6):
        yield f"binary_head_{n}_bytes", "E_FORMAT", {"value": B[:n]}
    for n in (1, 15, 16, 17, 27, 28, 29, 39, 43):
        yield f"binary_body_{n}_bytes", "E_FORMAT", {"value": B[:5 + n]}
        yield f"text_body_{n}_bytes", "E_FORMAT", {"value": as_text(BODY[:n])}
    for n in (44, 53, 54):
        yield f"binary_body_{n}_of_55_bytes", "E_AUTH", {"value": B[:5 + n]}
        yield f"text_body_{n}_of_55_bytes", "E_AUTH", {"value": as_text(BODY[:n])}
    for n in range(1, 7):
        yield f"text_head_{n}_bytes", "E_FORMAT", {"value": T[:n]}
    for n in (1, 5, 57, 61, 69, 73):
        yield f"text_{n}_letters", "E_FORMAT", {"value": T[:6] + LETTERS[:n]}
    yield "text_first_byte_is_gone", "E_FORMAT", {"value": T[1:]}
    yield "binary_first_byte_is_gone", "E_FORMAT", {"value": B[1:]}
    yield "binary_one_byte_more", "E_AUTH", {"value": B + b"\0"}
    yield "binary_line_end", "E_AUTH", {"value": B + b"\n"}
    yield "text_one_byte_more", "E_AUTH", {"value": as_text(BODY + b"\0")}
    yield "binary_twice", "E_AUTH", {"value": B + B}
    yield "text_twice", "E_FORMAT", {"value": T + T}
    yield "binary_1_byte_above_1_mib", "E_FORMAT", {"value": B[:5] + bytes(44 + 1048577)}
    yield "text_1_byte_above_1_mib", "E_FORMAT", {"value": T[:6] + b"A" * (4 * (44 + 1048577) // 3)}
    yield "binary_zeros", "E_FORMAT", {"value": bytes(60)}
    yield "binary_body_of_zeros", "E_WRONG_KEY", {"value": B[:5] + bytes(55)}


def head_bytes():
    for bit in range(8):
        yield f"binary_mark_bit_{bit}", "E_FORMAT", {"value": flip(B, 0, bit)}
    for mark in (b"\0", b"\2", b"\xff", b"1"):
        yield f"binary_mark_{mark.hex()}", "E_FORMAT", {"value": mark + B[1:]}
    for at, bit, result in ((1, 7, "E_FORMAT"), (1, 0, "E_UNKNOWN_VERSION"), (2, 0, "E_UNKNOWN_VERSION"),
                            (3, 0, "E_UNKNOWN_VERSION"), (4, 3, "E_UNKNOWN_VERSION")):
        yield f"binary_version_byte_{at}_bit_{bit}", result, {"value": flip(B, at, bit)}
    for name, version, result in (
            ("0", 0, "E_FORMAT"), ("2147483648", 2147483648, "E_FORMAT"),
            ("4294967295", 4294967295, "E_FORMAT"), ("3_is_not_there", 3, "E_UNKNOWN_VERSION"),
            ("2147483646_is_not_there", 2147483646, "E_UNKNOWN_VERSION"),
            ("2_is_another", 2, "E_WRONG_KEY"), ("2147483647_is_another", 2147483647, "E_WRONG_KEY")):
        yield f"binary_version_{name}", result, {"value": struct.pack(">BI", 1, version) + BODY}
    yield "binary_version_little_endian", "E_UNKNOWN_VERSION", {"value": struct.pack("<BI", 1, 7) + BODY}
    for at in range(4):
        yield f"text_head_byte_{at}_case", "E_FORMAT", {"value": flip(T, at, 5)}
        yield f"text_head_byte_{at}_is_gone", "E_FORMAT", {"value": T[:at] + T[at + 1:]}
    for head in ("dk0.", "dk2.", "dk3.", "dk9.", "DK1.", "Dk1.", "dK1.", "dk01.", "dk1,", "dk1:", "dk1-", "dk1..",
                 "dk11.", "dk.", "kd1.", "ek1.", "dk1. ", " dk1.", "\ufeffdk1.", "\0dk1.", "dk1.\0", "'dk1.", "\ndk1.",
                 "dkl.", "dk\u00b9.", "v1.", "enc:"):
        name = "".join(c if c.isalnum() and c.isascii() else f"_{ord(c):02x}_" for c in head)
        yield f"prefix_{name}", "E_FORMAT", {"value": head.encode() + T[4:]}


def version_texts():
    bad = ["07", "007", "+7", "-7", " 7", "7 ", "\t7", "7\n", "", "0", "00", "-0", "2147483648", "4294967295",
           "4294967296", "4294967303", "18446744073709551615", "18446744073709551616", "18446744073709551623",
           "9" * 100, "0" * 100 + "7", "7.0", "7.", ".7", "7e0", "0x7", "0b111", "7a", "a7", "1_0", "7,", "VII", "%37", "seven",
           "\uff17", "\u0667", "7\0", "\0007", "7/", "7:", "7;"]
    for i, text in enumerate(bad):
        name = text if text.isalnum() and text.isascii() and len(text) < 24 else f"bad_{i}"
        yield f"text_version_{name or 'empty'}", "E_FORMAT", {"value": b"dk1." + text.encode() + T[5:]}
    for text, result in (("3", "E_UNKNOWN_VERSION"), ("8", "E_UNKNOWN_VERSION"), ("70", "E_UNKNOWN_VERSION"),
                         ("2147483646", "E_UNKNOWN_VERSION"), ("1", "E_WRONG_KEY"), ("2", "E_WRONG_KEY"),
                         ("12", "E_WRONG_KEY"), ("2147483647", "E_WRONG_KEY")):
        yield f"text_version_{text}_for_7", result, {"value": b"dk1." + text.encode() + T[5:]}


def letters():
    """The text's letters: 74 of them, four blocks of 16, two groups of 4, a rest of 2."""
    strange = {"plus": b"+", "slash": b"/", "pad": b"=", "space": b" ", "tab": b"\t", "line_end": b"\n", "cr": b"\r",
               "nul": b"\0", "dot": b".", "comma": b",", "at": b"@", "bracket": b"[", "backtick": b"`", "brace": b"{",
               "tilde": b"~", "colon": b":", "quote": b'"', "percent": b"%", "byte_7f": b"\x7f", "byte_80": b"\x80",
               "byte_ad": b"\xad", "byte_df": b"\xdf", "byte_ff": b"\xff", "e_acute": "é".encode()}
    for name, c in strange.items():
        yield f"letter_{name}_instead", "E_FORMAT", {"value": put(T, 6 + 20, c)}
    for name in ("space", "line_end", "nul", "pad", "dot", "plus"):
        for at in (0, 15, 16, 63, 64, 71, 72, 73):
            yield f"letter_{name}_at_{at}", "E_FORMAT", {"value": put(T, 6 + at, strange[name])}
    for name in ("space", "tab", "line_end", "cr", "nul", "pad", "dot", "comma"):
        yield f"letter_{name}_after", "E_FORMAT", {"value": T + strange[name]}
        yield f"letter_{name}_before", "E_FORMAT", {"value": T[:6] + strange[name] + LETTERS}
    yield "pad_two_after", "E_FORMAT", {"value": T + b"=="}
    yield "crlf_after", "E_FORMAT", {"value": T + b"\r\n"}
    yield "lines_of_64", "E_FORMAT", {"value": T[:6] + LETTERS[:64] + b"\n" + LETTERS[64:]}
    yield "spaces_of_four_in_the_middle", "E_FORMAT", {"value": T[:6] + LETTERS[:16] + b"    " + LETTERS[16:]}
    yield "standard_alphabet", "E_FORMAT", {"value": T[:6] + base64.b64encode(b"\xfb\xff" + BODY[2:])}
    yield "unpadded_standard_alphabet", "E_FORMAT", {
        "value": T[:6] + base64.b64encode(b"\xfb\xff" + BODY[2:]).rstrip(b"=")}
    three = make(plain=b"123456789012", binary=False)
    for what, value, bits in (("two_letters", T, 4), ("three_letters", three, 2)):
        for unused in range(1, 1 << bits):
            alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
            last = alphabet[alphabet.index(chr(value[-1])) | unused]
            yield f"unused_bits_{unused}_of_{what}", "E_FORMAT", {"value": value[:-1] + last.encode()}


def bits():
    for part, start, n, result in (("commitment", 0, 16, "E_WRONG_KEY"), ("nonce", 16, 12, "E_AUTH"),
                                   ("ciphertext", 28, 11, "E_AUTH"), ("tag", 39, 16, "E_AUTH")):
        for i in range(n):
            yield f"binary_{part}_byte_{i}", result, {"value": flip(B, 5 + start + i, i % 8)}
            yield f"text_{part}_byte_{i}", result, {"value": as_text(flip(BODY, start + i, 7 - i % 8))}
        yield f"{part}_of_zeros", result, {"value": put(B, 5 + start, bytes(n))}
        yield f"{part}_turned_round", result, {"value": put(B, 5 + start, BODY[start:start + n][::-1])}
    other = make(plain=b"+0987654321", nonce=fixed("vector nonce 2", 12))[5:]
    for part, start, n in (("nonce", 16, 12), ("ciphertext", 28, 11), ("tag", 39, 16)):
        yield f"{part}_of_another_value", "E_AUTH", {"value": put(B, 5 + start, other[start:start + n])}
    other = make(version=12)[5:]
    yield "commitment_of_another_version", "E_WRONG_KEY", {"value": put(B, 5, other[:16])}
    yield "all_but_the_commitment_of_another_version", "E_AUTH", {"value": put(B, 21, other[16:])}
    yield "nonce_before_commitment", "E_WRONG_KEY", {"value": B[:5] + BODY[16:28] + BODY[:16] + BODY[28:]}
    yield "tag_before_ciphertext", "E_AUTH", {"value": B[:33] + BODY[39:] + BODY[28:39]}
    yield "tag_of_12_bytes", "E_AUTH", {"value": B[:-4]}
    yield "empty_value_tag_bit", "E_AUTH", {"value": flip(make(plain=b""), -1 + 49)}
    yield "empty_value_commitment_bit", "E_WRONG_KEY", {"value": flip(make(plain=b""), 5)}


def sealings():
    """Made by a writer that does one step otherwise."""
    key, version = KEYS[TENANT, VERSION], dk1.u32(VERSION)
    pairs = dk1.encode_pairs(CONTEXT)
    lp = dk1.lp
    aads = {"empty": b"", "dk2": lp(b"dk2") + lp(b"acme") + version + pairs,
            "without_name": lp(b"acme") + version + pairs,
            "without_lengths": b"dk1" + b"acme" + version + pairs,
            "without_tenant": lp(b"dk1") + version + pairs,
            "without_version": lp(b"dk1") + lp(b"acme") + pairs,
            "without_pair_count": lp(b"dk1") + lp(b"acme") + version + pairs[4:],
            "of_another_tenant": dk1.field_aad("acme2", VERSION, CONTEXT),
            "of_another_version": dk1.field_aad(TENANT, 8, CONTEXT),
            "version_little_endian": lp(b"dk1") + lp(b"acme") + version[::-1] + pairs,
            "pairs_unsorted": lp(b"dk1") + lp(b"acme") + version + dk1.u32(2)
                              + b"".join(lp(n.encode()) + lp(v.encode()) for n, v in CONTEXT[::-1]),
            "twice": 2 * dk1.field_aad(TENANT, VERSION, CONTEXT)}
    for name, aad in aads.items():
        yield f"sealed_with_aad_{name}", "E_AUTH", {"value": sealed_by_hand(aad=aad)}
    infos = {"empty": b"", "of_another_tenant": lp(b"dekhand/1") + lp(b"acme2") + version,
             "of_another_version": lp(b"dekhand/1") + lp(b"acme") + dk1.u32(8),
             "without_lengths": b"dekhand/1acme" + version, "dekhand_2": lp(b"dekhand/2") + lp(b"acme") + version}
    for name, info in infos.items():
        okm = dk1.hkdf(key, info, 48)
        yield f"derived_with_info_{name}", "E_WRONG_KEY", {"value": sealed_by_hand(okm[:32], okm[32:])}
        yield f"derived_with_info_{name}_under_the_right_commitment", "E_AUTH", {"value": sealed_by_hand(okm[:32])}
    okm = dk1.hkdf(key, lp(b"dekhand/1") + lp(b"acme") + version, 48)
    yield "commitment_from_the_front", "E_WRONG_KEY", {"value": sealed_by_hand(okm[16:], okm[:16])}
    yield "sealed_under_the_data_key", "E_AUTH", {"value": sealed_by_hand(key)}
    yield "sealed_under_zeros", "E_AUTH", {"value": sealed_by_hand(bytes(32))}
    yield "check_value_as_commitment", "E_WRONG_KEY", {"value": sealed_by_hand(commitment=dk1.check_value(key)[:16])}


def contexts():
    other = {
        "none": [], "first_missing": [ROW], "second_missing": [FIELD], "one_more": [*CONTEXT, ("z", "1")],
        "one_more_empty": [*CONTEXT, ("z", "")], "one_more_in_front": [("a", "1"), *CONTEXT],
        "value_other": [FIELD, ("row", "18")], "value_bit": [FIELD, ("row", "57")], "value_empty": [FIELD, ("row", "")],
        "value_longer": [FIELD, ("row", "170")], "value_shorter": [FIELD, ("row", "1")],
        "value_space_after": [FIELD, ("row", "17 ")], "value_space_before": [FIELD, ("row", " 17")],
        "value_line_end": [FIELD, ("row", "17\n")], "value_leading_zero": [FIELD, ("row", "017")],
        "value_case": [("field", "contacts.Phone_number"), ROW], "name_case": [("Field", FIELD[1]), ROW],
        "name_other": [("fjeld", FIELD[1]), ROW], "name_longer": [("fields", FIELD[1]), ROW],
        "name_space_after": [("field ", FIELD[1]), ROW], "moved_to_the_value": [("fiel", "d" + FIELD[1]), ROW],
        "moved_to_the_name": [("fieldc", FIELD[1][1:]), ROW], "moved_to_the_next_pair": [("field", FIELD[1][:-1]), ("rrow", "17")],
        "values_exchanged": [("field", "17"), ("row", FIELD[1])],
        "name_and_value_exchanged": [FIELD, ("17", "row")], "pairs_joined": [("field", FIELD[1] + "row17")],
        "pair_as_text": [("field", FIELD[1] + ",row=17")], "pair_split": [*CONTEXT[:1], ("r", "ow17")],
        "first_twice_under_another_name": [FIELD, ("field2", FIELD[1]), ROW],
    }
    for name, context in other.items():
        yield f"context_{name}", "E_AUTH", {"context": context}
    composed, apart = [("name", "\u00e9")], [("name", "e\u0301")]
    yield "context_given_where_none_was", "E_AUTH", {"context": CONTEXT, "value": make(context=[])}
    yield "context_empty_value_where_none_was", "E_AUTH", {"context": [("a", "")], "value": make(context=[])}
    yield "context_none_where_an_empty_value_was", "E_AUTH", {"context": [], "value": make(context=[("a", "")])}
    yield "context_other_normal_form", "E_AUTH", {"context": apart, "value": make(context=composed)}
    yield "context_15_of_16", "E_AUTH", {"context": ALL16[:15], "value": make(context=ALL16)}
    bad = {
        "17_pairs": ("E_LIMIT", [(f"n{i}", "") for i in range(17)]), "name_empty": ("E_LIMIT", [("", "x")]),
        "name_257": ("E_LIMIT", [("n" * 257, "")]), "value_257": ("E_LIMIT", [("n", "v" * 257)]),
        "name_twice": ("E_USAGE", [ROW, ("row", "18")]), "pair_twice": ("E_USAGE", [ROW, FIELD, ROW]),
        "name_nul": ("E_USAGE", [("ro\0w", "17")]), "value_nul": ("E_USAGE", [("row", "17\0")]),
        "name_latin_1": ("E_USAGE", [(b"r\xf6w", "17")]), "value_latin_1": ("E_USAGE", [("row", b"\xe9")]),
        "value_cut_utf8": ("E_USAGE", [("row", b"\xc3")]), "value_overlong": ("E_USAGE", [("row", b"\xc0\xaf")]),
        "value_surrogate": ("E_USAGE", [("row", b"\xed\xa0\x80")]),
        "value_above_10ffff": ("E_USAGE", [("row", b"\xf4\x90\x80\x80")]), "value_ff": ("E_USAGE", [("row", b"\xff")]),
        "value_lone_continuation": ("E_USAGE", [("row", b"\x80")]),
    }
    for name, (result, context) in bad.items():
        yield f"context_{name}", result, {"context": context}


def tenants():
    for name, tenant in (("with_another_key", "other"), ("with_the_same_key", "acme2"), ("other_case", "Acme"),
                         ("uuid_with_the_same_key", UUID_LOWER)):
        for form, value in (("text", T), ("binary", B)):
            yield f"tenant_{name}_{form}", "E_WRONG_KEY", {"tenant": tenant, "value": value}
    unknown = {"unknown": "nobody", "shorter": "acm", "longer": "acme3", "all_caps": "ACME",
               "dot_after": "acme.", "uuid_without_dashes": UUID_LOWER.replace("-", ""), "uuid_35": UUID_LOWER[:-1],
               "uuid_upper_37": UUID_LOWER.upper() + "0"}
    for name, tenant in unknown.items():
        yield f"tenant_{name}", "E_UNKNOWN_VERSION", {"tenant": tenant}
    for name, tenant in (("empty", ""), ("129_bytes", "t" * 129), ("space_before", " acme"), ("space_after", "acme "),
                         ("slash", "ac/me"), ("star", "*"), ("line_end", "acme\n"), ("umlaut", "\u00e4cme"),
                         ("nul", "acme\0"), ("quote", "ac'me"), ("percent", "ac%6de"), ("braces", "{" + UUID_LOWER + "}"),
                         ("plus", "ac+me"), ("at", "ac@me"), ("bytes_ff", b"\xff")):
        yield f"tenant_{name}", "E_USAGE", {"tenant": tenant}


def mixtures():
    mixed = {
        "text_head_binary_body": T[:6] + BODY, "binary_head_text_letters_short": B[:5] + LETTERS[:40],
        "text_body_with_binary_head": as_text(B[:2]), "hex": B.hex().encode(), "hex_0x": b"0x" + B.hex().encode(),
        "bytea_text": b"\\x" + B.hex().encode(), "standard_base64": base64.b64encode(B), "base64url": dk1.base64url_encode(B),
        "base64_of_text": base64.b64encode(T), "quoted": b'"' + T + b'"', "json": b'{"value":"' + T + b'"}',
        "byte_order_mark": b"\xef\xbb\xbf" + T, "utf16": T.decode().encode("utf-16-le"), "upper_case": T.upper(),
        "line_of_csv": b"a," + T, "mark_before_text": b"\x01" + T, "text_in_text": T[:6] + T, "plaintext": PLAIN,
        "ciphertext_of_the_guide": b'{"v":1,"ct":"aGVsbG8="}', "null": b"NULL", "backslash_n": b"\\N",
    }
    for name, value in mixed.items():
        result = "E_UNKNOWN_VERSION" if name == "mark_before_text" else "E_FORMAT"
        yield f"form_{name}", result, {"value": value}
    yield "form_binary_head_text_letters", "E_WRONG_KEY", {"value": B[:5] + LETTERS}
    yield "form_text_of_whole_binary", "E_WRONG_KEY", {"value": as_text(B)}
    yield "form_binary_of_whole_binary", "E_WRONG_KEY", {"value": B[:5] + B}
    yield "form_binary_of_whole_text", "E_WRONG_KEY", {"value": B[:5] + T}


def line(name, result, given):
    given = {"tenant": TENANT, "context": CONTEXT, "value": B, **given}
    plain = word(given["plain"]) if result == "ok" else "-"
    return (f"{name} {result} {word(given['tenant'])} {context_word(given['context'])} "
            f"{word(given['value'])} {plain}\n")


def is_new(text, seen):
    given = tuple(text.split()[2:5])
    known = given in seen
    seen.add(given)
    return not known


def vector_file():
    seen = set()  # the same input under two names stands once
    out = [HEAD, *(f"key {word(tenant)} {version} ={key.hex()}\n" for (tenant, version), key in KEYS.items())]
    for group in (valid, lengths, head_bytes, version_texts, letters, bits, sealings, contexts, tenants, mixtures):
        lines = [line(*vector) for vector in group()]
        out += ["\n", *(text for text in lines if is_new(text, seen))]
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=pathlib.Path, default=HERE.parent / "vectors")
    path = parser.parse_args().into / "dk1.txt"
    if path.exists():
        sys.exit(f"make_vectors.py: vectors are never overwritten: {path}")
    path.write_text(vector_file(), "ascii")


if __name__ == "__main__":
    main()
