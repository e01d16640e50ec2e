"""The fake Azure Key Vault: keys over REST, with a token of the fake's token server."""

import json
import re

from fakes.jwts import BadToken
from fakes.plaintexts import Plaintexts
from fakes.vault_keys import (ALL_OPS, OCT_OPS, VaultError, VaultKeys, Version, answer,
                              bad_parameter, b64url, unbase64url)
from fakes.world import random_id

API_VERSIONS = {f"7.{n}" for n in range(7)} | {"2025-07-01"}
AUDIENCE = "https://vault.azure.net"
PAGE = 25
ENCRYPTING = ("encrypt", "wrapkey")
RSA_SIZES = (2048, 3072, 4096)
NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")


class Vault:
    """`settings`: how the challenge is written (_challenge), and which audience is taken."""

    service = "vault"

    def __init__(self, world, issuer, tenant):
        self.world, self.issuer, self.tenant = world, issuer, tenant
        self.keys = VaultKeys(world)
        self.plaintexts = Plaintexts()
        self.policies = {}
        self.reset()

    def reset(self):
        self.keys.reset()
        self.plaintexts.forget()
        self.policies.clear()
        self.settings = {
            "authority": "https://login.microsoftonline.com", "resource": AUDIENCE,
            "uri_form": False,  # authorization_uri= in place of authorization=
            "scope_form": False,  # scope= in place of resource=
            "separator": ", ", "reversed": False, "challenge": None,  # the header's whole value
            "audience": AUDIENCE,
        }

    def environment(self):
        return {}

    def set_key(self, name=None, id=None, state=None, create=False, rotate=False, kty="RSA",
                size=2048, **what):
        """Sets members of a version; or makes a key, or another version of one."""
        if state is not None:
            what["enabled"] = state == "Enabled"
        unknown = set(what) - set(Version.SETTABLE)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: a key has {', '.join(Version.SETTABLE)}")
        if create:
            ops = OCT_OPS if kty == "oct-HSM" else ALL_OPS
            version = self.keys.create(name, kty, size, list(ops))
        else:
            try:
                version = self.keys.named(name, id)
            except VaultError as error:
                raise ValueError(str(error)) from None
        if rotate:
            version = self._rotated(version)
        for member, value in what.items():
            setattr(version, member, value)
        return {"name": version.name, "version": version.id, **version.attributes()}

    # ---- a request ----

    def answer(self, call):
        try:
            found = self._answer(call)
        except VaultError as error:
            found = error.answer()
        client_id = call.headers.get("x-ms-client-request-id")
        if client_id is not None:
            found.headers.append(("x-ms-client-request-id", client_id))
        return found

    def throttled(self, _call):
        return VaultError(429, "Throttled", "Request was not processed because too many requests "
                          "were received. Reason: VaultRequestTypeLimitReached").answer()

    def _answer(self, call):
        client = self._client(call)
        if client is None:
            return self._unauthorized(call)
        version = call.query.get("api-version")
        if version is None:
            raise VaultError(400, "MissingApiVersionParameter", "The api-version query parameter "
                             "(?api-version=) is required for all requests.")
        if version not in API_VERSIONS:
            raise bad_parameter(f"The specified version ({version}) is not recognized. Consider "
                                "using the latest supported version (2025-07-01).")
        if self.world.is_denied(f"vault:{call.operation}", client):
            raise VaultError(403, "Forbidden", "Caller is not authorized to perform action on "
                             f"resource.\r\nCaller: appid={client}\r\nAction: "
                             f"'Microsoft.KeyVault/vaults/keys/{call.operation}/action'",
                             "ForbiddenByRbac")
        name, *rest = call.path.removeprefix("/keys/").rstrip("/").split("/")
        if not NAME.fullmatch(name):
            raise bad_parameter(f"The request URI contains an invalid name: {name}")
        if call.operation in ("encrypt", "decrypt", "wrapkey", "unwrapkey"):
            return self._crypt(call, self.keys.find(name, *rest[:-1]))
        method = getattr(self, "_do_" + call.operation, None)
        if not call.operation or method is None:
            raise VaultError(404, "NotFound", "Resource not found.")
        return method(call, name, rest)

    def _client(self, call):
        """The application of the token; nothing when there is none that holds."""
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            call.who = "AKV10000: Request is missing a Bearer or PoP token."
            return None
        try:
            claims = self.issuer.claims(token)
            if claims.get("aud") != self.settings["audience"]:
                raise BadToken("audience", "AKV10022: Invalid audience. Expected "
                               f"{self.settings['audience']}, found: {claims.get('aud')}.")
        except BadToken as error:
            call.who = f"[BearerReadAccessTokenFailed] Error validating token: {error}"
            return None
        call.who = claims["appid"]
        return claims["appid"]

    def _unauthorized(self, call):
        return answer({"error": {"code": "Unauthorized", "message": call.who}}, 401,
                      [("WWW-Authenticate", self._challenge())])

    def _challenge(self):
        how = self.settings
        if how["challenge"] is not None:
            return how["challenge"]
        where = "authorization_uri" if how["uri_form"] else "authorization"
        pairs = [f'{where}="{how["authority"]}/{self.tenant}"']
        pairs.append(f'scope="{how["resource"]}/.default"' if how["scope_form"]
                     else f'resource="{how["resource"]}"')
        return "Bearer " + how["separator"].join(pairs[::-1] if how["reversed"] else pairs)

    # ---- encrypt, decrypt, wrapkey, unwrapkey ----

    def _crypt(self, call, version):
        request = _json(call)
        version.allow(call.operation, self.world.now())
        if call.operation in ENCRYPTING:
            plaintext = self.plaintexts.taken(call, unbase64url(request.get("value"), "value"))
            value, more = version.do(True, {**request, "value": b64url(plaintext)})
        else:
            value, more = version.do(False, request)
            value = self.plaintexts.shown(call, value)
        kid = version.kid(call.base)
        if call.spoils("wrong_key_id"):
            kid = kid[:-32] + random_id().replace("-", "")
        return answer({"kid": kid, "value": b64url(value), **more})

    # ---- keys ----

    def _do_get(self, call, name, rest):
        return answer(self.keys.find(name, *rest).shown(call.base))

    def _do_create(self, call, name, _rest):
        request = _json(call)
        kty = request.get("kty")
        size = request.get("key_size", 256 if kty == "oct-HSM" else 2048)
        good = size in RSA_SIZES if kty in ("RSA", "RSA-HSM") else (kty, size) == ("oct-HSM", 256)
        if not good:
            raise bad_parameter(f"kty {kty} with key_size {size} is not supported")
        ops = request.get("key_ops") or list(OCT_OPS if kty == "oct-HSM" else ALL_OPS)
        version = self.keys.create(name, kty, size, ops, tags=request.get("tags") or {})
        self._set(version, request)
        return answer(version.shown(call.base))

    def _do_rotate(self, call, name, _rest):
        return answer(self._rotated(self.keys.find(name)).shown(call.base))

    def _rotated(self, old):
        return self.keys.create(old.name, old.kty, old.size, list(old.key_ops),
                                recoveryLevel=old.recoveryLevel, tags=dict(old.tags))

    def _do_update(self, call, name, rest):
        version = self.keys.find(name, *rest)
        self._set(version, _json(call))
        return answer(version.shown(call.base))

    def _set(self, version, request):
        attributes = request.get("attributes") or {}
        for member in ("enabled", "nbf", "exp"):
            if attributes.get(member) is not None:
                setattr(version, member, attributes[member])
        for member in ("key_ops", "tags"):
            if request.get(member) is not None:
                setattr(version, member, request[member])
        version.updated = int(self.world.now())

    def _do_versions(self, call, name, _rest):
        self.keys.find(name)
        most = call.query.get("maxresults", str(PAGE))
        start = call.query.get("$skiptoken", "0")
        if not most.isdecimal() or not 1 <= int(most) <= PAGE or not start.isdecimal():
            raise bad_parameter("maxresults is invalid")
        versions, start = self.keys.by_name[name], int(start)
        end = start + int(most)
        found = [{"kid": one.kid(call.base), "attributes": one.attributes(),
                  **({"tags": one.tags} if one.tags else {})} for one in versions[start:end]]
        link = (f"{call.base}/keys/{name}/versions?api-version={call.query['api-version']}"
                f"&$skiptoken={end}&maxresults={most}" if end < len(versions) else None)
        return answer({"value": found, "nextLink": link})

    def _do_rotationpolicy(self, call, name, _rest):
        self.keys.find(name)
        default = {"lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"},
                                        "action": {"type": "Notify"}}], "attributes": {}}
        if call.method == "PUT":
            self.policies[name] = _json(call)
        return answer({"id": f"{call.base}/keys/{name}/rotationpolicy",
                       **self.policies.get(name, default)})


def _json(call):
    try:
        found = json.loads(call.body or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise bad_parameter("Error parsing the request body")
    if not call.headers.get("Content-Type", "").startswith("application/json"):
        raise VaultError(415, "UnsupportedMediaType", "The content type is not application/json")
    return found
