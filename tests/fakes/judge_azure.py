"""azure-keyvault-keys and azure-identity against the fake: vault, token server, identities."""

import os
import sys
from pathlib import Path

from azure.core.exceptions import (ClientAuthenticationError, HttpResponseError,
                                   ResourceNotFoundError)
from azure.identity import (CertificateCredential, ClientSecretCredential,
                            ManagedIdentityCredential, WorkloadIdentityCredential)
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys._shared import http_challenge_cache
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fakes.cloud import steer  # noqa: E402  (found by the line above)
from fakes.judges import answer  # noqa: E402

ENV = dict(os.environ)
REAL_NAMES = "REAL_NAMES" in ENV  # the services' own, in our network: challenges are checked
VAULT = "https://dekhand.vault.azure.net" if REAL_NAMES else ENV["AZURE_VAULT"]
SIGN_IN = {} if REAL_NAMES else {"authority": ENV["FAKE_TLS"]}
SIGN_IN.update(disable_instance_discovery=True, connection_verify=ENV["FAKE_CA"])
OAEP, OAEP_WRAP = EncryptionAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa_oaep_256
W = b"w" * 32


def control(verb, **members):
    return steer(ENV["CONTROL"], verb, **members)


def secret(value=ENV["AZURE_SECRET"], tenant=ENV["AZURE_TENANT"], client=ENV["AZURE_CLIENT"]):
    return ClientSecretCredential(tenant, client, value, **SIGN_IN)


def options(tries=0):
    return {"verify_challenge_resource": REAL_NAMES, "connection_verify": ENV["FAKE_CA"],
            "retry_total": tries, "retry_backoff_factor": 0.05}


def keys(credential=None, tries=0):
    """One that has heard of no challenge: the SDK keeps them for all its clients."""
    http_challenge_cache.clear()
    return KeyClient(VAULT, credential or secret(), **options(tries))


def crypto(key, credential=None, tries=0):
    """For a key, or an id: then the client has no public key, and asks the vault for all."""
    return CryptographyClient(key, credential or secret(), **options(tries))


def from_afar(name, credential=None, tries=0):
    """Does nothing by itself: the vault does not show it the key."""
    control("deny", action="vault:get")
    return crypto(f"{VAULT}/keys/{name}", credential, tries)


def refused(status, inner, call, *arguments, **members):
    try:
        call(*arguments, **members)
    except HttpResponseError as error:
        assert error.status_code == status, error
        assert inner in error.response.text(), error.response.text()
        return error
    raise AssertionError(f"no {status}")


def not_signed_in(number, credential):
    """The token server says so, in its own words."""
    try:
        credential.get_token("https://vault.azure.net/.default")
    except ClientAuthenticationError as error:
        assert f"AADSTS{number}:" in str(error), error
        return
    raise AssertionError(f"no AADSTS{number}")


# ---- who calls ----------------------------------------------------------------------------------

def goes_there_and_back(credential):
    client = from_afar("kek-wrap", credential)
    wrapped = client.wrap_key(OAEP_WRAP, W)
    assert client.unwrap_key(OAEP_WRAP, wrapped.encrypted_key).key == W
    counts = control("counts")
    assert counts["vault.wrapkey"] >= 1 and counts["vault.unwrapkey"] == 1
    assert counts["token.Token"] == 1


def check_secret():
    goes_there_and_back(secret())


def check_certificate():
    goes_there_and_back(CertificateCredential(ENV["AZURE_TENANT"], ENV["AZURE_CLIENT"],
                                              ENV["AZURE_CERT"], **SIGN_IN))
    body = next(one for one in control("requests")["requests"] if one["operation"] == "Token")
    assert "client_assertion=" in body["body"]


def workload():
    return WorkloadIdentityCredential(
        tenant_id=ENV["AZURE_TENANT"], client_id=ENV["AZURE_CLIENT"],
        token_file_path=ENV["AZURE_FEDERATED"], **SIGN_IN)


def check_workload_identity():
    goes_there_and_back(workload())
    control("rotate_credentials", service="token")
    workload().get_token("https://vault.azure.net/.default")
    control("rotate_credentials", service="token", seconds=-1)
    not_signed_in(700024, workload())
    control("rotate_credentials", service="token")
    control("set", service="token", subject="of another workload")
    not_signed_in(700213, workload())


def check_managed_identity_of_a_machine():
    os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = ENV["FAKE_PLAIN"]
    try:
        goes_there_and_back_without_sign_in(ManagedIdentityCredential())
    finally:
        del os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"]


def check_managed_identity_of_the_app_service():
    os.environ.update(IDENTITY_ENDPOINT=ENV["FAKE_PLAIN"] + ENV["AZURE_IDENTITY_PATH"],
                      IDENTITY_HEADER=ENV["AZURE_IDENTITY_HEADER"])
    try:
        goes_there_and_back_without_sign_in(ManagedIdentityCredential())
    finally:
        del os.environ["IDENTITY_ENDPOINT"], os.environ["IDENTITY_HEADER"]


def goes_there_and_back_without_sign_in(credential):
    client = from_afar("kek-wrap", credential)
    assert client.unwrap_key(OAEP_WRAP, client.wrap_key(OAEP_WRAP, W).encrypted_key).key == W
    assert "token.Token" not in control("counts")


def check_errors_of_signing_in():
    not_signed_in(7000215, secret("wrong"))
    not_signed_in(700016, secret(client=ENV["AZURE_TENANT"]))
    control("set", service="token", secret_expired=True)
    not_signed_in(7000222, secret())
    try:
        secret(tenant=ENV["AZURE_CLIENT"]).get_token("https://vault.azure.net/.default")
    except ClientAuthenticationError as error:  # of its look at the tenant's configuration
        assert "Unable to get authority configuration" in str(error), error
    else:
        raise AssertionError("there is no such tenant")


def check_token_that_ended_is_refused_and_renewed():
    control("lifetime", service="token", seconds=-1)
    refused(401, "Error validating token", keys().get_key, "kek")
    control("lifetime", service="token")
    assert keys().get_key("kek").name == "kek"


# ---- keys ---------------------------------------------------------------------------------------

def check_key_is_shown():
    found = keys().get_key("kek-wrap")
    assert found.key_type == "RSA" and len(found.key.n) == 384
    assert found.key_operations == ["wrapKey", "unwrapKey"]
    assert found.properties.enabled and "Purgeable" in found.properties.recovery_level
    assert len(keys().get_key("kek-4096").key.n) == 512
    assert found.id == keys().get_key("kek-wrap", found.properties.version).id
    error = refused(404, "KeyNotFound", keys().get_key, "none")
    assert isinstance(error, ResourceNotFoundError)


def check_wrap_here_and_unwrap_there():
    key = keys().get_key("kek-wrap")
    wrapped = crypto(key).wrap_key(OAEP_WRAP, W)  # by the SDK, with the public key
    assert "vault.wrapkey" not in control("counts")
    found = crypto(key).unwrap_key(OAEP_WRAP, wrapped.encrypted_key)
    assert found.key == W and found.key_id == key.id


def check_all_paddings():
    client = from_afar("kek")
    for alg, most in ((OAEP, 190), (EncryptionAlgorithm.rsa_oaep, 214),
                      (EncryptionAlgorithm.rsa1_5, 245)):
        sealed = client.encrypt(alg, b"p" * most)
        assert client.decrypt(alg, sealed.ciphertext).plaintext == b"p" * most
        refused(400, "BadParameter", client.encrypt, alg, b"p" * (most + 1))
    sealed = client.encrypt(OAEP, W).ciphertext
    refused(400, "BadParameter", client.decrypt, OAEP, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    refused(400, "BadParameter", client.decrypt, EncryptionAlgorithm.rsa_oaep, sealed)
    refused(403, "KeyOperationForbidden", client.wrap_key, OAEP_WRAP, W)
    refused(403, "KeyOperationForbidden", from_afar("kek-wrap").encrypt, OAEP, W)


def check_versions():
    client = keys()
    first = client.get_key("kek-wrap")
    wrapped = crypto(first).wrap_key(OAEP_WRAP, W)
    second = client.rotate_key("kek-wrap")
    assert second.id != first.id and client.get_key("kek-wrap").id == second.id
    assert second.key_operations == first.key_operations
    assert crypto(first).unwrap_key(OAEP_WRAP, wrapped.encrypted_key).key == W
    refused(400, "BadParameter", crypto(second).unwrap_key, OAEP_WRAP, wrapped.encrypted_key)
    for _ in range(30):  # two pages
        control("key", name="kek", rotate=True)
    found = [one.version for one in client.list_properties_of_key_versions("kek")]
    assert len(found) == len(set(found)) == 31
    client.update_key_properties("kek-wrap", first.properties.version, enabled=False)
    refused(403, "KeyDisabled", crypto(first).unwrap_key, OAEP_WRAP, wrapped.encrypted_key)


def check_disabled_key():
    key = keys().get_key("kek")
    afar = from_afar("kek")
    sealed = afar.encrypt(OAEP, W).ciphertext
    control("key", name="kek", enabled=False)
    refused(403, "KeyDisabled", afar.encrypt, OAEP, W)
    refused(403, "KeyDisabled", afar.decrypt, OAEP, sealed)
    control("key", id=key.id, lax_disabled=True)
    assert afar.encrypt(OAEP, W).ciphertext
    refused(403, "KeyDisabled", afar.decrypt, OAEP, sealed)
    control("key", name="kek", state="Enabled")
    assert afar.decrypt(OAEP, sealed).plaintext == W


def check_key_outside_its_time():
    afar = from_afar("kek")
    sealed = afar.encrypt(OAEP, W).ciphertext
    now = int(control("clock")["now"])
    for member, value, inner in (("exp", now - 1, "KeyExpired"),
                                 ("nbf", now + 1000, "KeyNotYetValid")):
        control("key", name="kek", **{member: value})
        refused(403, inner, afar.encrypt, OAEP, W)
        assert afar.decrypt(OAEP, sealed).plaintext == W
        control("key", name="kek", **{member: None})
    assert afar.encrypt(OAEP, W)


def check_key_is_made_and_changed():
    client = keys()
    made = client.create_rsa_key("made-here", size=2048, key_operations=["encrypt", "decrypt"],
                                 tags={"of": "dekhand"})
    assert made.properties.tags == {"of": "dekhand"} and made.properties.enabled
    changed = client.update_key_properties("made-here", key_operations=["wrapKey"], enabled=False)
    assert changed.key_operations == ["wrapKey"] and not changed.properties.enabled
    again = client.create_rsa_key("made-here", size=3072)
    assert again.properties.version != made.properties.version
    policy = client.get_key_rotation_policy("made-here")
    assert policy.lifetime_actions[0].action == "Notify"


def check_aes_gcm_with_context():
    afar, gcm = from_afar("kek-oct"), EncryptionAlgorithm.a256_gcm
    sealed = afar.encrypt(gcm, W, additional_authenticated_data=b"tenant 1")
    assert len(sealed.iv) == 12 and len(sealed.tag) == 16

    def opened(**other):
        given = {"iv": sealed.iv, "authentication_tag": sealed.tag,
                 "additional_authenticated_data": b"tenant 1", **other}
        return afar.decrypt(gcm, sealed.ciphertext, **given)

    assert opened().plaintext == W
    for other in ({"additional_authenticated_data": b"tenant 2"}, {"iv": bytes(12)},
                  {"authentication_tag": bytes(16)}):
        refused(400, "BadParameter", opened, **other)
    refused(400, "BadParameter", afar.encrypt, OAEP, W)
    wrapped = afar.wrap_key(KeyWrapAlgorithm.aes_256, W).encrypted_key
    assert afar.unwrap_key(KeyWrapAlgorithm.aes_256, wrapped).key == W


def check_denied_action():
    control("deny", action="vault:decrypt", id=ENV["AZURE_CLIENT"])
    afar = from_afar("kek")
    refused(403, "ForbiddenByRbac", afar.decrypt, OAEP, afar.encrypt(OAEP, W).ciphertext)


# ---- faults and challenges ----------------------------------------------------------------------

def check_throttling_is_retried():
    control("script", service="vault", operation="decrypt",
            answers=[{"fault": "retry_after", "seconds": 0}, {"fault": "html500"}])
    afar = from_afar("kek", tries=3)
    assert afar.decrypt(OAEP, afar.encrypt(OAEP, W).ciphertext).plaintext == W
    assert control("counts")["vault.decrypt"] == 3
    control("script", service="vault", operation="decrypt", answers=[{"fault": "throttle"}])
    refused(429, "Throttled", from_afar("kek").decrypt, OAEP, bytes(256))


def check_keys_that_are_wrong():
    afar = from_afar("kek")
    sealed = [afar.encrypt(OAEP, bytes([n]) * 32).ciphertext for n in (1, 2)]

    def spoiled(fault, call, *arguments):
        control("script", service="vault", answers=[{"fault": fault}])
        return call(OAEP, *arguments)

    afar.decrypt(OAEP, sealed[0])
    for fault, plaintext in (("swap_keys", bytes([1]) * 32), ("short_key", bytes([2]) * 31),
                             ("long_key", bytes([2]) * 33), ("zero_key", bytes(32))):
        assert spoiled(fault, afar.decrypt, sealed[1]).plaintext == plaintext, fault
    swapped = spoiled("swap_keys", afar.encrypt, bytes([3]) * 32).ciphertext
    assert afar.decrypt(OAEP, swapped).plaintext != bytes([3]) * 32


def check_forms_of_the_challenge():
    credential = secret()
    for form in ({"uri_form": True}, {"scope_form": True, "separator": ","}, {"reversed": True}):
        control("reset")
        control("set", service="vault", **form)
        assert keys(credential).get_key("kek").name == "kek", form


def check_challenge_of_another_resource():
    """Only where names are checked does the SDK mind."""
    control("set", service="vault", resource="https://elsewhere.example")
    control("set", service="token", resources=["https://elsewhere.example"])
    try:
        keys().get_key("kek")
    except ValueError as error:
        assert REAL_NAMES and "challenge resource" in str(error), error
        assert "token.Token" not in control("counts")
    except HttpResponseError as error:  # it got a token, which is not for this vault
        assert not REAL_NAMES and "AKV10022" in error.response.text(), error
    else:
        raise AssertionError("neither of them")


if __name__ == "__main__":
    answer(globals(), ENV["CONTROL"])
