"""Which service a request is for, and which of its operations, by its path alone."""

import re

VERBS = ("encrypt", "decrypt", "wrapkey", "unwrapkey")
ON_A_KEY = {("POST", "create"): "create", ("POST", "rotate"): "rotate",
            ("GET", "versions"): "versions", ("GET", "rotationpolicy"): "rotationpolicy",
            ("PUT", "rotationpolicy"): "rotationpolicy"}
IN_IAM = ("SimulatePrincipalPolicy",)
ROUTES = (
    ("PUT", r"/latest/api/token", "imds", "Token"),
    ("GET", r"/latest/meta-data/iam/security-credentials/?", "imds", "Role"),
    ("GET", r"/latest/meta-data/iam/security-credentials/[^/]+", "imds", "Credentials"),
    ("GET", r"/v2/credentials/[^/]+", "container", "Credentials"),
    ("POST", r"/[^/]+/oauth2/v2\.0/token", "token", "Token"),
    ("GET", r"/[^/]+/v2\.0/\.well-known/openid-configuration", "token", "Configuration"),
    ("GET", r"/metadata/identity/oauth2/token", "identity", "Imds"),
    ("GET", r"/msi/token", "identity", "AppService"),
)


def find(call):
    """Sets `service` and `operation`; both stay empty where there is none."""
    if call.path == "/" and call.method == "POST":
        target = call.headers.get("X-Amz-Target")
        if target is not None:
            call.service = "kms"
            call.operation = target.removeprefix("TrentService.") if "." in target else ""
        elif (action := re.search(rb"(?:^|&)Action=(\w+)", call.body)) is not None:
            call.operation = action[1].decode()
            call.service = "iam" if call.operation in IN_IAM else "sts"
    elif call.path.startswith("/keys/"):
        call.service, call.operation = "vault", _on_a_key(call)
    else:
        for method, pattern, service, operation in ROUTES:
            if call.method == method and re.fullmatch(pattern, call.path):
                call.service, call.operation = service, operation


def _on_a_key(call):
    """/keys/{name}[/{version}][/{verb}]"""
    parts = call.path.rstrip("/").split("/")[2:]
    if call.method == "POST" and parts[-1] in VERBS and len(parts) in (2, 3):
        return parts[-1]
    if len(parts) == 2 and (call.method, parts[1]) in ON_A_KEY:
        return ON_A_KEY[call.method, parts[1]]
    if len(parts) in (1, 2):
        return {"GET": "get", "PATCH": "update"}.get(call.method, "")
    return ""
