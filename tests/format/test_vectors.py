"""The second implementation answers each vector of tests/vectors/dk1.txt as it says."""
import pathlib
import subprocess
import sys

import pytest

import dk1

TESTS = pathlib.Path(__file__).resolve().parent.parent
FILE = TESTS / "vectors" / "dk1.txt"
NAMES = {dk1.FormatError: "E_FORMAT", dk1.WrongKey: "E_WRONG_KEY", dk1.AuthError: "E_AUTH",
         dk1.Limit: "E_LIMIT", KeyError: "E_UNKNOWN_VERSION"}


def unhex(text):
    digits, star, count = text.partition("*")
    data = bytes.fromhex(digits)
    return data + data[-1:] * (int(count) - 1) if star else data


def word(text):
    return unhex(text[1:]) if text.startswith("=") else text.encode()


def context_of(text):
    return [] if text == "-" else [tuple(map(unhex, pair.split(":"))) for pair in text.split(",")]


def load():
    """({(tenant, version): data key}, [[name, result, tenant, context, value, plaintext]])."""
    lines = [line.split() for line in FILE.read_text("ascii").split("\n")
             if line and not line.startswith("#")]
    keys = {(word(words[1]), int(words[2])): word(words[3]) for words in lines if words[0] == "key"}
    return keys, [words for words in lines if words[0] != "key"]


KEYS, VECTORS = load()


def read(tenant, context, value):
    """docs/FORMAT.md 4.4: (result, plaintext)."""
    try:
        stored = dk1.tenant_id(tenant.decode("utf-8"))
        dk1.encode_pairs(context)
        key = KEYS[stored, dk1.parse(value)[0]]
        return "ok", dk1.decrypt(key, tenant.decode("utf-8"), value, context)
    except (dk1.Dk1Error, ValueError, KeyError) as exc:
        return NAMES.get(type(exc), "E_USAGE"), None


def test_K14_F57_F58_F59_F60_F61_second_implementation_agrees_on_each_vector():
    for name, result, tenant, context, value, plain in VECTORS:
        want = (result, word(plain) if result == "ok" else None)
        assert read(word(tenant), context_of(context), word(value)) == want, name


def test_K14_vectors_are_many_and_each_is_another():
    failures = [words for words in VECTORS if words[1] != "ok"]
    assert len(failures) >= 150 and len(VECTORS) - len(failures) >= 20
    assert len({words[0] for words in VECTORS}) == len(VECTORS)
    assert len({tuple(words[2:5]) for words in VECTORS}) == len(VECTORS)
    assert {words[1] for words in failures} == {*NAMES.values(), "E_USAGE"}


def test_K14_generator_makes_the_vectors_again(tmp_path):
    script = [sys.executable, str(TESTS / "golden" / "make_vectors.py"), "--into", str(tmp_path)]
    subprocess.run(script, check=True)
    assert (tmp_path / "dk1.txt").read_bytes() == FILE.read_bytes()
    again = subprocess.run(script, capture_output=True)
    assert again.returncode == 1 and b"never overwritten" in again.stderr


@pytest.mark.parametrize("part", range(3))
def test_K14_vector_that_expects_another_result_would_be_seen(part):
    tenant, context, value = map(str, VECTORS[0][2:5])
    other = {0: (b"nobody", context_of(context), word(value)), 1: (word(tenant), [], word(value)),
             2: (word(tenant), context_of(context), word(value)[:-1])}
    assert read(*other[part])[0] != VECTORS[0][1]
