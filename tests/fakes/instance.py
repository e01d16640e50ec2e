"""What a machine at AWS tells its programs: IMDSv2 and the container endpoint."""

import secrets

from fakes.world import ACCOUNT, Answer, as_json, random_id, replace_file

ROLE = "dekhand-node"
TOKEN_SECONDS = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
MOST_SECONDS = 21600
DEFAULT_SECONDS = 21600
RENEW = 300  # seconds before the end from when new credentials are given out


class Session:
    """The credentials that an endpoint gives out, until they are nearly over."""

    def __init__(self, world, callers, service):
        self.world, self.callers, self.service = world, callers, service
        self.key = None

    def current(self):
        seconds = self.world.lifetime(self.service, DEFAULT_SECONDS)
        left = self.key.expires - self.world.now() if self.key else 0
        if left <= RENEW or left > seconds or self.key.id not in self.callers.by_id:
            self.renew(seconds)
        return self.key

    def renew(self, seconds):
        self.key = self.callers.new_session(
            f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{self.service}", seconds)


class Imds:
    """Version 2 only: without a token that holds nothing is told."""

    service = "imds"

    def __init__(self, world, callers):
        self.world = world
        self.session = Session(world, callers, "imds")
        self.reset()

    def reset(self):
        self.tokens = {}  # token: when it ends
        self.session.key = None
        self.settings = {"role": ROLE}

    def environment(self):
        return {}

    def rotate(self):
        """Other credentials at the next call; those that are out go on."""
        self.session.key = None
        return {}

    def answer(self, call):
        if call.operation == "Token":
            return self._token(call)
        ends = self.tokens.get(call.headers.get(TOKEN))
        if ends is None or ends <= self.world.now():
            return _text("401 - Unauthorized", 401)
        role = self.settings["role"]
        if call.operation == "Role":
            return _text(role)
        if call.path.rpartition("/")[2] != role:
            return _text("404 - Not Found", 404)
        key = self.session.current()
        return as_json({"Code": "Success", "LastUpdated": self.world.iso(self.world.now()),
                        "Type": "AWS-HMAC", "AccessKeyId": key.id, "SecretAccessKey": key.secret,
                        "Token": key.token, "Expiration": self.world.iso(key.expires)},
                       kind="text/plain")

    def throttled(self, _call):
        return _text("429 - Too Many Requests", 429)

    def _token(self, call):
        if call.headers.get("X-Forwarded-For") is not None:
            return _text("403 - Forbidden", 403)
        seconds = call.headers.get(TOKEN_SECONDS, "")
        if not seconds.isdecimal() or not 1 <= int(seconds) <= MOST_SECONDS:
            return _text("400 - Bad Request", 400)
        token = secrets.token_urlsafe(40) + "=="
        self.tokens[token] = self.world.now() + int(seconds)
        answer = _text(token)
        answer.headers.append((TOKEN_SECONDS, seconds))
        return answer


class Container:
    """ECS and EKS Pod Identity: who has the token of the file gets credentials."""

    service = "container"

    def __init__(self, world, callers):
        self.world = world
        self.session = Session(world, callers, "container")
        self.id = random_id()
        self.path = world.folder / "container-token"
        self.rotate()

    def reset(self):
        self.session.key = None

    def environment(self):
        return {"AWS_CONTAINER_TOKEN_FILE": self.path,
                "AWS_CONTAINER_PATH": f"/v2/credentials/{self.id}"}

    def rotate(self):
        """Another token in the file, the only one from now on, and other credentials."""
        self.token = secrets.token_urlsafe(60)
        replace_file(self.path, self.token)
        self.session.key = None
        return {"token": self.token}

    def answer(self, call):
        if call.headers.get("Authorization") != self.token:
            return as_json({"code": "AccessDenied", "message": "the token is not valid"}, 401)
        if call.path.rpartition("/")[2] != self.id:
            return as_json({"code": "InvalidIdInRequest", "message": "CredentialsV2Request: "
                            "Credentials not found"}, 404)
        key = self.session.current()
        return as_json({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", "AccessKeyId": key.id,
                        "SecretAccessKey": key.secret, "Token": key.token,
                        "Expiration": self.world.iso(key.expires)})

    def throttled(self, _call):
        return as_json({"code": "TooManyRequests", "message": "slow down"}, 429)


def _text(text, status=200):
    return Answer(status, text.encode(), [("Content-Type", "text/plain"),
                                          ("Server", "EC2ws")])
