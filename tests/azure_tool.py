"""What the tests of Azure Key Vault share: the fake, the program set up for it, Azure's SDK."""

import os
import subprocess

import pytest

from cloud_tool import cloud, machine  # noqa: F401
from cli_tool import Cli
from fakes.cloud import PYTHON, TESTS

DENIED, UNREACHABLE = 5, 6
ROW = "kms_key_id, encrypted_data_key, context_timestamp, tenant_id, version"


def settings_of(cloud, key="kek", **more):
    """Vault and key, without credentials."""
    return {"AZURE_KEY_VAULT_URL": cloud.env["AZURE_VAULT"] + "/", "AZURE_KEY_NAME": key,
            "KMS_CA_FILE": cloud.env["FAKE_CA"], **more}


def secret_of(cloud, **more):
    return {"AZURE_TENANT_ID": cloud.env["AZURE_TENANT"], "AZURE_CLIENT_ID": cloud.env["AZURE_CLIENT"],
            "AZURE_CLIENT_SECRET": cloud.env["AZURE_SECRET"],
            "AZURE_AUTHORITY_HOST": cloud.env["FAKE_TLS"], **more}


@pytest.fixture
def azure(cloud, fresh):
    """The program with a secret, before `init`."""
    fresh.env.update(settings_of(cloud), **secret_of(cloud))
    return fresh


@pytest.fixture
def ready(cloud, azure):
    """After `init`, the counts begin anew."""
    azure.ok("init")
    cloud.control("counts", clear=True)
    cloud.control("requests", clear=True)
    return azure


def seal(cli, tenant, text=b"a value", **more):
    return cli.ok("encrypt", "--tenant", tenant, stdin=text, **more)


def opens(cli, tenant, value, text=b"a value"):
    return cli.ok("decrypt", "--tenant", tenant, stdin=value) == text


def rows(cli):
    names = [name.strip() for name in ROW.split(",")]
    return [dict(zip(names, row)) for row in
            cli.query(f"SELECT {ROW} FROM encryption_keys ORDER BY tenant_id, version")]


def beside(cli):
    """The same program with a registry of its own, before `init`."""
    other = Cli(cli.folder)
    other.env = {**cli.env, "KMS_STATE_DIR": str(cli.folder / "other")}
    return other


def driver_settings(cli):
    return {name: value for name, value in cli.env.items()
            if name.startswith(("KMS_", "AZURE_", "IDENTITY_"))}


def sdk(cloud, *argv, stdin=""):
    """Lines of what tests/oracle_azure.py prints."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("AZURE_", "IDENTITY_")) and "proxy" not in name.lower()}
    done = subprocess.run([PYTHON, TESTS / "oracle_azure.py", *argv], input=stdin,
                          env={**kept, **cloud.env}, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
