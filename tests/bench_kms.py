"""`make bench-kms`: the figures of AWS KMS, on the fake of tests/cloud.py over TLS.

What follows PROGRAM and the file goes to `dekhand bench`.
"""

import os
import subprocess
import sys
from pathlib import Path

from fakes.cloud import Cloud


def main(program, out, *options):
    with Cloud() as cloud:
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("AWS_", "KMS_", "AZURE_")) and name != "DATABASE_URL"}
        env.update(AWS_KMS_KEY_ID=cloud.env["AWS_KEY_ARN"], AWS_REGION="us-east-1",
                   AWS_ENDPOINT_URL=cloud.env["FAKE_TLS"], KMS_CA_FILE=cloud.env["FAKE_CA"],
                   AWS_ACCESS_KEY_ID=cloud.env["AWS_ID"],
                   AWS_SECRET_ACCESS_KEY=cloud.env["AWS_SECRET"])
        found = subprocess.run([program, "bench", "--kms", "--json", *options], env=env,
                               stdout=subprocess.PIPE, check=False)
    if found.returncode == 0:
        Path(out).write_bytes(found.stdout)
        sys.stdout.buffer.write(found.stdout)
    return found.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
