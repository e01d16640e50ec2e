"""Who calls AWS: access keys and sessions, and signatures (SigV4), computed again by botocore.

The signature is made over the headers that the client says it signed, as they came in, and over no
others: what a client signs and does not send, or sends otherwise, fails here as it does at AWS.
"""

import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from calendar import timegm
from dataclasses import dataclass
from time import strptime

WINDOW = 300  # seconds that a client's clock may be off
_FORM = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9]+)"
                   r"/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})")
_HOST_REGION = re.compile(r"(?:kms|kms-fips|sts)\.([a-z]+-[a-z]+-\d)\.amazonaws\.com")


class NotSigned(Exception):
    """`kind` is for the service, which has a name of its own for it."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


@dataclass
class AccessKey:
    id: str
    secret: str
    arn: str
    token: str = None  # of a session
    expires: float = None


class Callers:
    """All access keys that there are."""

    def __init__(self, world):
        self.world = world
        self.by_id = {}

    def clear(self):
        self.by_id.clear()

    def new_user(self, arn):
        return self._add(AccessKey("AKIA" + _letters(16), _secret(), arn))

    def new_session(self, arn, seconds):
        return self._add(AccessKey("ASIA" + _letters(16), _secret(), arn,
                                   "FwoG" + secrets.token_urlsafe(180) + "==",
                                   self.world.now() + seconds))

    def _add(self, key):
        self.by_id[key.id] = key
        return key

    def revoke(self, key):
        self.by_id.pop(key.id, None)

    # ---- a request ----

    def verify(self, call, service):
        """(the access key, the region) of a signed request; NotSigned."""
        text = call.headers.get("Authorization")
        if text is None:
            raise NotSigned("missing", "Missing Authentication Token")
        found = _FORM.fullmatch(text)
        if found is None:
            raise NotSigned("incomplete", "Authorization header requires 'Credential', 'Signature' "
                            f"and 'SignedHeaders' parameters. Authorization={text}")
        key_id, day, region, for_service, names, signature = found.groups()
        names = names.split(";")
        stamp = call.headers.get("X-Amz-Date", "")
        self._look_at_scope(call, (day, region, for_service), service, stamp)
        _look_at_names(call, names)
        key = self._known(key_id, call.headers.get("X-Amz-Security-Token"))
        self._look_at_time(stamp)
        if not hmac.compare_digest(signature, _signature(call, key, names, stamp, region, service)):
            raise NotSigned("signature", "The request signature we calculated does not match the "
                            "signature you provided. Check your AWS Secret Access Key and signing "
                            "method. Consult the service documentation for details.")
        return key, region

    def _look_at_scope(self, call, scope, service, stamp):
        day, region, for_service = scope
        host = _HOST_REGION.match(call.headers.get("Host", ""))
        if host and host[1] != region or not re.fullmatch(r"[a-z]+-[a-z]+-\d", region):
            raise NotSigned("signature", "Credential should be scoped to a valid region. ")
        if for_service != service:
            raise NotSigned("signature", f"Credential should be scoped to correct service: "
                            f"'{service}'. ")
        if not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
            raise NotSigned("incomplete", "Authorization header requires existence of either a "
                            "'X-Amz-Date' or a 'Date' header.")
        if day != stamp[:8]:
            raise NotSigned("signature", "Date in Credential scope does not match YYYYMMDD from "
                            f"ISO-8601 version of date from HTTP: '{day}' != '{stamp[:8]}', "
                            f"from '{stamp}'.")

    def _known(self, key_id, token):
        key = self.by_id.get(key_id)
        if key is None or key.token != token:
            raise NotSigned("unknown", "The security token included in the request is invalid.")
        if key.expires is not None and key.expires <= self.world.now():
            raise NotSigned("expired", "The security token included in the request is expired")
        return key

    def _look_at_time(self, stamp):
        try:
            at = timegm(strptime(stamp, "%Y%m%dT%H%M%SZ"))
        except ValueError:
            raise NotSigned("incomplete", f"Date must be in ISO-8601 'basic format'. Got '{stamp}'."
                            ) from None
        now = self.world.now()

        def basic(seconds):
            return re.sub("[-:]", "", self.world.iso(seconds))

        if at < now - WINDOW:
            raise NotSigned("skew", f"Signature expired: {stamp} is now earlier than "
                            f"{basic(now - WINDOW)} ({basic(now)} - 5 min.)")
        if at > now + WINDOW:
            raise NotSigned("skew", f"Signature not yet current: {stamp} is still later than "
                            f"{basic(now + WINDOW)} ({basic(now)} + 5 min.)")


def _letters(count):
    return "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(count))


def _secret():
    """40 characters, `+` and `/` among them."""
    return b64encode(secrets.token_bytes(30)).decode()


def _look_at_names(call, names):
    """What has to be signed is; what is signed is there, once."""
    must = {"host", *(name.lower() for name in call.headers
                      if name.lower().startswith("x-amz-") or name.lower() == "content-type")}
    for name in sorted(must - set(names)):
        shown = "'Host' or ':authority'" if name == "host" else f"'{name}'"
        raise NotSigned("signature", f"{shown} must be a 'SignedHeader' in the AWS Authorization.")
    if names != sorted(names):
        raise NotSigned("signature", "SignedHeaders must be in alphabetical order.")
    for name in names:
        if call.headers.get(name) is None:
            raise NotSigned("signature", f"'{name}' is in SignedHeaders and was not sent.")


def _signature(call, key, names, stamp, region, service):
    from botocore.auth import SigV4Auth  # takes 0.1 s: not before the first request
    from botocore.awsrequest import AWSRequest, HTTPHeaders
    from botocore.credentials import Credentials

    class Again(SigV4Auth):
        def headers_to_sign(self, request):
            signed = HTTPHeaders()
            for name in names:
                for value in call.headers.get_all(name):
                    signed[name] = value
            return signed

    request = AWSRequest(call.method, "http://localhost" + call.path, data=call.body)
    request.context["timestamp"] = stamp
    body_hash = call.headers.get("X-Amz-Content-SHA256")
    if body_hash is not None and body_hash != hashlib.sha256(call.body).hexdigest():
        raise NotSigned("signature", "The value of 'x-amz-content-sha256' is not the body's.")
    auth = Again(Credentials(key.id, key.secret, key.token), service, region)
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
