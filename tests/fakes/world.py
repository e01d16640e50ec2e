"""What all services of the fake share: time, scripts, counts, policies, what was asked."""

import json
import os
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import formatdate

ACCOUNT = "111122223333"
KEPT = 200  # requests that are remembered
SERVICES = ("kms", "sts", "iam", "imds", "container", "vault", "token", "identity")


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: list = field(default_factory=list)  # (name, value)


@dataclass
class Call:
    """A request, and what became of it."""

    method: str
    path: str  # without the query
    query: dict  # name: first value
    headers: object  # http.client.HTTPMessage
    body: bytes
    base: str  # https://host:port as the client names us
    service: str = ""
    operation: str = ""
    fault: dict = field(default_factory=dict)
    who: str = ""  # the caller's ARN, once it is known who that is

    def spoils(self, name):
        """Whether a test asked for that fault of the true answer."""
        return self.fault.get("fault") == name


class Refused(Exception):
    """A service's own answer to what it does not do."""

    def __init__(self, answer):
        super().__init__(answer.status)
        self.answer = answer


class Script:
    """Answers that stand in for the true ones, in order, `times` times over (-1: for ever)."""

    def __init__(self, service, answers, operation=None, times=1):
        if service not in SERVICES:
            raise ValueError(f"service: {service!r} is none of {', '.join(SERVICES)}")
        if not answers:
            raise ValueError("answers: is empty")
        self.service, self.operation = service, operation
        self.answers, self.times, self.place = answers, times, 0

    def matches(self, call):
        return self.service == call.service and self.operation in (None, call.operation)

    def next(self):
        answer = self.answers[self.place]
        self.place += 1
        if self.place == len(self.answers):
            self.place = 0
            self.times -= self.times > 0
        return answer


class World:
    """One for all ports. `lock` guards all that services change; nobody sleeps under it."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.RLock()
        self.serving = {}  # service: its object, which has answer(call), throttled() and reset()
        self.released = threading.Event()  # who hangs waits for the next one
        self.clear()

    def clear(self):
        """As it was at the start: time, scripts, counts, policies."""
        self.offset = self.date_offset = 0.0
        self.skew_code = None
        self.scripts = []
        self.counts = Counter()
        self.requests = deque(maxlen=KEPT)
        self.denied = set()  # (action, access key id or client id, or None for all)
        self.latencies = {}
        self.lifetimes = {}
        self.release()

    def release(self):
        """Lets all go on that hang."""
        before, self.released = self.released, threading.Event()
        before.set()

    # ---- time ----

    def now(self):
        return time.time() + self.offset

    def date(self):
        return formatdate(self.now() + self.date_offset, usegmt=True)

    def iso(self, at):
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def lifetime(self, service, seconds):
        """How long what a service issues holds: as a test set it, or else `seconds`."""
        return self.lifetimes.get(service, seconds)

    # ---- what tests ask for ----

    def scripted(self, call):
        """What stands in for the true answer of this call, or nothing."""
        for script in self.scripts:
            if script.matches(call):
                answer = script.next()
                if script.times == 0:
                    self.scripts.remove(script)
                return answer
        return {}

    def is_denied(self, action, who):
        return (action, None) in self.denied or (action, who) in self.denied

    def note(self, call, status):
        self.requests.append({
            "service": call.service, "operation": call.operation, "method": call.method,
            "path": call.path, "query": call.query,
            "headers": {name.lower(): value for name, value in call.headers.items()},
            "body": call.body.decode("utf-8", "replace"), "status": status})


def as_json(value, status=200, kind="application/json", headers=()):
    return Answer(status, json.dumps(value).encode(), [("Content-Type", kind), *headers])


def random_id():
    """A UUID, version 4."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def b64url(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def replace_file(path, text):
    """Whoever reads it meanwhile reads the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)
