"""boto3 against the fake: KMS, STS, and where credentials come from."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import boto3
from botocore.compat import get_current_datetime
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fakes.cloud import steer  # noqa: E402  (found by the line above)
from fakes.judges import answer  # noqa: E402

ENV = dict(os.environ)
REAL_NAMES = "REAL_NAMES" in ENV  # the services' own, in a network of ours
REGION = "us-east-1"
CONTEXT = {"TenantId": "t-1", "Purpose": "DataEncryption"}
KEY = ENV["AWS_KEY_ARN"]


def control(verb, **members):
    return steer(ENV["CONTROL"], verb, **members)


def client(service, key_id=ENV["AWS_ID"], secret=ENV["AWS_SECRET"], token=None, region=REGION,
           tries=1):
    return boto3.client(
        service, region_name=region, endpoint_url=None if REAL_NAMES else ENV["FAKE_TLS"],
        verify=ENV["FAKE_CA"], aws_access_key_id=key_id, aws_secret_access_key=secret,
        aws_session_token=token, config=Config(retries={"total_max_attempts": tries}))


def session_client(credentials):
    return client("kms", credentials["AccessKeyId"], credentials["SecretAccessKey"],
                  credentials["SessionToken"])


def refused(code, call, **members):
    """The text of the error with that code that the call ends with."""
    try:
        call(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"].get("Message", "")
    raise AssertionError(f"no {code}")


def generate(kms, key="alias/dekhand"):
    return kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)


def decrypt(kms, made, key=None):
    return kms.decrypt(CiphertextBlob=made["CiphertextBlob"], KeyId=key or made["KeyId"],
                       EncryptionContext=dict(reversed(CONTEXT.items())))


# ---- data keys ----------------------------------------------------------------------------------

def check_data_key_comes_back():
    kms = client("kms")
    made = generate(kms)
    assert made["KeyId"] == KEY and len(made["Plaintext"]) == 32
    found = decrypt(kms, made)
    assert found["Plaintext"] == made["Plaintext"] and found["KeyId"] == KEY
    assert found["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"
    assert generate(kms)["Plaintext"] != made["Plaintext"]
    hidden = kms.generate_data_key_without_plaintext(KeyId=KEY, NumberOfBytes=7)
    assert "Plaintext" not in hidden
    assert len(kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"])["Plaintext"]) == 7


def check_wrong_context_and_broken_blob_are_one_error():
    kms = client("kms")
    blob = generate(kms)["CiphertextBlob"]
    for context in ({}, {**CONTEXT, "TenantId": "t-2"}, {**CONTEXT, "more": ""}):
        refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob,
                EncryptionContext=context)
    for broken in (blob[:-1] + bytes([blob[-1] ^ 1]), b"\0" + blob[1:], blob[:40], b"x"):
        refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=broken,
                EncryptionContext=CONTEXT)


def check_plaintext_is_encrypted_and_limited():
    kms = client("kms")
    made = kms.encrypt(KeyId=KEY, Plaintext=b"w" * 4096, EncryptionContext=CONTEXT)
    assert decrypt(kms, made)["Plaintext"] == b"w" * 4096
    refused("ValidationException", kms.encrypt, KeyId=KEY, Plaintext=b"w" * 4097)
    refused("ValidationException", kms.generate_data_key, KeyId=KEY)
    refused("DryRunOperationException", kms.generate_data_key, KeyId=KEY, KeySpec="AES_256",
            DryRun=True)


# ---- keys ---------------------------------------------------------------------------------------

def check_disabled_key_does_nothing():
    kms = client("kms")
    made = generate(kms)
    kms.disable_key(KeyId=KEY)
    assert "is disabled" in refused("DisabledException", generate, kms=kms)
    refused("DisabledException", decrypt, kms=kms, made=made)
    assert kms.describe_key(KeyId=KEY)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(KeyId=KEY)
    assert decrypt(kms, made)["Plaintext"] == made["Plaintext"]


def check_deletion_is_scheduled_and_cancelled():
    kms = client("kms")
    made = generate(kms)
    assert kms.schedule_key_deletion(KeyId=KEY)["PendingWindowInDays"] == 30
    assert "pending deletion" in refused("KMSInvalidStateException", decrypt, kms=kms, made=made)
    refused("KMSInvalidStateException", kms.enable_key, KeyId=KEY)
    assert kms.cancel_key_deletion(KeyId=KEY)["KeyId"] == KEY
    refused("DisabledException", decrypt, kms=kms, made=made)
    refused("KMSInvalidStateException", kms.cancel_key_deletion, KeyId=KEY)


def check_deleted_key_is_gone_when_its_time_came():
    kms = client("kms")
    new = kms.create_key()["KeyMetadata"]["Arn"]
    made = generate(kms, new)
    kms.schedule_key_deletion(KeyId=new, PendingWindowInDays=7)
    control("clock", offset=7 * 86400 + 1)
    later = get_current_datetime() + timedelta(days=7, seconds=1)
    with patch("botocore.auth.get_current_datetime", lambda: later):
        refused("NotFoundException", decrypt, kms=kms, made=made)
        for _ in range(2):
            text = refused("AccessDeniedException", kms.decrypt, EncryptionContext=CONTEXT,
                           CiphertextBlob=made["CiphertextBlob"])
            assert "does not exist in this region" in text


def check_alias_moves_and_the_arn_stays():
    kms = client("kms")
    made = generate(kms)
    kms.update_alias(AliasName="alias/dekhand", TargetKeyId=ENV["AWS_OTHER_ARN"])
    assert generate(kms)["KeyId"] == ENV["AWS_OTHER_ARN"]
    refused("IncorrectKeyException", decrypt, kms=kms, made=made, key="alias/dekhand")
    assert decrypt(kms, made)["Plaintext"] == made["Plaintext"]
    refused("AlreadyExistsException", kms.create_alias, AliasName="alias/dekhand", TargetKeyId=KEY)
    kms.create_alias(AliasName="alias/new", TargetKeyId=KEY)
    names = [one["AliasName"] for one in kms.list_aliases(KeyId=KEY)["Aliases"]]
    assert names == ["alias/new"]
    refused("NotFoundException", generate, kms=kms, key="alias/none")


def check_rotation_makes_new_material():
    kms = client("kms")
    made = generate(kms)
    assert not kms.get_key_rotation_status(KeyId=KEY)["KeyRotationEnabled"]
    kms.enable_key_rotation(KeyId=KEY, RotationPeriodInDays=90)
    assert kms.get_key_rotation_status(KeyId=KEY)["RotationPeriodInDays"] == 90
    refused("NotFoundException", kms.get_key_rotation_status, KeyId="alias/dekhand")
    kms.rotate_key_on_demand(KeyId=KEY)
    assert decrypt(kms, made)["KeyMaterialId"] == made["KeyMaterialId"]
    new = generate(kms)["KeyMaterialId"]
    assert new != made["KeyMaterialId"]
    assert kms.describe_key(KeyId=KEY)["KeyMetadata"]["CurrentKeyMaterialId"] == new
    moved = kms.re_encrypt(CiphertextBlob=made["CiphertextBlob"], SourceKeyId=KEY,
                           DestinationKeyId=KEY, SourceEncryptionContext=CONTEXT,
                           DestinationEncryptionContext=CONTEXT)
    assert (moved["SourceKeyMaterialId"], moved["DestinationKeyMaterialId"]) == (
        made["KeyMaterialId"], new)
    assert decrypt(kms, moved)["Plaintext"] == made["Plaintext"]
    refused("IncorrectKeyException", kms.re_encrypt, CiphertextBlob=made["CiphertextBlob"],
            SourceKeyId=ENV["AWS_OTHER_ARN"], DestinationKeyId=KEY, SourceEncryptionContext=CONTEXT)


def check_multi_region_key_is_in_another_region():
    if REAL_NAMES:
        return  # the other Region's name is not ours
    made = generate(client("kms"), "alias/mrk")
    other = client("kms", region="eu-west-1")
    found = decrypt(other, made, made["KeyId"].replace(REGION, "eu-west-1"))
    assert found["Plaintext"] == made["Plaintext"] and ":eu-west-1:" in found["KeyId"]
    refused("NotFoundException", generate, kms=other, key=KEY.replace(REGION, "eu-west-1"))
    refused("AccessDeniedException", other.decrypt, EncryptionContext=CONTEXT,
            CiphertextBlob=generate(client("kms"))["CiphertextBlob"])


# ---- who calls ----------------------------------------------------------------------------------

def check_wrong_secret_and_unknown_id():
    refused("InvalidSignatureException", generate, kms=client("kms", secret="wrong"))
    refused("UnrecognizedClientException", generate, kms=client("kms", "AKIAUNKNOWNUNKNOWN00"))
    refused("UnrecognizedClientException", generate, kms=client("kms", token="no session"))


def check_denied_action_is_named():
    control("deny", action="kms:Decrypt")
    kms = client("kms")
    made = generate(kms)
    text = refused("AccessDeniedException", decrypt, kms=kms, made=made)
    assert f"is not authorized to perform: kms:Decrypt on resource: {KEY}" in text
    control("deny", action="kms:Decrypt", on=False)
    decrypt(kms, made)


def check_clock_that_is_off():
    control("clock", offset=299)
    generate(client("kms"))
    for offset, word in ((600, "Signature expired"), (-600, "Signature not yet current")):
        control("clock", offset=offset)
        assert word in refused("InvalidSignatureException", generate, kms=client("kms"))
    control("clock", offset=600, skew_code="RequestExpired")
    refused("RequestExpired", generate, kms=client("kms"))


def check_role_is_assumed_and_its_session_ends():
    sts = client("sts")
    role = {"RoleArn": ENV["AWS_ROLE_ARN"], "RoleSessionName": "dekhand"}
    found = sts.assume_role(**role, DurationSeconds=900)["Credentials"]
    kms = session_client(found)
    made = generate(kms)
    decrypt(kms, made)
    refused("UnrecognizedClientException", generate, kms=session_client(
        {**found, "SessionToken": found["SessionToken"][:-4] + "AA=="}))
    control("lifetime", service="sts", seconds=-1)
    over = sts.assume_role(**role)["Credentials"]
    refused("ExpiredTokenException", generate, kms=session_client(over))
    control("set", service="sts", external_id="of the customer")
    refused("AccessDenied", sts.assume_role, **role)
    sts.assume_role(**role, ExternalId="of the customer")
    refused("AccessDenied", sts.assume_role, RoleArn=role["RoleArn"] + "-other",
            RoleSessionName="dekhand")
    refused("SignatureDoesNotMatch", client("sts", secret="wrong").assume_role, **role)


def check_who_calls_and_what_he_may():
    user = client("sts").get_caller_identity()["Arn"]
    assert user == "arn:aws:iam::111122223333:user/dekhand"
    role = {"RoleArn": ENV["AWS_ROLE_ARN"], "RoleSessionName": "job"}
    found = client("sts").assume_role(**role)["Credentials"]
    session = client("sts", found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
    assert session.get_caller_identity()["Arn"] == (
        "arn:aws:sts::111122223333:assumed-role/dekhand/job")
    iam = client("iam")
    asked = {"PolicySourceArn": ENV["AWS_ROLE_ARN"], "ActionNames": ["kms:ScheduleKeyDeletion"],
             "ResourceArns": [KEY]}

    def decision():
        (one,) = iam.simulate_principal_policy(**asked)["EvaluationResults"]
        assert one["EvalActionName"] == "kms:ScheduleKeyDeletion"
        assert one["EvalResourceName"] == KEY
        return one["EvalDecision"]

    assert decision() == "implicitDeny"
    control("set", service="iam", allowed=["kms:ScheduleKeyDeletion"])
    assert decision() == "allowed"
    control("set", service="iam", denied=["kms:ScheduleKeyDeletion"])
    assert decision() == "explicitDeny"
    control("set", service="iam", principals=[])
    refused("NoSuchEntity", iam.simulate_principal_policy, **asked)
    control("deny", action="iam:SimulatePrincipalPolicy")
    refused("AccessDenied", iam.simulate_principal_policy, **asked)
    refused("SignatureDoesNotMatch", client("iam", secret="wrong").simulate_principal_policy,
            **asked)


def check_web_identity():
    sts = client("sts")
    path = Path(ENV["AWS_WEB_IDENTITY_TOKEN_FILE"])
    role = {"RoleArn": ENV["AWS_ROLE_ARN"], "RoleSessionName": "dekhand"}
    old = path.read_text()
    found = sts.assume_role_with_web_identity(**role, WebIdentityToken=old)
    generate(session_client(found["Credentials"]))
    control("rotate_credentials", service="sts")
    refused("InvalidIdentityToken", sts.assume_role_with_web_identity, **role, WebIdentityToken=old)
    sts.assume_role_with_web_identity(**role, WebIdentityToken=path.read_text())
    control("rotate_credentials", service="sts", seconds=-1)
    refused("ExpiredTokenException", sts.assume_role_with_web_identity, **role,
            WebIdentityToken=path.read_text())
    control("rotate_credentials", service="sts")


# ---- credentials of a machine -------------------------------------------------------------------

def found_by_itself(method, environment):
    """The credentials that botocore's own chain finds with this environment; they work."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ.update(environment, AWS_CONFIG_FILE="/dev/null",
                      AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    try:
        found = Session().get_credentials()
        assert found is not None and found.method == method
        found = found.get_frozen_credentials()
    finally:
        os.environ.clear()
        os.environ.update(before)
    generate(client("kms", found.access_key, found.secret_key, found.token))
    return found


def check_credentials_of_a_machine():
    found_by_itself("iam-role", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": ENV["FAKE_PLAIN"]})
    counts = control("counts")
    assert counts["imds.Token"] == counts["imds.Role"] == counts["imds.Credentials"] == 1


def check_credentials_of_a_container():
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": ENV["FAKE_PLAIN"] + ENV["AWS_CONTAINER_PATH"],
           "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ENV["AWS_CONTAINER_TOKEN_FILE"]}
    first = found_by_itself("container-role", env)
    control("rotate_credentials", service="container")
    assert found_by_itself("container-role", env).access_key != first.access_key


# ---- faults that a client gets over -------------------------------------------------------------

def check_throttling_is_retried():
    control("script", service="kms", answers=[{"fault": "throttle"}, {"fault": "html500"}])
    generate(client("kms", tries=3))
    assert control("counts")["kms.GenerateDataKey"] == 3
    control("script", service="kms", operation="Decrypt", answers=[{"fault": "throttle"}], times=-1)
    kms = client("kms")
    refused("ThrottlingException", decrypt, kms=kms, made=generate(kms))


def check_chunked_answer_is_the_same():
    kms = client("kms")
    made = generate(kms)
    control("script", service="kms", answers=[{"fault": "chunked"}, {"fault": "drip",
                                                                     "seconds": 0.0005}])
    assert decrypt(kms, made)["Plaintext"] == decrypt(kms, made)["Plaintext"] == made["Plaintext"]


def check_keys_that_are_wrong():
    kms = client("kms")
    other, made = generate(kms), generate(kms)

    def spoiled(fault, call, *arguments):
        control("script", service="kms", answers=[{"fault": fault}])
        return call(kms, *arguments)

    for fault, plaintext in (("short_key", made["Plaintext"][:-1]), ("zero_key", bytes(32)),
                             ("long_key", made["Plaintext"] + made["Plaintext"][:1]),
                             ("swap_keys", other["Plaintext"])):
        assert spoiled(fault, decrypt, made)["Plaintext"] == plaintext, fault
        assert len(spoiled(fault, generate)["Plaintext"]) == len(plaintext), fault
        generate(kms), decrypt(kms, other), decrypt(kms, made)  # whose the last two were
    assert spoiled("wrong_key_id", decrypt, made)["KeyId"] == ENV["AWS_OTHER_ARN"]
    assert spoiled("wrong_key_id", generate)["KeyId"] == ENV["AWS_OTHER_ARN"]
    assert "Plaintext" not in spoiled("no_plaintext", generate)
    assert "Plaintext" not in spoiled("wrong_case", generate)
    same = [spoiled("same_key", generate) for _ in range(2)]
    assert same[0]["Plaintext"] == same[1]["Plaintext"]
    assert same[0]["CiphertextBlob"] != same[1]["CiphertextBlob"]
    assert decrypt(kms, same[0])["Plaintext"] == same[0]["Plaintext"]
    zero = spoiled("zero_key", generate)
    assert not any(zero["Plaintext"]) and any(decrypt(kms, zero)["Plaintext"])


def check_requests_are_remembered():
    made = generate(client("kms"))
    (last,) = control("requests", clear=True)["requests"]
    assert (last["service"], last["operation"], last["status"]) == ("kms", "GenerateDataKey", 200)
    assert json.loads(last["body"])["EncryptionContext"] == CONTEXT and made
    assert last["headers"]["x-amz-target"] == "TrentService.GenerateDataKey"


if __name__ == "__main__":
    answer(globals(), ENV["CONTROL"])
