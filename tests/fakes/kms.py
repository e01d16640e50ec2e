"""The fake AWS KMS: JSON 1.1 over POST /, signed."""

import base64
import binascii
import json
import os
import re

from fakes.callers import NotSigned
from fakes.kms_keys import DAY, REGION, ROTATIONS, KmsError, Keys
from fakes.plaintexts import Plaintexts
from fakes.world import ACCOUNT, Answer, random_id

USER = f"arn:aws:iam::{ACCOUNT}:user/dekhand"
SIZES = {"AES_256": 32, "AES_128": 16}
SERVER_FAULTS = {"KMSInternalException": 500, "KeyUnavailableException": 500,
                 "DependencyTimeoutException": 503}
NOT_SIGNED = {"missing": "MissingAuthenticationTokenException",
              "incomplete": "IncompleteSignatureException",
              "unknown": "UnrecognizedClientException", "expired": "ExpiredTokenException",
              "signature": "InvalidSignatureException", "skew": "InvalidSignatureException"}
NEEDS_NO_KEY = {"CreateKey", "ListAliases"}


class Request:
    """The members of a request, of the right type and size."""

    def __init__(self, call):
        try:
            self.members = json.loads(call.body or b"{}")
        except ValueError:
            self.members = None
        if not isinstance(self.members, dict):
            raise KmsError("SerializationException")

    def text(self, name, needed=False):
        return self._get(name, str, needed)

    def number(self, name, least, most, default=None):
        value = self._get(name, int, False)
        if value is not None and not least <= value <= most:
            raise _invalid(name, value, f"Member must have value between {least} and {most}")
        return default if value is None else value

    def flag(self, name):
        return self._get(name, bool, False) or False

    def blob(self, name, most):
        try:
            data = base64.b64decode(self._get(name, str, True), validate=True)
        except (binascii.Error, ValueError):
            raise KmsError("SerializationException") from None
        if not data:
            raise _invalid(name, "", "Member must have length greater than or equal to 1")
        if len(data) > most:
            raise _invalid(name, "", f"Member must have length less than or equal to {most}")
        return data

    def context(self, name="EncryptionContext"):
        found = self._get(name, dict, False) or {}
        if not all(isinstance(value, str) for value in found.values()):
            raise KmsError("SerializationException")
        return found

    def _get(self, name, kind, needed):
        value = self.members.get(name)
        if value is None and needed:
            raise _invalid(name, "null", "Member must not be null")
        if value is not None and type(value) is not kind:
            raise KmsError("SerializationException")
        return value


def _invalid(name, value, constraint):
    member = name[0].lower() + name[1:]
    return KmsError("ValidationException", f"1 validation error detected: Value '{value}' at "
                    f"'{member}' failed to satisfy constraint: {constraint}")


class Kms:
    """`settings`: how many aliases a page has."""

    service = "kms"

    def __init__(self, world, callers):
        self.world, self.callers = world, callers
        self.keys = Keys(world)
        self.plaintexts = Plaintexts()
        self.key = self.keys.create()
        self.mrk = self.keys.create(multi_region=True)
        self.other = self.keys.create()
        self.first_user = self.user = callers.new_user(USER)
        self.reset()

    def reset(self):
        """As at the start; the keys that tests were told of keep their ids and their material."""
        self.plaintexts.forget()
        kept = (self.key, self.mrk, self.other)
        self.keys.keys = {key.id: key for key in kept}
        self.keys.gone.clear()
        for key in kept:
            key.state, key.deletion, key.period, key.on_demand = "Enabled", None, 0, 0
            del key.materials[1:]
        self.keys.aliases = {"alias/dekhand": self.key.id, "alias/mrk": self.mrk.id,
                             "alias/other": self.other.id}
        self.settings = {"aliases_a_page": 50}
        self.user = self.first_user
        self.callers.by_id[self.user.id] = self.user

    def environment(self):
        return {"AWS_KEY_ARN": self.key.arn(REGION), "AWS_MRK_ARN": self.mrk.arn(REGION),
                "AWS_OTHER_ARN": self.other.arn(REGION), "AWS_ID": self.user.id,
                "AWS_SECRET": self.user.secret}

    # ---- what tests ask for ----

    def rotate(self):
        """Another access key of the user; the old one is nothing any more."""
        self.callers.revoke(self.user)
        self.user = self.callers.new_user(USER)
        return {"id": self.user.id, "secret": self.user.secret}

    def set_key(self, name=None, id=None, state=None, enabled=None, alias=None, create=False,
                multi_region=False, rotate=False, account=None):
        """Sets the state of a key, or makes one; points an alias at it; gives it new material."""
        try:
            key = self.keys.create(multi_region) if create else self.keys.find(name or id, REGION)
        except KmsError as error:
            raise ValueError(str(error)) from None
        if account is not None:
            key.account = account
        if enabled is not None:
            state = "Enabled" if enabled else "Disabled"
        if state is not None:
            key.state = state
            key.deletion = self.world.now() + 7 * DAY if state == "PendingDeletion" else None
        if alias is not None:
            self.keys.aliases[alias] = key.id
        if rotate:
            key.rotate()
        return _metadata(key, REGION)

    # ---- a request ----

    def answer(self, call):
        try:
            operation = getattr(self, "do_" + _snake(call.operation), None)
            if operation is None or not call.operation:
                raise KmsError("UnknownOperationException")
            caller, region = self._caller(call)
            call.who = caller.arn
            result = operation(call, Request(call), region, caller)
            return _reply(result)
        except KmsError as error:
            return refusal(error.code, error.text)

    def throttled(self, _call):
        return refusal("ThrottlingException", "You have exceeded the rate at which you may call "
                       "KMS. Reduce the frequency of your calls.")

    def _caller(self, call):
        try:
            return self.callers.verify(call, "kms")
        except NotSigned as error:
            code = NOT_SIGNED[error.kind]
            if error.kind == "skew" and self.world.skew_code:
                code = self.world.skew_code
            raise KmsError(code, str(error)) from None

    def _allow(self, caller, action, key, region):
        action = f"kms:{action}"
        if self.world.is_denied(action, caller.id):
            where = key.arn(region) if key else "*"
            raise KmsError("AccessDeniedException", f"User: {caller.arn} is not authorized to "
                           f"perform: {action} on resource: {where} because no identity-based "
                           f"policy allows the {action} action")

    def _find(self, call, request, region, caller, member="KeyId", aliases=True):
        """The key that is meant; the caller may do that with it."""
        key = self.keys.find(request.text(member, needed=True), region, aliases)
        self._allow(caller, call.operation, key, region)
        return key

    def _sealing(self, call, request, region, caller):
        """The key that is meant; it is one for data and may work."""
        key = self._find(call, request, region, caller)
        _is_symmetric(key, region)
        self.keys.usable(key, region)
        return key

    # ---- data keys ----

    def do_generate_data_key(self, call, request, region, caller):
        key = self._sealing(call, request, region, caller)
        context = request.context()
        size = _size(request)
        _dry_run(request)
        plaintext = self.plaintexts.new(call, size)
        answer = {"CiphertextBlob": _text(self.keys.seal(key, plaintext, context)),
                  "Plaintext": _text(self.plaintexts.shown(call, plaintext)),
                  "KeyId": key.arn(region), "KeyMaterialId": key.materials[-1][0].hex()}
        return self._spoiled(call, answer, region)

    def do_generate_data_key_without_plaintext(self, call, request, region, caller):
        answer = self.do_generate_data_key(call, request, region, caller)
        answer.pop("Plaintext", None)
        return answer

    def do_encrypt(self, call, request, region, caller):
        key = self._sealing(call, request, region, caller)
        plaintext = request.blob("Plaintext", 4096)
        context = request.context()
        _dry_run(request)
        plaintext = self.plaintexts.taken(call, plaintext)
        return self._spoiled(call, {
            "CiphertextBlob": _text(self.keys.seal(key, plaintext, context)),
            "KeyId": key.arn(region), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, region)

    def do_decrypt(self, call, request, region, caller):
        key, material_id, plaintext = self._open(call, request, region, caller, "KeyId",
                                                 "EncryptionContext", "Decrypt")
        _dry_run(request)
        return self._spoiled(call, {
            "Plaintext": _text(self.plaintexts.shown(call, plaintext)), "KeyId": key.arn(region),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "KeyMaterialId": material_id.hex()}, region)

    def do_re_encrypt(self, call, request, region, caller):
        source, old_id, plaintext = self._open(call, request, region, caller, "SourceKeyId",
                                               "SourceEncryptionContext", "ReEncryptFrom")
        key = self.keys.find(request.text("DestinationKeyId", needed=True), region)
        self._allow(caller, "ReEncryptTo", key, region)
        _is_symmetric(key, region)
        self.keys.usable(key, region)
        context = request.context("DestinationEncryptionContext")
        _dry_run(request)
        return self._spoiled(call, {
            "CiphertextBlob": _text(self.keys.seal(key, plaintext, context)),
            "SourceKeyId": source.arn(region), "KeyId": key.arn(region),
            "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "SourceKeyMaterialId": old_id.hex(),
            "DestinationKeyMaterialId": key.materials[-1][0].hex()}, region)

    def _open(self, call, request, region, caller, key_member, context_member, action):
        """(key, id of its material, plaintext) of a blob."""
        blob = request.blob("CiphertextBlob", 6144)
        named = request.text(key_member)
        context = request.context(context_member)
        meant = self.keys.find(named, region) if named is not None else None
        if meant is not None:
            self._allow(caller, action, meant, region)
        key, material_id = self.keys.owner(blob, region)
        if meant is not None and meant is not key:
            raise KmsError("IncorrectKeyException", "The key ID in the request does not identify a "
                           "CMK that can perform this operation.")
        self._allow(caller, action, key, region)
        self.keys.usable(key, region)
        return key, material_id, self.keys.open(key, blob, context)

    def _spoiled(self, call, answer, region):
        if call.spoils("wrong_key_id"):
            other = self.other if answer["KeyId"] != self.other.arn(region) else self.key
            answer["KeyId"] = other.arn(region)
        return answer

    # ---- keys ----

    def do_describe_key(self, call, request, region, caller):
        key = self._find(call, request, region, caller)
        return {"KeyMetadata": _metadata(key, region)}

    def do_create_key(self, call, request, region, caller):
        self._allow(caller, call.operation, None, region)
        spec = request.text("KeySpec") or "SYMMETRIC_DEFAULT"
        usage = request.text("KeyUsage") or "ENCRYPT_DECRYPT"
        key = self.keys.create(request.flag("MultiRegion"), spec, usage,
                               request.text("Description") or "")
        return {"KeyMetadata": _metadata(key, region)}

    def do_enable_key(self, call, request, region, caller):
        self._set_state(call, request, region, caller, "Enabled")

    def do_disable_key(self, call, request, region, caller):
        self._set_state(call, request, region, caller, "Disabled")

    def _set_state(self, call, request, region, caller, state):
        key = self._find(call, request, region, caller, aliases=False)
        if key.state == "PendingDeletion":
            self.keys.usable(key, region)
        key.state = state

    def do_schedule_key_deletion(self, call, request, region, caller):
        key = self._find(call, request, region, caller, aliases=False)
        days = request.number("PendingWindowInDays", 7, 30, 30)
        if key.state == "PendingDeletion":
            self.keys.usable(key, region)
        key.state, key.deletion = "PendingDeletion", self.world.now() + days * DAY
        return {"KeyId": key.arn(region), "DeletionDate": key.deletion, "KeyState": key.state,
                "PendingWindowInDays": days}

    def do_cancel_key_deletion(self, call, request, region, caller):
        key = self._find(call, request, region, caller, aliases=False)
        if key.state != "PendingDeletion":
            raise KmsError("KMSInvalidStateException",
                           f"{key.arn(region)} is not pending deletion.")
        key.state, key.deletion = "Disabled", None
        return {"KeyId": key.arn(region)}

    # ---- rotation ----

    def do_get_key_rotation_status(self, call, request, region, caller):
        key = self._find(call, request, region, caller, aliases=False)
        on = key.period > 0 and key.state != "PendingDeletion"
        answer = {"KeyId": key.arn(region), "KeyRotationEnabled": on}
        if on:
            answer.update(RotationPeriodInDays=key.period,
                          NextRotationDate=key.created + key.period * DAY)
        return answer

    def do_enable_key_rotation(self, call, request, region, caller):
        key = self._find(call, request, region, caller, aliases=False)
        self.keys.usable(key, region)
        key.period = request.number("RotationPeriodInDays", 90, 2560, 365)

    def do_rotate_key_on_demand(self, call, request, region, caller):
        key = self._find(call, request, region, caller, aliases=False)
        _is_symmetric(key, region)
        self.keys.usable(key, region)
        if key.on_demand >= ROTATIONS:
            raise KmsError("LimitExceededException", "The number of on-demand rotations of "
                           f"{key.arn(region)} is limited to {ROTATIONS}.")
        key.on_demand += 1
        key.rotate()
        return {"KeyId": key.arn(region)}

    # ---- aliases ----

    def do_list_aliases(self, call, request, region, caller):
        self._allow(caller, call.operation, None, region)
        wanted = request.text("KeyId")
        key = self.keys.find(wanted, region, aliases=False) if wanted else None
        names = sorted(name for name, key_id in self.keys.aliases.items()
                       if key is None or key_id == key.id)
        limit, after = request.number("Limit", 1, 100, self.settings["aliases_a_page"]), request.text("Marker") or ""
        names = [name for name in names if name > after]
        answer = {"Aliases": [{"AliasName": name, "TargetKeyId": self.keys.aliases[name],
                               "AliasArn": f"arn:aws:kms:{region}:{ACCOUNT}:{name}"}
                              for name in names[:limit]],
                  "Truncated": len(names) > limit}
        if answer["Truncated"]:
            answer["NextMarker"] = names[limit - 1]
        return answer

    def do_create_alias(self, call, request, region, caller):
        name = _alias_name(request)
        if name in self.keys.aliases:
            raise KmsError("AlreadyExistsException", f"An alias with the name arn:aws:kms:{region}:"
                           f"{ACCOUNT}:{name} already exists")
        self._point(call, request, region, caller, name)

    def do_update_alias(self, call, request, region, caller):
        name = _alias_name(request)
        self.keys.find(name, region)
        self._point(call, request, region, caller, name)

    def _point(self, call, request, region, caller, name):
        key = self._find(call, request, region, caller, "TargetKeyId", aliases=False)
        if key.state == "PendingDeletion":
            self.keys.usable(key, region)
        self.keys.aliases[name] = key.id

    def do_delete_alias(self, call, request, region, caller):
        name = _alias_name(request)
        key = self.keys.find(name, region)
        self._allow(caller, call.operation, key, region)
        del self.keys.aliases[name]


# ---- parts of requests and answers --------------------------------------------------------------

def refusal(code, text=None):
    body = {"__type": code}
    if text is not None:
        body["message"] = text
    return _reply(body, SERVER_FAULTS.get(code, 400))


def _reply(result, status=200):
    body = b"" if result is None else json.dumps(result).encode()
    return Answer(status, body, [("x-amzn-RequestId", random_id()),
                                 ("Content-Type", "application/x-amz-json-1.1")])


def _snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _text(data):
    return base64.b64encode(data).decode()


def _is_symmetric(key, region):
    if key.spec != "SYMMETRIC_DEFAULT" or key.usage != "ENCRYPT_DECRYPT":
        raise KmsError("InvalidKeyUsageException", f"{key.arn(region)} key usage is {key.usage} "
                       f"and its spec {key.spec}, which is not valid for this operation.")


def _size(request):
    spec, size = request.text("KeySpec"), request.number("NumberOfBytes", 1, 1024)
    if (spec is None) == (size is None):
        raise KmsError("ValidationException", "Please specify either number of bytes or key spec.")
    if spec is not None and spec not in SIZES:
        raise _invalid("KeySpec", spec, "Member must satisfy enum value set: [AES_256, AES_128]")
    return SIZES[spec] if spec else size


def _dry_run(request):
    if request.flag("DryRun"):
        raise KmsError("DryRunOperationException", "The request would have succeeded, but the "
                       "DryRun option is set.")


def _alias_name(request):
    name = request.text("AliasName", needed=True)
    if name.startswith("alias/aws/"):
        raise KmsError("NotAuthorizedException")
    if not re.fullmatch(r"alias/[a-zA-Z0-9:/_-]{1,250}", name):
        raise KmsError("ValidationException", "Alias must start with the prefix \"alias/\"")
    return name


def _metadata(key, region):
    found = {"AWSAccountId": key.account, "KeyId": key.id, "Arn": key.arn(region),
             "CreationDate": key.created, "Enabled": key.state == "Enabled",
             "Description": key.description, "KeyUsage": key.usage, "KeyState": key.state,
             "Origin": "AWS_KMS", "KeyManager": "CUSTOMER", "CustomerMasterKeySpec": key.spec,
             "KeySpec": key.spec, "MultiRegion": key.multi_region}
    if key.spec == "SYMMETRIC_DEFAULT":
        found["EncryptionAlgorithms"] = [key.spec]
        found["CurrentKeyMaterialId"] = key.materials[-1][0].hex()
    if key.deletion is not None:
        found["DeletionDate"] = key.deletion
    return found
