"""boto3 in the place of dekhand, to hold the one against the other; run by the Python of
scripts/need.sh test.

    oracle_aws.py open ENDPOINT CA KEY_ID        {"blob", "context"} on standard input: the plaintext,
                                                 or the name of the error
    oracle_aws.py wrap ENDPOINT CA KEY_ID        {"plaintext", "context"}: the blob
    oracle_aws.py key ENDPOINT CA -              makes a key: its ARN
    oracle_aws.py alias ENDPOINT CA KEY_ID       gives it the name alias/also

Bytes are standard base64, in and out. Credentials come from the environment.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def main():
    verb, endpoint, authorities, key_id = sys.argv[1:5]
    kms = boto3.client("kms", endpoint_url=endpoint, region_name="us-east-1",
                       verify=authorities if endpoint.startswith("https") else None,
                       config=Config(retries={"max_attempts": 1}))
    if verb == "key":
        print(kms.create_key()["KeyMetadata"]["Arn"])
        return
    if verb == "alias":
        kms.create_alias(AliasName="alias/also", TargetKeyId=key_id)
        return
    asked = json.load(sys.stdin)
    try:
        if verb == "open":
            found = kms.decrypt(CiphertextBlob=base64.b64decode(asked["blob"]), KeyId=key_id,
                                EncryptionContext=asked["context"])["Plaintext"]
        else:
            found = kms.encrypt(Plaintext=base64.b64decode(asked["plaintext"]), KeyId=key_id,
                                EncryptionContext=asked["context"])["CiphertextBlob"]
    except ClientError as error:
        print(error.response["Error"]["Code"])
        return
    print(base64.b64encode(found).decode())


if __name__ == "__main__":
    main()
