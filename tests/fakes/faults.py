"""What a test asks of an answer in place of the truth: lines that break, bytes that lie.

Some stand in for the answer and never do what was asked (BEFORE, INSTEAD), some take the true
answer and spoil it on its way (SPOIL) or in the sending of it (SENT). Those that the services know
themselves (plaintexts.py, `wrong_key_id`) are listed in INSIDE.
"""

import json
import time
from email.utils import formatdate

from fakes.plaintexts import WRONG
from fakes.world import Answer, as_json

INSIDE = (*WRONG, "wrong_key_id")
KEY_MEMBERS = ("Plaintext", "value", "access_token")


def perform(handler, call, scripted):
    """Answers a call as the test wrote it down; the status that was sent, 0 for none."""
    name = scripted.get("fault")
    if name in BEFORE and not BEFORE[name](handler, scripted):
        return 0
    if name in INSTEAD:
        answer = INSTEAD[name](handler, call, scripted)
    elif name is None and not scripted.get("real", not scripted):
        answer = written(scripted)
    else:
        call.fault = scripted
        answer = handler.true_answer(call)
    if name in SPOIL:
        answer = SPOIL[name](answer)
    SENT.get(name, lambda to, what, _: to.send(what))(handler, answer, scripted)
    return answer.status


def check(answers):
    """ValueError: an answer of a script is none."""
    known = {*BEFORE, *INSTEAD, *SPOIL, *SENT, *INSIDE}
    for answer in answers:
        if not isinstance(answer, dict):
            raise ValueError(f"answers: {answer!r} is no object")
        if answer.get("fault", "reset") not in known:
            raise ValueError(f"fault: {answer['fault']!r} is none of {', '.join(sorted(known))}")


def written(scripted):
    """{status, headers, body | json}"""
    headers = scripted.get("headers", {})
    headers = [*(headers.items() if isinstance(headers, dict) else map(tuple, headers))]
    if "json" in scripted:
        answer = as_json(scripted["json"], scripted.get("status", 200))
        if any(name.lower() == "content-type" for name, _ in headers):
            answer.headers.clear()
        answer.headers += headers
        return answer
    return Answer(scripted.get("status", 200), scripted.get("body", "").encode(), headers)


# ---- before the answer: True goes on to the true one --------------------------------------------

def _reset(handler, _scripted):
    handler.cut(abruptly=True)
    return False


def _close(handler, _scripted):
    handler.cut()
    return False


def _hang(handler, _scripted):
    """The connection stays; after `release` it is answered after all, as things are by then."""
    handler.world.released.wait()
    return True


def _slow(_handler, scripted):
    time.sleep(scripted.get("seconds", 1))
    return True


BEFORE = {"reset": _reset, "close": _close, "hang": _hang, "slow": _slow}


# ---- instead of it ------------------------------------------------------------------------------

def _oversize(_handler, _call, scripted):
    size = scripted.get("bytes", 1 << 20)
    return as_json({"Plaintext": "A" * (size - len('{"Plaintext": ""}'))})


def _redirect(_handler, _call, scripted):
    return Answer(scripted.get("status", 307), b"", [("Location", scripted["to"])])


def _bad_json(_handler, _call, _scripted):
    return Answer(200, b'{"Plaintext": "QUFB', [("Content-Type", "application/json")])


def _deep_json(_handler, _call, scripted):
    depth = scripted.get("depth", 20000)
    return Answer(200, b'{"Plaintext":' + b"[" * depth + b"]" * depth + b"}",
                  [("Content-Type", "application/json")])


def _empty(_handler, _call, scripted):
    return Answer(scripted.get("status", 200))


def _html500(_handler, _call, scripted):
    return Answer(scripted.get("status", 500), b"<html><body><h1>500 Internal Server Error</h1>"
                  b"</body></html>\n", [("Content-Type", "text/html")])


def _throttle(handler, call, _scripted):
    return handler.service(call).throttled(call)


def _retry_after(handler, call, scripted):
    """`seconds` from now, or as a `date` that far from now by the server's clock."""
    answer = _throttle(handler, call, scripted)
    if "status" in scripted:
        answer.status = scripted["status"]
    value = str(scripted.get("seconds", 1))
    if "date" in scripted:
        value = formatdate(handler.world.now() + scripted["date"], usegmt=True)
    answer.headers.append(("Retry-After", value))
    return answer


INSTEAD = {"oversize": _oversize, "redirect": _redirect, "bad_json": _bad_json,
           "deep_json": _deep_json, "empty": _empty, "html500": _html500, "throttle": _throttle,
           "retry_after": _retry_after}


# ---- the true answer, spoiled -------------------------------------------------------------------

def _members(answer):
    found = json.loads(answer.body)
    if not isinstance(found, dict):
        raise ValueError("the true answer is no JSON object")
    return found


def _with_body(answer, body):
    return Answer(answer.status, body, answer.headers)


def _duplicate_keys(answer):
    """Each member twice: the wrong one first, then the true one."""
    pairs = []
    for name, value in _members(answer).items():
        wrong = value[::-1] if isinstance(value, str) else None
        pairs += [f"{json.dumps(name)}: {json.dumps(shown)}" for shown in (wrong, value)]
    return _with_body(answer, ("{" + ", ".join(pairs) + "}").encode())


def _each_string(value, change):
    if isinstance(value, dict):
        return {name: _each_string(inner, change) for name, inner in value.items()}
    return change(value) if isinstance(value, str) else value


def _nul_in_string(answer):
    found = _each_string(_members(answer), lambda text: text + "\0")
    return _with_body(answer, json.dumps(found).encode())


def _not_utf8(answer):
    found = _each_string(_members(answer), lambda text: text + "\ue000")
    text = json.dumps(found, ensure_ascii=False).encode()
    return _with_body(answer, text.replace("\ue000".encode(), b"\xff\xfe"))


def _no_plaintext(answer):
    found = {name: value for name, value in _members(answer).items() if name not in KEY_MEMBERS}
    return _with_body(answer, json.dumps(found).encode())


def _wrong_case(answer):
    found = {name[0].swapcase() + name[1:]: value for name, value in _members(answer).items()}
    return _with_body(answer, json.dumps(found).encode())


SPOIL = {"duplicate_keys": _duplicate_keys, "nul_in_string": _nul_in_string,
         "not_utf8": _not_utf8, "no_plaintext": _no_plaintext, "wrong_case": _wrong_case}


# ---- the true answer, sent otherwise ------------------------------------------------------------

def _drip(handler, answer, scripted):
    pause = scripted.get("seconds", 0.02)
    for byte in handler.head(answer) + answer.body:
        handler.wfile.write(bytes([byte]))
        time.sleep(pause)


def _truncate(handler, answer, _scripted):
    handler.wfile.write(handler.head(answer, length=len(answer.body) + 64) + answer.body)
    handler.cut()


def _chunked(handler, answer, _scripted):
    parts = [handler.head(answer, chunked=True)]
    for at in range(0, len(answer.body), 7):
        part = answer.body[at:at + 7]
        parts.append(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"".join(parts) + b"0\r\n\r\n")


def _bad_chunk(handler, answer, _scripted):
    """A length that no 64 bits hold."""
    handler.wfile.write(handler.head(answer, chunked=True) + b"FFFFFFFFFFFFFFFFF\r\n" + answer.body)
    handler.cut()


SENT = {"drip": _drip, "truncate": _truncate, "chunked": _chunked, "bad_chunk": _bad_chunk}
