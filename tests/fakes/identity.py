"""Managed identity: tokens for who runs on a machine of Azure, or in its App Service."""

import secrets

from fakes.world import as_json, random_id

RESOURCE = "https://vault.azure.net"


class Identity:
    """`settings`: the client id of a user-assigned identity that there is beside the machine's."""

    service = "identity"

    def __init__(self, world, entra):
        self.world, self.entra = world, entra
        self.header = secrets.token_hex(16)
        self.own = random_id()
        self.reset()

    def reset(self):
        self.settings = {"client_id": self.own}

    def environment(self):
        return {"AZURE_IDENTITY_HEADER": self.header, "AZURE_IDENTITY_PATH": "/msi/token",
                "AZURE_IDENTITY_CLIENT": self.own}

    def answer(self, call):
        if call.operation == "Imds":
            return self._imds(call)
        if call.headers.get("X-IDENTITY-HEADER") != self.header:
            return as_json({"statusCode": 401, "message": "X-IDENTITY-HEADER is missing or wrong"},
                           401)
        if call.query.get("api-version") != "2019-08-01":
            return as_json({"statusCode": 400, "message": "unsupported api-version"}, 400)
        return self._token(call, expires_in=False)

    def throttled(self, _call):
        return as_json({"error": "too_many_requests", "error_description": "Temporarily throttled"},
                       429)

    def _imds(self, call):
        if call.headers.get("Metadata") != "true":
            return _refusal("Required metadata header not specified")
        if call.headers.get("X-Forwarded-For") is not None:
            return _refusal("Forwarded requests are not served")
        if call.query.get("api-version") not in ("2018-02-01", "2019-08-01", "2020-06-01"):
            return _refusal("api-version is missing or not supported")
        return self._token(call, expires_in=True)

    def _token(self, call, expires_in):
        """Numbers are strings here."""
        resource, client = call.query.get("resource"), call.query.get("client_id", self.own)
        if not resource:
            return _refusal("resource is missing")
        if resource != RESOURCE:
            return _refusal(f"AADSTS500011: The resource principal named {resource} was not found")
        if client != self.settings["client_id"]:
            return _refusal("Identity not found")
        issued = self.entra.issue(client, resource, "identity")
        ends = int(self.world.now()) + issued["expires_in"]
        answer = {"access_token": issued["access_token"], "client_id": client,
                  "expires_on": str(ends), "resource": resource, "token_type": "Bearer"}
        if expires_in:
            answer.update(expires_in=str(issued["expires_in"]),
                          ext_expires_in=str(issued["expires_in"]),
                          not_before=str(int(self.world.now())))
        return as_json(answer)


def _refusal(text):
    return as_json({"error": "invalid_request", "error_description": text}, 400)
