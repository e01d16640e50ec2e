"""JSON Web Tokens of the fake: what it issues, and whether it believes one. PyJWT does the work."""

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from fakes.world import random_id, replace_file


class BadToken(Exception):
    """`kind`: malformed, signature, expired, early, revoked."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def new_key():
    return rsa.generate_private_key(65537, 2048)


class Issuer:
    """Signs as `name`, and knows its tokens again; several may have one key."""

    def __init__(self, world, name, key):
        self.world, self.name, self.key = world, name, key
        self.revoked = set()  # ids of tokens

    def issue(self, seconds, **claims):
        now = int(self.world.now())
        return jwt.encode({"iss": self.name, "iat": now, "nbf": now, "exp": now + int(seconds),
                           "jti": random_id(), **claims}, self.key, "RS256",
                          headers={"kid": self.name})

    def claims(self, token):
        """Of a token of ours that holds; BadToken."""
        found = signed_claims(token, self.key.public_key(), ["RS256"])
        if found.get("iss") != self.name:
            raise BadToken("malformed", f"{found.get('iss')} is not {self.name}")
        if found.get("jti") in self.revoked:
            raise BadToken("revoked", "the token was replaced")
        look_at_times(found, self.world.now())
        return found

    def revoke(self, token):
        self.revoked.add(jwt.decode(token, options={"verify_signature": False})["jti"])


def signed_claims(token, key, algorithms):
    """The claims under a good signature, whatever their time and audience."""
    times = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    try:
        return jwt.decode(token, key, algorithms=algorithms, options=times)
    except jwt.InvalidSignatureError as error:
        raise BadToken("signature", str(error)) from None
    except jwt.InvalidTokenError as error:
        raise BadToken("malformed", str(error)) from None


def look_at_times(claims, now, slack=0):
    """A number each, of the second or a part of it; MSAL sends no nbf."""
    exp, nbf = claims.get("exp"), claims.get("nbf", 0)
    if type(exp) not in (int, float) or type(nbf) not in (int, float):
        raise BadToken("malformed", "exp and nbf are numbers")
    if exp <= now:
        raise BadToken("expired", "the token expired")
    if nbf > now + slack:
        raise BadToken("early", "the token is not valid yet")


class TokenFile:
    """A token that a platform keeps in a file for its programs, and replaces from time to time."""

    LIFETIME = 86400

    def __init__(self, issuer, path, **claims):
        self.issuer, self.path, self.claims = issuer, path, claims
        self.token = None
        self.rotate()

    def rotate(self, seconds=LIFETIME):
        """A new one; the old one is nothing any more."""
        if self.token is not None:
            self.issuer.revoke(self.token)
        self.token = self.issuer.issue(seconds, **self.claims)
        replace_file(self.path, self.token)
        return self.token
