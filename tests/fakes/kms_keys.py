"""The keys of the fake KMS: their material, states and aliases, and what is sealed under them."""

import os
import re
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fakes.world import ACCOUNT, random_id

REGION = "us-east-1"
DAY = 86400
ROTATIONS = 25  # on demand, of one key
BLOB = b"\x01\x02\x02\x00x"  # what a blob begins with; then material, nonce, and what GCM gives
_UUID = re.compile(r"(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|mrk-[0-9a-f]{32})")


class KmsError(Exception):
    """`code` as KMS names it."""

    def __init__(self, code, text=None):
        super().__init__(text)
        self.code, self.text = code, text


@dataclass
class Key:
    id: str
    created: float
    spec: str = "SYMMETRIC_DEFAULT"
    usage: str = "ENCRYPT_DECRYPT"
    description: str = ""
    account: str = ACCOUNT
    state: str = "Enabled"
    deletion: float = None
    period: int = 0  # days between rotations; 0: none
    on_demand: int = 0
    materials: list = field(default_factory=list)  # (id, bytes); the last one seals

    @property
    def multi_region(self):
        return self.id.startswith("mrk-")

    def arn(self, region):
        return f"arn:aws:kms:{region}:{self.account}:key/{self.id}"

    def rotate(self):
        self.materials.append((os.urandom(32), os.urandom(32)))


class Keys:
    """All keys of the account, by id, and its aliases, which point at ids."""

    def __init__(self, world):
        self.world = world
        self.keys = {}
        self.aliases = {}
        self.gone = set()  # ids of the materials of deleted keys

    def create(self, multi_region=False, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT",
               description=""):
        key_id = "mrk-" + os.urandom(16).hex() if multi_region else random_id()
        key = Key(key_id, self.world.now(), spec, usage, description)
        key.rotate()
        self.keys[key.id] = key
        return key

    # ---- names ----

    def find(self, name, region, aliases=True):
        """The key that a KeyId means; NotFoundException. mrk- keys are in every Region. One of another
        account, which lets ours use it, is known by its ARN alone."""
        account = ACCOUNT
        found = re.fullmatch(r"arn:aws:kms:([a-z0-9-]+):(\d{12}):(.+)", name)
        if found:
            where, account, rest = found.groups()
            if where != region:
                raise KmsError("NotFoundException", f"Invalid arn {where}")
            name = rest if rest.startswith("alias/") else rest.removeprefix("key/")
        if name.startswith("alias/") and aliases:
            key_id = self.aliases.get(name)
            if key_id is None:
                raise KmsError("NotFoundException", f"Alias arn:aws:kms:{region}:{ACCOUNT}:{name} "
                               "is not found.")
            name = key_id
        elif not _UUID.fullmatch(name):
            raise KmsError("NotFoundException", f"Invalid keyId '{name}'")
        key = self.keys.get(name)
        if account != (key.account if key is not None else ACCOUNT):
            raise _not_yours()
        if key is not None and key.deletion is not None and key.deletion <= self.world.now():
            self._forget(key)
            key = None
        if key is None or region != REGION and not key.multi_region:
            raise KmsError("NotFoundException", f"Key 'arn:aws:kms:{region}:{ACCOUNT}:key/{name}' "
                           "does not exist")
        return key

    def _forget(self, key):
        """Its waiting time is over."""
        del self.keys[key.id]
        self.gone |= set(dict(key.materials))
        self.aliases = {name: key_id for name, key_id in self.aliases.items() if key_id != key.id}

    def usable(self, key, region):
        """Its state lets it work."""
        if key.state == "Disabled":
            raise KmsError("DisabledException", f"{key.arn(region)} is disabled.")
        if key.state == "PendingDeletion":
            raise KmsError("KMSInvalidStateException", f"{key.arn(region)} is pending deletion.")
        if key.state != "Enabled":
            raise KmsError("KMSInvalidStateException", f"{key.arn(region)} is {key.state}.")

    # ---- sealing ----

    def seal(self, key, plaintext, context):
        material_id, material = key.materials[-1]
        nonce = os.urandom(12)
        head = BLOB + material_id + nonce
        return head + AESGCM(material).encrypt(nonce, plaintext, _aad(context))

    def owner(self, blob, region):
        """(key, id of the material) that a blob was made with; KmsError, also when it is gone."""
        at = len(BLOB)
        material_id = blob[at:at + 32]
        if not blob.startswith(BLOB):
            raise KmsError("InvalidCiphertextException")
        for key in list(self.keys.values()):
            if material_id in dict(key.materials):
                try:
                    return self.find(key.arn(region), region), material_id
                except KmsError:
                    raise _not_yours() from None
        raise _not_yours() if material_id in self.gone else KmsError("InvalidCiphertextException")

    def open(self, key, blob, context):
        """The plaintext; a wrong context and a broken blob are one error."""
        at = len(BLOB)
        material = dict(key.materials)[blob[at:at + 32]]
        try:
            return AESGCM(material).decrypt(blob[at + 32:at + 44], blob[at + 44:], _aad(context))
        except (InvalidTag, ValueError):
            raise KmsError("InvalidCiphertextException") from None


def _not_yours():
    return KmsError("AccessDeniedException", "The ciphertext refers to a customer master key that "
                    "does not exist, does not exist in this region, or you are not allowed to "
                    "access.")


def _aad(context):
    """The context in one form, whatever its order."""
    parts = [struct.pack(">I", len(context))]
    for pair in sorted(context.items()):
        for text in pair:
            raw = text.encode()
            parts.append(struct.pack(">I", len(raw)) + raw)
    return b"".join(parts)
