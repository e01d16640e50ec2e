"""What the tests of the clouds share: the fake; of AWS KMS alone, settings that lead to it."""

import pytest

from cli_tool import Cli
from fakes.cloud import Cloud


@pytest.fixture(scope="module")
def machine():
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(machine):
    machine.control("release")
    machine.control("reset")
    return machine


def settings(cloud):
    return {"AWS_KMS_KEY_ID": cloud.env["AWS_KEY_ARN"], "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": cloud.env["FAKE_TLS"], "KMS_CA_FILE": cloud.env["FAKE_CA"],
            "AWS_ACCESS_KEY_ID": cloud.env["AWS_ID"],
            "AWS_SECRET_ACCESS_KEY": cloud.env["AWS_SECRET"]}


def settings_by_arn(cloud):
    """The key's ARN says the region."""
    return {name: value for name, value in settings(cloud).items() if name != "AWS_REGION"}


@pytest.fixture
def aws(cloud, tmp_path):
    """dekhand on the fake, before `init`."""
    return Cli(tmp_path, **settings(cloud))
