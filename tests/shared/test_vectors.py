"""tests/vectors/*.txt hold exactly the cases of the published files."""

import json
import os
from hashlib import sha256
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


def sigv4_case(folder):
    """The lines of one case: what is asked, the hash of its canonical form, and the signature."""
    head, _, body = (folder / "request.txt").read_text().partition("\n\n")
    first, *headers = head.splitlines()
    context = json.loads((folder / "context.json").read_text())
    canonical = (folder / "header-canonical-request.txt").read_text()
    token = context["credentials"].get("token")
    shown = [f"header {header}" for header in headers if not header.startswith("Host:")]
    if context["sign_body"]:
        shown.append("header X-Amz-Content-Sha256:" + canonical.splitlines()[-1])
    if token and not context.get("omit_session_token"):
        shown.append(f"token {token}")
    to_sign = (folder / "header-string-to-sign.txt").read_text().splitlines()
    assert to_sign[:3] == ["AWS4-HMAC-SHA256", "20150830T123600Z",
                           "20150830/us-east-1/service/aws4_request"]
    assert to_sign[3] == sha256(canonical.encode()).hexdigest()
    return [f"case {folder.name}", f"method {first.split()[0]}", *shown,
            *([f"body {body}"] if body else []), f"canonical {to_sign[3]}",
            "signature " + (folder / "header-signature.txt").read_text()]


def test_sigv4():
    folders = sorted(path for path in (VECTORS / "sigv4").iterdir() if path.is_dir())
    check("sigv4", [text for folder in folders for text in sigv4_case(folder)])
