"""The token server and the vault's look at tokens, with tokens that PyJWT makes."""

import json
import os
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from ssl import create_default_context
from urllib.error import HTTPError
from urllib.parse import parse_qsl, quote, urlencode
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fakes.cloud import steer  # noqa: E402  (found by the line above)
from fakes.judges import answer  # noqa: E402

ENV = dict(os.environ)
URL = f"{ENV['FAKE_TLS']}/{ENV['AZURE_TENANT']}/oauth2/v2.0/token"
SCOPE = "https://vault.azure.net/.default"
PEM = Path(ENV["AZURE_CERT"]).read_bytes()
KEY, CERTIFICATE = load_pem_private_key(PEM, None), load_pem_x509_certificate(PEM)
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_open = build_opener(ProxyHandler({}), HTTPSHandler(
    context=create_default_context(cafile=ENV["FAKE_CA"]))).open


def control(verb, **members):
    return steer(ENV["CONTROL"], verb, **members)


def now():
    return int(control("clock")["now"])


def http(url, body=None, **headers):
    """(status, headers, what the JSON says)"""
    try:
        with _open(Request(url, body, headers), timeout=30) as found:
            return found.status, found.headers, json.load(found)
    except HTTPError as error:
        return error.code, error.headers, json.load(error)


def sign_in(body=None, **form):
    """The answer to a form; the members of the right one stand as they are where none is given."""
    pairs = {"grant_type": "client_credentials", "client_id": ENV["AZURE_CLIENT"], "scope": SCOPE,
             **form}
    body = urlencode(pairs) if body is None else body
    return http(URL, body.encode(), **{"Content-Type": "application/x-www-form-urlencoded"})


def refused(number, status, told):
    found = told[2]
    assert told[0] == status and found["error_codes"] == [number], told
    assert found["error_description"].startswith(f"AADSTS{number}: ")
    return found["error"]


def thumbprint(algorithm):
    return urlsafe_b64encode(CERTIFICATE.fingerprint(algorithm)).rstrip(b"=").decode()


def assertion(key=KEY, alg="PS256", head=None, **other):
    """What the key of the certificate signs for us; `other` claims in place of those."""
    at = now()
    claims = {"aud": URL, "iss": ENV["AZURE_CLIENT"], "sub": ENV["AZURE_CLIENT"],
              "jti": str(uuid4()), "nbf": at, "exp": at + 600, **other}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, alg,
                      headers=head or {"typ": "JWT", "x5t#S256": thumbprint(SHA256())})


def sign_in_with(token):
    return sign_in(client_assertion_type=ASSERTION, client_assertion=token)


def check_certificate_in_both_forms():
    for token in (assertion(), assertion(alg="RS256", head={"x5t": thumbprint(SHA1())})):
        status, _, told = sign_in_with(token)
        assert status == 200 and told["token_type"] == "Bearer" and told["expires_in"] == 3599
        claims = jwt.decode(told["access_token"], options={"verify_signature": False})
        assert claims["aud"] == "https://vault.azure.net" and claims["appid"] == ENV["AZURE_CLIENT"]


def check_certificate_that_is_not_believed():
    stranger = rsa.generate_private_key(65537, 2048)
    at = now()
    for number, token in (
            (700027, assertion(stranger)),
            (700027, assertion(head={"x5t#S256": thumbprint(SHA1())})),
            (700027, assertion(alg="RS512")),
            (700024, assertion(nbf=at - 700, exp=at - 1)),
            (700024, assertion(exp=at + 700)),
            (700024, assertion(nbf=at + 300)),
            (700024, assertion(exp=None)),
            (700023, assertion(aud=URL + "/")),
            (700021, assertion(iss=ENV["AZURE_TENANT"])),
            (700021, assertion(sub=None)),
            (50012, assertion(jti=None)),
            (50027, "no token")):
        assert refused(number, 401, sign_in_with(token)) == "invalid_client"


def check_assertion_is_good_once():
    token = assertion()
    assert sign_in_with(token)[0] == 200
    refused(50012, 401, sign_in_with(token))


def check_form_is_decoded():
    secret = ENV["AZURE_SECRET"]
    assert sign_in(client_secret=secret)[0] == 200
    plain = (f"grant_type=client_credentials&client_id={ENV['AZURE_CLIENT']}"
             f"&scope={quote(SCOPE, '')}")
    assert sign_in(f"{plain}&client_secret={quote(secret, '')}")[0] == 200
    for wrong in (secret, secret.replace("%", "%25"), quote(secret).replace("%2B", "+")):
        assert dict(parse_qsl(f"s={wrong}"))["s"] != secret
        status, _, told = sign_in(f"{plain}&client_secret={wrong}")
        assert status in (400, 401) and "error_codes" in told
    refused(7000215, 401, sign_in(client_secret=secret[:-1]))
    refused(7000218, 401, sign_in())


def check_other_members_of_the_form():
    secret = {"client_secret": ENV["AZURE_SECRET"]}
    assert refused(70003, 400, sign_in(**secret, grant_type="password")) == "unsupported_grant_type"
    assert refused(1002012, 400, sign_in(**secret, scope=SCOPE[:-9])) == "invalid_scope"
    assert refused(500011, 400, sign_in(**secret, scope="https://x.example/.default")
                   ) == "invalid_resource"
    refused(700016, 400, sign_in(**secret, client_id=str(uuid4())))
    refused(90014, 400, sign_in(client_assertion=assertion()))
    told = http(URL.replace(ENV["AZURE_TENANT"], str(uuid4())), b"", **{
        "Content-Type": "application/x-www-form-urlencoded"})
    refused(90002, 400, told)


def check_vault_looks_at_its_tokens():
    url = f"{ENV['AZURE_VAULT']}/keys/kek?api-version=7.4"
    token = sign_in(client_secret=ENV["AZURE_SECRET"])[2]["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    stranger = rsa.generate_private_key(65537, 2048)
    assert http(url, Authorization=f"Bearer {token}")[0] == 200
    head, body, signature = token.split(".")
    forged = [jwt.encode(claims, stranger, "RS256"), jwt.encode(claims, None, "none"),
              f"{head}.{body}.{signature[:-8]}AAAAAAAA", "x", ""]
    for bad in forged:
        status, headers, told = http(url, Authorization=f"Bearer {bad}")
        assert status == 401 and told["error"]["code"] == "Unauthorized", bad
        assert headers["WWW-Authenticate"].startswith("Bearer authorization=")
    control("clock", offset=3600)
    assert http(url, Authorization=f"Bearer {token}")[0] == 401
    control("clock", offset=0)
    other = sign_in(client_secret=ENV["AZURE_SECRET"],
                    scope="https://managedhsm.azure.net/.default")[2]["access_token"]
    assert "AKV10022" in http(url, Authorization=f"Bearer {other}")[2]["error"]["message"]


def check_vault_wants_an_api_version():
    token = sign_in(client_secret=ENV["AZURE_SECRET"])[2]["access_token"]
    for query, code in (("", "MissingApiVersionParameter"), ("?api-version=1.0", "BadParameter")):
        url = f"{ENV['AZURE_VAULT']}/keys/kek{query}"
        assert http(url)[0] == 401
        status, headers, told = http(url, Authorization=f"Bearer {token}")
        assert status == 400 and told["error"]["code"] == code and headers["x-ms-request-id"]


def check_challenge_is_as_it_was_set():
    url = f"{ENV['AZURE_VAULT']}/keys/kek?api-version=7.4"
    tenant = ENV["AZURE_TENANT"]
    for how, header in (
            ({}, f'Bearer authorization="https://login.microsoftonline.com/{tenant}", '
                 'resource="https://vault.azure.net"'),
            ({"uri_form": True, "reversed": True, "separator": " "},
             'Bearer resource="https://vault.azure.net" '
             f'authorization_uri="https://login.microsoftonline.com/{tenant}"'),
            ({"authority": "https://evil.example", "scope_form": True, "separator": ","},
             f'Bearer authorization="https://evil.example/{tenant}",'
             'scope="https://vault.azure.net/.default"'),
            ({"challenge": "Basic realm=x"}, "Basic realm=x")):
        control("reset")
        control("set", service="vault", **how)
        assert http(url)[1]["WWW-Authenticate"] == header


def crypt(operation, value):
    """(status, what is told)"""
    token = sign_in(client_secret=ENV["AZURE_SECRET"])[2]["access_token"]
    body = json.dumps({"alg": "RSA-OAEP-256", "value": value}).encode()
    status, _, told = http(f"{ENV['AZURE_VAULT']}/keys/kek/{operation}?api-version=7.4", body,
                           Authorization=f"Bearer {token}", **{"Content-Type": "application/json"})
    return status, told


def check_base64url_is_taken_strictly():
    assert crypt("encrypt", "QUFB")[0] == 200
    for value in ("QUFB=", "QUF", "QU+B", "QU B", None, 7):  # QUF: bits that stand for nothing
        status, told = crypt("encrypt", value)
        assert status == 400 and told["error"]["code"] == "BadParameter", value


def check_kid_of_another_version():
    kid = crypt("encrypt", "QUFB")[1]["kid"]
    control("script", service="vault", answers=[{"fault": "wrong_key_id"}])
    status, told = crypt("encrypt", "QUFB")
    assert status == 200 and told["kid"] != kid and told["kid"][:-32] == kid[:-32]


if __name__ == "__main__":
    answer(globals(), ENV["CONTROL"])
