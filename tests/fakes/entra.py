"""The fake token server of Microsoft Entra: client credentials in their three forms."""

import hashlib
import re
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from fakes.certificates import pem_of, self_signed
from fakes.jwts import BadToken, TokenFile, look_at_times, signed_claims
from fakes.world import as_json, b64url, random_id

SECRET = "canary~d3kh4nd+/&=%25 b2f1c7e6"  # every character that a form has to escape
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 600  # seconds of an assertion
SLACK = 30  # seconds that a client's clock may be ahead
FEDERATED_AUDIENCE = "api://AzureADTokenExchange"
SUBJECT = "system:serviceaccount:dekhand:dekhand"
TOKEN_SECONDS = 3599


class EntraError(Exception):
    def __init__(self, status, error, number, text):
        super().__init__(text)
        self.status, self.error, self.number = status, error, number


class Entra:
    """`settings`: `secret_expired`; `resources` that tokens are for; `subject` of workloads."""

    service = "token"

    def __init__(self, world, issuer, workloads, tenant):
        self.world, self.issuer, self.workloads, self.tenant = world, issuer, workloads, tenant
        self.client = random_id()
        key = rsa.generate_private_key(65537, 2048)
        self.certificate = self_signed(key, "dekhand client")
        self.certificate_path = world.folder / "client.pem"
        self.certificate_path.write_bytes(pem_of(key, self.certificate))
        self.certificate_path.chmod(0o600)
        self.file = TokenFile(workloads, world.folder / "federated-token", aud=FEDERATED_AUDIENCE,
                              sub=SUBJECT)
        self.reset()

    def reset(self):
        self.seen = set()  # ids of assertions
        self.settings = {"secret_expired": False, "subject": SUBJECT, "resources": [
            "https://vault.azure.net", "https://managedhsm.azure.net"]}

    def environment(self):
        return {"AZURE_TENANT": self.tenant, "AZURE_CLIENT": self.client, "AZURE_SECRET": SECRET,
                "AZURE_CERT": self.certificate_path, "AZURE_FEDERATED": self.file.path}

    def rotate(self, seconds=TokenFile.LIFETIME):
        """The token file, as Kubernetes does."""
        return {"token": self.file.rotate(seconds)}

    # ---- a request ----

    def answer(self, call):
        tenant = call.path.split("/")[1]
        try:
            if tenant != self.tenant:
                raise EntraError(400, "invalid_request", 90002, f"Tenant '{tenant}' not found. "
                                 "Check to make sure you have the correct tenant ID and are "
                                 "signing into the correct cloud.")
            if call.operation == "Configuration":
                return as_json(self._configuration(call))
            return as_json(self._token(call), headers=[("x-ms-request-id", random_id())])
        except EntraError as error:
            return self._refusal(error)

    def throttled(self, _call):
        return self._refusal(EntraError(429, "temporarily_unavailable", 90055, "There are too many "
                                        "incoming requests."))

    def _refusal(self, error):
        trace, correlation = random_id(), random_id()
        stamp = self.world.iso(self.world.now()).replace("T", " ")
        return as_json({
            "error": error.error, "error_description": f"AADSTS{error.number}: {error} Trace ID: "
            f"{trace} Correlation ID: {correlation} Timestamp: {stamp}",
            "error_codes": [error.number], "timestamp": stamp, "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={error.number}"},
            error.status, headers=[("x-ms-request-id", trace)])

    def _configuration(self, call):
        base = f"{call.base}/{self.tenant}"
        return {"token_endpoint": f"{base}/oauth2/v2.0/token", "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "jwks_uri": f"{base}/discovery/v2.0/keys", "tenant_region_scope": "EU",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code"], "scopes_supported": ["openid"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"]}

    def _token(self, call):
        form = _form(call)
        if form.get("grant_type") != "client_credentials":
            raise EntraError(400, "unsupported_grant_type", 70003, "The app requested an "
                             "unsupported grant type.")
        client = form.get("client_id", "")
        if client != self.client:
            raise EntraError(400, "unauthorized_client", 700016, f"Application with identifier "
                             f"'{client}' was not found in the directory '{self.tenant}'.")
        resource = self._resource(form.get("scope", ""))
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION:
                raise EntraError(400, "invalid_request", 90014, "The required field "
                                 "'client_assertion_type' is missing from the credential.")
            self._look_at_assertion(call, form["client_assertion"])
        else:
            self._look_at_secret(form)
        call.who = client
        return self.issue(client, resource, "token")

    def issue(self, client, resource, service):
        """An access token of this tenant; `service` is whose lifetime it has."""
        seconds = int(self.world.lifetime(service, TOKEN_SECONDS))
        token = self.issuer.issue(seconds, aud=resource, appid=client, oid=client, sub=client,
                                  tid=self.tenant, ver="1.0")
        return {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds,
                "access_token": token}

    def _resource(self, scope):
        resource, dot, rest = scope.rpartition("/.default")
        if not dot or rest:
            raise EntraError(400, "invalid_scope", 1002012, f"The provided value for scope {scope} "
                             "is not valid. Client credential flows must have a scope value with "
                             "/.default suffixed to the resource identifier (application ID URI).")
        if resource not in self.settings["resources"]:
            raise EntraError(400, "invalid_resource", 500011, "The resource principal named "
                             f"{resource} was not found in the tenant named {self.tenant}.")
        return resource

    # ---- who the client is ----

    def _look_at_secret(self, form):
        if not form.get("client_secret"):
            raise EntraError(401, "invalid_client", 7000218, "The request body must contain the "
                             "following parameter: 'client_assertion' or 'client_secret'.")
        if form["client_secret"] != SECRET:
            raise EntraError(401, "invalid_client", 7000215, "Invalid client secret provided. "
                             "Ensure the secret being sent in the request is the client secret "
                             "value, not the client secret ID, for a secret added to app "
                             f"'{self.client}'.")
        if self.settings["secret_expired"]:
            raise EntraError(401, "invalid_client", 7000222, "The provided client secret keys for "
                             f"app '{self.client}' are expired.")

    def _look_at_assertion(self, call, assertion):
        try:
            head = jwt.get_unverified_header(assertion)
        except jwt.InvalidTokenError:
            raise _invalid(50027, "JWT token is invalid or malformed.") from None
        if "x5t" in head or "x5t#S256" in head:
            self._look_at_signed(call, assertion, head)
        else:
            self._look_at_federated(assertion)

    def _look_at_signed(self, call, assertion, head):
        """By the key of the certificate that the application has. MSAL pads its thumbprint."""
        known = {"x5t": b64url(self.certificate.fingerprint(SHA1())),
                 "x5t#S256": b64url(self.certificate.fingerprint(SHA256()))}
        if any(str(head[name]).rstrip("=") != known[name] for name in known if name in head):
            raise _invalid(700027, "The certificate with identifier used to sign the client "
                           "assertion is not registered on application.")
        if head.get("typ") != "JWT":
            raise _invalid(50027, "JWT token is invalid or malformed: typ.")
        try:
            claims = signed_claims(assertion, self.certificate.public_key(), ["PS256", "RS256"])
        except BadToken as error:
            raise _invalid(700027, f"Client assertion failed signature validation. {error}"
                           ) from None
        now = self.world.now()
        try:
            look_at_times(claims, now, SLACK)
        except BadToken as error:
            raise _invalid(700024, f"Client assertion is not within its valid time range. {error}"
                           ) from None
        if claims["exp"] > now + LONGEST + SLACK:
            raise _invalid(700024, "Client assertion is not within its valid time range: it ends "
                           f"more than {LONGEST} seconds from now.")
        if claims.get("aud") not in _audiences(call, self.tenant):
            raise _invalid(700023, f"Client assertion audience claim does not match Realm issuer: "
                           f"{claims.get('aud')}")
        if not claims.get("iss") == claims.get("sub") == self.client:
            raise _invalid(700021, "Client assertion application identifier doesn't match "
                           "'client_id' parameter.")
        mark = hashlib.sha256(str(claims.get("jti")).encode()).digest()
        if not claims.get("jti") or mark in self.seen:
            raise _invalid(50012, "The assertion has no jti, or one that was used before.")
        self.seen.add(mark)

    def _look_at_federated(self, assertion):
        """By a token of the cluster that the workload runs in."""
        try:
            claims = self.workloads.claims(assertion)
        except BadToken as error:
            if error.kind in ("expired", "early"):
                raise _invalid(700024, "Client assertion is not within its valid time range. "
                               f"{error}") from None
            raise _invalid(50013, f"Assertion failed signature validation. {error}") from None
        if claims.get("aud") != FEDERATED_AUDIENCE or claims.get("sub") != self.settings["subject"]:
            raise _invalid(700213, "No matching federated identity record found for presented "
                           f"assertion subject '{claims.get('sub')}'.")


def _invalid(number, text):
    return EntraError(401, "invalid_client", number, text)


def _audiences(call, tenant):
    """The token URL, at the host that was asked or the one that it has in the world."""
    return {f"{base}/{tenant}/oauth2/v2.0/token"
            for base in (call.base, "https://login.microsoftonline.com")}


def _form(call):
    """What a form says; one that is not percent-encoded right is refused."""
    text = call.body.decode("utf-8", "replace")
    kind = call.headers.get("Content-Type", "")
    if not kind.startswith("application/x-www-form-urlencoded"):
        raise EntraError(400, "invalid_request", 900144, "The request body must contain the "
                         "following parameter: 'grant_type'.")
    if re.search(r"%(?![0-9a-fA-F]{2})|[^!-~]", text):
        raise EntraError(400, "invalid_request", 90013, "Invalid input received from the user.")
    pairs = parse_qsl(text, True)
    if len(dict(pairs)) != len(pairs):
        raise EntraError(400, "invalid_request", 90013, "A parameter is there twice.")
    return dict(pairs)
