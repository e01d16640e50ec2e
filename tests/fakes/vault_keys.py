"""The keys of the fake Azure Key Vault: versions, what they may do, and when."""

import os
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fakes.world import Answer, as_json, b64url, random_id

OPS = {"encrypt": "encrypt", "decrypt": "decrypt", "wrapkey": "wrapKey", "unwrapkey": "unwrapKey"}
ALL_OPS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
OCT_OPS = ["encrypt", "decrypt", "wrapKey", "unwrapKey"]
UNDOING = ("decrypt", "unwrapkey")  # these still work on a key that expired
PADDINGS = {
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
    "RSA1_5": padding.PKCS1v15(),
}
AT_START = (("kek", "RSA", 2048, ["encrypt", "decrypt"]),
            ("kek-wrap", "RSA", 3072, ["wrapKey", "unwrapKey"]),
            ("kek-4096", "RSA", 4096, ALL_OPS), ("kek-oct", "oct-HSM", 256, OCT_OPS))


class VaultError(Exception):
    def __init__(self, status, code, text, inner=None):
        super().__init__(text)
        self.status, self.code, self.inner = status, code, inner

    def answer(self):
        error = {"code": self.code, "message": str(self)}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return answer({"error": error}, self.status)


def answer(value, status=200, headers=()):
    if value is None:
        return Answer(status, b"", [("x-ms-request-id", random_id()), *headers])
    return as_json(value, status, "application/json; charset=utf-8",
                   [("x-ms-request-id", random_id()), ("x-ms-keyvault-region", "westeurope"),
                    *headers])


def bad_parameter(text):
    return VaultError(400, "BadParameter", text)


def unbase64url(text, name):
    """Without padding and without anything that is not base64url."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (TypeError, ValueError):
        data = None
    if data is None or b64url(data) != text:
        raise bad_parameter(f"Property  has invalid value: {name} is not base64url")
    return data


@dataclass
class Version:
    """One version of a key; its material is made when it is first needed."""

    name: str
    kty: str
    size: int
    key_ops: list
    created: int
    id: str = field(default_factory=lambda: os.urandom(16).hex())
    enabled: bool = True
    nbf: int = None
    exp: int = None
    updated: int = None
    tags: dict = field(default_factory=dict)
    recoveryLevel: str = "Recoverable+Purgeable"
    lax_disabled: bool = False  # disabled, it still encrypts: so the live service was seen to do
    _material: object = None

    SETTABLE = ("enabled", "nbf", "exp", "key_ops", "recoveryLevel", "tags", "lax_disabled")

    @property
    def material(self):
        if self._material is None:
            self._material = (os.urandom(self.size // 8) if self.kty == "oct-HSM"
                              else rsa.generate_private_key(65537, self.size))
        return self._material

    def kid(self, base):
        return f"{base}/keys/{self.name}/{self.id}"

    def attributes(self):
        found = {"enabled": self.enabled, "nbf": self.nbf, "exp": self.exp,
                 "created": self.created, "updated": self.updated or self.created,
                 "recoveryLevel": self.recoveryLevel, "recoverableDays": 90}
        return {name: value for name, value in found.items() if value is not None}

    def shown(self, base):
        """What GET answers."""
        key = {"kid": self.kid(base), "kty": self.kty, "key_ops": self.key_ops}
        if self.kty != "oct-HSM":
            numbers = self.material.public_key().public_numbers()
            key.update(n=b64url(numbers.n.to_bytes(self.size // 8, "big")),
                       e=b64url(numbers.e.to_bytes(3, "big")))
        found = {"key": key, "attributes": self.attributes()}
        return {**found, "tags": self.tags} if self.tags else found

    # ---- may it? ----

    def allow(self, operation, now):
        """VaultError: it may not do that, or not now."""
        named = OPS[operation]
        undoes = operation in UNDOING
        if not self.enabled and (undoes or not self.lax_disabled):
            raise _forbidden(f"Operation {named} is not allowed on a disabled key.", "KeyDisabled")
        if self.exp is not None and now >= self.exp and not undoes:
            raise _forbidden(f"Operation {named} is not allowed on an expired key.", "KeyExpired")
        if self.nbf is not None and now < self.nbf and not undoes:
            raise _forbidden(f"Operation {named} is not allowed on a key that is not yet valid.",
                             "KeyNotYetValid")
        if named not in self.key_ops:
            raise _forbidden(f"Operation {named} is not permitted on this key.",
                             "KeyOperationForbidden")

    # ---- what it does ----

    def do(self, encrypts, request):
        """(bytes, more members of the answer) of encrypt and wrapkey, or of the other two."""
        alg, data = request.get("alg"), unbase64url(request.get("value"), "value")
        if self.kty != "oct-HSM" and alg in PADDINGS:
            return (self._rsa_encrypt if encrypts else self._rsa_decrypt)(alg, data), {}
        if self.kty == "oct-HSM" and alg == "A256GCM" and self.size == 256:
            return (self._gcm_encrypt if encrypts else self._gcm_decrypt)(data, request)
        if self.kty == "oct-HSM" and alg == "A256KW" and self.size == 256:
            return self._key_wrap(encrypts, data), {}
        raise bad_parameter("Key and signing algorithm are incompatible. Key https://.. is of "
                            f"type '{self.kty}', and algorithm '{alg}' can't be used with it.")

    def _rsa_encrypt(self, alg, data):
        try:
            return self.material.public_key().encrypt(data, PADDINGS[alg])
        except ValueError:
            raise bad_parameter("The parameter is incorrect.") from None

    def _rsa_decrypt(self, alg, data):
        try:
            return self.material.decrypt(data, PADDINGS[alg])
        except ValueError:
            raise bad_parameter("The parameter is incorrect.") from None

    def _gcm_encrypt(self, data, request):
        """The vault chooses the nonce."""
        if request.get("iv") is not None:
            raise bad_parameter("iv is not supported for AES-GCM encryption")
        nonce, aad = os.urandom(12), unbase64url(request.get("aad", ""), "aad")
        sealed = AESGCM(self.material).encrypt(nonce, data, aad)
        more = {"iv": b64url(nonce), "tag": b64url(sealed[-16:])}
        if aad:
            more["aad"] = b64url(aad)
        return sealed[:-16], more

    def _gcm_decrypt(self, data, request):
        nonce, tag, aad = (unbase64url(request.get(name, ""), name)
                           for name in ("iv", "tag", "aad"))
        if len(nonce) != 12 or len(tag) != 16:
            raise bad_parameter("AES-GCM needs an iv of 12 bytes and a tag of 16")
        try:
            return AESGCM(self.material).decrypt(nonce, data + tag, aad), {}
        except InvalidTag:
            raise bad_parameter("The parameter is incorrect.") from None

    def _key_wrap(self, encrypts, data):
        try:
            call = keywrap.aes_key_wrap if encrypts else keywrap.aes_key_unwrap
            return call(self.material, data)
        except (ValueError, keywrap.InvalidUnwrap):
            raise bad_parameter("The parameter is incorrect.") from None


def _forbidden(text, inner):
    return VaultError(403, "Forbidden", text, inner)


class VaultKeys:
    """By name, each a list of versions, the newest last."""

    def __init__(self, world):
        self.world = world
        self.by_name = {}
        for name, kty, size, ops in AT_START:
            self.create(name, kty, size, list(ops))
        self.first = {name: versions[0] for name, versions in self.by_name.items()}

    def reset(self):
        """The keys of the start, with the material that they had."""
        self.by_name = {}
        for name, kty, size, ops in AT_START:
            old = self.first[name]
            fresh = Version(name, kty, size, list(ops), old.created, old.id,
                            _material=old._material)
            self.first[name] = fresh
            self.by_name[name] = [fresh]

    def create(self, name, kty, size, ops, **more):
        version = Version(name, kty, size, ops, int(self.world.now()), **more)
        self.by_name.setdefault(name, []).append(version)
        return version

    def find(self, name, version=""):
        """That version, or the newest one."""
        versions = self.by_name.get(name, [])
        found = [one for one in versions if version.lower() in ("", one.id)]
        if not found:
            label = f"{name}/{version}" if version else name
            raise VaultError(404, "KeyNotFound", f"A key with (name/id) {label} was not found in "
                             "this key vault. If you recently deleted this key you may be able to "
                             "recover it using the correct recovery command. For help resolving "
                             "this issue, please see "
                             "https://go.microsoft.com/fwlink/?linkid=2125182")
        return found[-1]

    def named(self, name=None, id=None):
        """For control: by name, by version, or by kid."""
        if name is not None:
            return self.find(name)
        for versions in self.by_name.values():
            for one in versions:
                if one.id == id.rpartition("/")[2].lower():
                    return one
        raise ValueError(f"id: no key {id}")
