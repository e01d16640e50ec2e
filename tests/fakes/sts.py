"""The fake AWS STS: roles to assume, by a signed request or by a token of another party. XML."""

import re
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from fakes.callers import NotSigned
from fakes.jwts import BadToken, TokenFile
from fakes.world import ACCOUNT, Answer, random_id

XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"
AUDIENCE = "sts.amazonaws.com"
NOT_SIGNED = {"missing": ("MissingAuthenticationToken", 403),
              "incomplete": ("IncompleteSignature", 400),
              "unknown": ("InvalidClientTokenId", 403), "expired": ("ExpiredToken", 403),
              "signature": ("SignatureDoesNotMatch", 403), "skew": ("SignatureDoesNotMatch", 403)}
BAD_TOKEN = {"expired": "ExpiredTokenException"}  # every other: InvalidIdentityToken


class StsError(Exception):
    def __init__(self, code, text, status=400):
        super().__init__(text)
        self.code, self.status = code, status


class Sts:
    """`settings`: the roles that exist, and the external id that AssumeRole has to give,
    and the ARN that all callers have, where one is set."""

    service = "sts"

    def __init__(self, world, callers, issuer):
        self.world, self.callers, self.issuer = world, callers, issuer
        self.web = TokenFile(issuer, world.folder / "web-identity-token", aud=AUDIENCE,
                             sub="system:serviceaccount:dekhand:dekhand")
        self.reset()

    def reset(self):
        self.settings = {"roles": ["dekhand"], "external_id": None, "caller": None}

    def environment(self):
        return {"AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/dekhand",
                "AWS_WEB_IDENTITY_TOKEN_FILE": self.web.path}

    def rotate(self, seconds=TokenFile.LIFETIME):
        """The token file, as Kubernetes does."""
        return {"token": self.web.rotate(seconds)}

    # ---- a request ----

    def answer(self, call):
        try:
            form = dict(parse_qsl(call.body.decode("utf-8", "replace"), True))
            if form.get("Version") != "2011-06-15":
                raise StsError("InvalidAction", f"Could not find operation {call.operation} for "
                               f"version {form.get('Version')}")
            if call.operation == "AssumeRole":
                return self._assume_role(call, form)
            if call.operation == "GetCallerIdentity":
                return self._caller_identity(call)
            if call.operation == "AssumeRoleWithWebIdentity":
                return self._with_web_identity(call, form)
            raise StsError("InvalidAction", f"Could not find operation {call.operation}")
        except StsError as error:
            return refusal(error.code, str(error), error.status)

    def throttled(self, _call):
        return refusal("Throttling", "Rate exceeded")

    def _caller(self, call):
        key = signer(self.callers, call, "sts")
        call.who = key.arn
        return key

    def _caller_identity(self, call):
        """Whoever asks is told; no right is needed."""
        signed = self._caller(call).arn
        arn = self.settings["caller"] or signed
        return as_xml(
            f'<GetCallerIdentityResponse xmlns="{XMLNS}"><GetCallerIdentityResult>'
            f"<Arn>{escape(arn)}</Arn><UserId>AIDADEKHAND</UserId><Account>{ACCOUNT}</Account>"
            "</GetCallerIdentityResult><ResponseMetadata>"
            f"<RequestId>{random_id()}</RequestId></ResponseMetadata></GetCallerIdentityResponse>")

    def _assume_role(self, call, form):
        key = self._caller(call)
        role = self._role(form)
        external_id = self.settings["external_id"]
        if (role not in self.settings["roles"]
                or external_id is not None and form.get("ExternalId") != external_id
                or self.world.is_denied("sts:AssumeRole", key.id)):
            raise StsError("AccessDenied", f"User: {key.arn} is not authorized to perform: "
                           f"sts:AssumeRole on resource: {form['RoleArn']}", 403)
        return self._session("AssumeRole", role, form)

    def _with_web_identity(self, call, form):
        token = form.get("WebIdentityToken", "")
        role = self._role(form)
        try:
            claims = self.issuer.claims(token)
        except BadToken as error:
            raise StsError(BAD_TOKEN.get(error.kind, "InvalidIdentityToken"),
                           f"Token is not valid: {error}") from None
        if claims.get("aud") != AUDIENCE:
            raise StsError("InvalidIdentityToken", "Incorrect token audience")
        call.who = claims["sub"]
        if (role not in self.settings["roles"]
                or self.world.is_denied("sts:AssumeRoleWithWebIdentity", None)):
            raise StsError("AccessDenied", "Not authorized to perform "
                           "sts:AssumeRoleWithWebIdentity", 403)
        return self._session("AssumeRoleWithWebIdentity", role, form,
                             f"<SubjectFromWebIdentityToken>{escape(claims['sub'])}"
                             f"</SubjectFromWebIdentityToken><Audience>{AUDIENCE}</Audience>")

    def _role(self, form):
        """The name of the role that is asked for; the other members are looked at as well."""
        found = re.fullmatch(rf"arn:aws:iam::{ACCOUNT}:role/(?:[\w+=,.@/-]*/)?([\w+=,.@-]+)",
                             form.get("RoleArn", ""))
        if found is None:
            raise StsError("ValidationError", f"{form.get('RoleArn', '')} is invalid")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", form.get("RoleSessionName", "")):
            raise StsError("ValidationError", "1 validation error detected: Value at "
                           "'roleSessionName' failed to satisfy constraint")
        seconds = form.get("DurationSeconds", "3600")
        if not seconds.isdecimal() or not 900 <= int(seconds) <= 43200:
            raise StsError("ValidationError", f"1 validation error detected: Value '{seconds}' at "
                           "'durationSeconds' failed to satisfy constraint")
        return found[1]

    def _session(self, action, role, form, more=""):
        name = form["RoleSessionName"]
        seconds = self.world.lifetime("sts", int(form.get("DurationSeconds", "3600")))
        key = self.callers.new_session(f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}",
                                       seconds)
        return as_xml(
            f'<{action}Response xmlns="{XMLNS}"><{action}Result>'
            f"<AssumedRoleUser><AssumedRoleId>AROADEKHAND:{escape(name)}</AssumedRoleId>"
            f"<Arn>{escape(key.arn)}</Arn></AssumedRoleUser>"
            f"<Credentials><AccessKeyId>{key.id}</AccessKeyId>"
            f"<SecretAccessKey>{escape(key.secret)}</SecretAccessKey>"
            f"<SessionToken>{escape(key.token)}</SessionToken>"
            f"<Expiration>{self.world.iso(key.expires)}</Expiration></Credentials>{more}"
            f"</{action}Result><ResponseMetadata><RequestId>{random_id()}</RequestId>"
            f"</ResponseMetadata></{action}Response>")


def signer(callers, call, service, region=None):
    """The access key that a request is signed with, for this region where one is named; StsError."""
    try:
        key, signed_for = callers.verify(call, service)
    except NotSigned as error:
        code, status = NOT_SIGNED[error.kind]
        raise StsError(code, str(error), status) from None
    if region not in (None, signed_for):
        raise StsError("SignatureDoesNotMatch", "Credential should be scoped to a valid region. ",
                       403)
    return key


def refusal(code, text, status=400):
    return as_xml(f'<ErrorResponse xmlns="{XMLNS}"><Error><Type>Sender</Type><Code>{code}</Code>'
                f"<Message>{escape(text)}</Message></Error><RequestId>{random_id()}</RequestId>"
                "</ErrorResponse>", status)


def as_xml(text, status=200):
    return Answer(status, text.encode(), [("x-amzn-RequestId", random_id()),
                                          ("Content-Type", "text/xml")])
