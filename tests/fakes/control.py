"""What tests ask of the fake: POST /_control/VERB, JSON in and out, on the plain port."""

import json
import re

from fakes import faults
from fakes.world import SERVICES, Script

AWS_NAME = re.compile("arn:|alias/|mrk-|[0-9a-f]{8}-")


class Control:
    """A method for each verb; the members of the JSON object are its arguments."""

    def __init__(self, world, callers):
        self.world, self.callers = world, callers

    def __call__(self, verb, body):
        method = getattr(self, "on_" + verb, None)
        if method is None:
            raise ValueError(f"no such verb: {verb}")
        with self.world.lock:
            return method(**json.loads(body or b"{}")) or {}

    def on_reset(self):
        """All as at the start; what a test was told at the start still holds."""
        self.world.clear()
        self.callers.clear()
        for service in self.world.serving.values():
            service.reset()

    # ---- time ----

    def on_clock(self, offset=None, date_offset=None, skew_code=None):
        """The fake's clock, that of its Date headers alone, and KMS's word for a wrong one."""
        if offset is not None:
            self.world.offset = float(offset)
        if date_offset is not None:
            self.world.date_offset = float(date_offset)
        self.world.skew_code = skew_code
        return {"now": self.world.now()}

    def on_lifetime(self, service, seconds=None):
        """Of what a service issues from now on; none: as it was."""
        _known(service)
        self.world.lifetimes.pop(service, None)
        if seconds is not None:
            self.world.lifetimes[service] = seconds

    def on_latency(self, service, seconds):
        _known(service)
        self.world.latencies[service] = seconds

    # ---- answers ----

    def on_script(self, service, answers, operation=None, times=1):
        faults.check(answers)
        self.world.scripts.append(Script(service, answers, operation, times))

    def on_unscript(self):
        """Forgets what is still to come."""
        self.world.scripts.clear()

    def on_release(self):
        self.world.release()

    # ---- what was asked ----

    def on_counts(self, clear=False):
        found = dict(self.world.counts)
        if clear:
            self.world.counts.clear()
        return {"connections": 0, **found}

    def on_requests(self, clear=False):
        found = list(self.world.requests)
        if clear:
            self.world.requests.clear()
        return {"requests": found}

    # ---- the services ----

    def on_deny(self, action, on=True, id=None):
        """`kms:Decrypt`, `vault:wrapkey`, ..; `id`: for one access key or client only."""
        if on:
            self.world.denied.add((action, id))
        else:
            self.world.denied.discard((action, id))

    def on_rotate_credentials(self, service, **how):
        """What it gave out is replaced: what it returns is new, and in its files."""
        return self._of(service, "rotate")(**how)

    def on_key(self, **what):
        """Sets what a key of KMS or of the vault is, by its `name` or `id`; gives it back."""
        name = what.get("name") or what.get("id") or ""
        service = "kms" if AWS_NAME.match(name) else "vault"
        return self._of(what.pop("service", service), "set_key")(**what)

    def on_set(self, service, **what):
        """Sets what a service has by name: see its `settings`."""
        settings = self._of(service, "settings")
        for name, value in what.items():
            if name not in settings:
                raise ValueError(f"{service} has no {name!r}: {', '.join(settings)}")
            settings[name] = value
        return settings

    def _of(self, service, what):
        found = getattr(self.world.serving.get(service), what, None)
        if found is None:
            raise ValueError(f"service: {service!r} has no such thing")
        return found


def _known(service):
    if service not in SERVICES:
        raise ValueError(f"service: {service!r} is none of {', '.join(SERVICES)}")
