"""azure-keyvault-keys in the place of dekhand, to hold the one against the other; run by the Python
of scripts/need.sh test.

    oracle_azure.py unwrap       a line {"kid", "blob", "context"} each: the data key in base64
    oracle_azure.py wrap KEY     makes a wrap under a key of the vault: {"kid", "blob", "key", "context"}

The fake's environment says where. The bytes around the vault's are those of tests/format/dk1.py.
"""

import json
import os
import struct
import sys
from base64 import b64decode, b64encode
from pathlib import Path

from azure.identity import ClientSecretCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path.insert(0, str(Path(__file__).resolve().parent))
from format import dk1  # noqa: E402  (found by the line above)

ENV = dict(os.environ)
TLS = {"connection_verify": ENV["FAKE_CA"]}
VAULT = {"verify_challenge_resource": False, **TLS}
WHO = ClientSecretCredential(ENV["AZURE_TENANT"], ENV["AZURE_CLIENT"], ENV["AZURE_SECRET"],
                             authority=ENV["FAKE_TLS"], disable_instance_discovery=True, **TLS)
GCM = EncryptionAlgorithm.a256_gcm
NONCE, TAG = 12, 16


def crypto(kid):
    return CryptographyClient(kid, WHO, **VAULT)


def unwrap(kid, blob, context):
    raw, aad = b64decode(blob, validate=True), dk1.wrap_aad(context)
    if raw[0] == 2:
        found = crypto(kid).decrypt(GCM, raw[13:-TAG], iv=raw[1:13], authentication_tag=raw[-TAG:],
                                    additional_authenticated_data=aad)
        return found.plaintext
    (size,) = struct.unpack(">H", raw[1:3])
    assert raw[0] == 1 and len(raw) == 3 + size + NONCE + 32 + TAG, len(raw)
    if "/kek-wrap/" in kid:  # what each key of the fake may do
        w = crypto(kid).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, raw[3:3 + size]).key
    else:
        w = crypto(kid).decrypt(EncryptionAlgorithm.rsa_oaep_256, raw[3:3 + size]).plaintext
    assert len(w) == 32
    sealed = raw[3 + size:]
    return AESGCM(w).decrypt(sealed[:NONCE], sealed[NONCE:], aad)


def wrap(name):
    key, context = os.urandom(32), {"TenantId": "acme", "Purpose": "DataEncryption",
                                    "Timestamp": "2026-01-01T00:00:00.000000Z"}
    kid = KeyClient(ENV["AZURE_VAULT"], WHO, **VAULT).get_key(name).id
    aad = dk1.wrap_aad(context)
    if name.endswith("oct"):
        found = crypto(kid).encrypt(GCM, key, additional_authenticated_data=aad)
        blob = b"\x02" + found.iv + found.ciphertext + found.tag
    else:
        w, nonce = os.urandom(32), os.urandom(NONCE)
        if "/kek-wrap/" in kid:
            wrapped = crypto(kid).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, w).encrypted_key
        else:
            wrapped = crypto(kid).encrypt(EncryptionAlgorithm.rsa_oaep_256, w).ciphertext
        blob = (b"\x01" + struct.pack(">H", len(wrapped)) + wrapped + nonce
                + AESGCM(w).encrypt(nonce, key, aad))
    return {"kid": kid, "blob": b64encode(blob).decode(), "key": key.hex(), "context": context}


def main():
    if sys.argv[1] == "wrap":
        print(json.dumps(wrap(sys.argv[2])))
    else:
        for line in sys.stdin:
            print(b64encode(unwrap(**json.loads(line))).decode())


if __name__ == "__main__":
    main()
