"""tests/vectors/*.txt hold exactly the cases of the published files."""

import json
import os
from pathlib import Path

VECTORS = Path(os.environ["DEKHAND_DATA"]) / "vectors"
OURS = Path(__file__).resolve().parents[1] / "vectors"


def cases(name):
    """(group, case) of a published file."""
    groups = json.loads((VECTORS / f"{name}_test.json").read_text())["testGroups"]
    return [(group, case) for group in groups for case in group["tests"]]


def line(*words):
    """The words as they stand in our files: `-` for no bytes."""
    return " ".join(str(word) or "-" for word in words)


def check(name, expected):
    text = (OURS / f"{name}.txt").read_text()
    assert [words for words in text.splitlines() if not words.startswith("#")] == expected


def aes_gcm_line(group, case):
    sizes = (group["keySize"], group["ivSize"], group["tagSize"])
    if sizes != (256, 96, 128):
        return line(case["tcId"], "size", *sizes)
    return line(case["tcId"], case["result"],
                *(case[name] for name in ("key", "iv", "aad", "msg", "ct", "tag")))


def test_aes_gcm():
    check("aes_gcm", [aes_gcm_line(group, case) for group, case in cases("aes_gcm")])


def test_hkdf_sha256():
    check("hkdf_sha256", [
        line(case["tcId"], case["result"], case["size"], case["ikm"], case["salt"], case["info"],
             case["okm"]) for _, case in cases("hkdf_sha256")])


def test_hmac_sha256():
    check("hmac_sha256", [
        line(case["tcId"], case["result"], case["key"], case["msg"], case["tag"])
        for _, case in cases("hmac_sha256")])
