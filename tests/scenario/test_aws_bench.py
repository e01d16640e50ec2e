"""`dekhand bench` on AWS KMS: its figures, what it asks for, and that nothing of it stays."""

import pytest

from cli_tool import Cli
from fakes.cloud import Cloud

FEW = ("bench", "--kms", "--rounds", "2")
FIGURES = ["kms_wrap", "kms_sign", "kms_slow", "kms_calls", "kms_calls_mixed"]


@pytest.fixture(scope="module")
def cloud():
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def aws(cloud, tmp_path):
    cloud.control("reset")
    return Cli(tmp_path, AWS_KMS_KEY_ID=cloud.env["AWS_KEY_ARN"], AWS_REGION="us-east-1",
               AWS_ENDPOINT_URL=cloud.env["FAKE_TLS"], KMS_CA_FILE=cloud.env["FAKE_CA"],
               AWS_ACCESS_KEY_ID=cloud.env["AWS_ID"],
               AWS_SECRET_ACCESS_KEY=cloud.env["AWS_SECRET"], TMPDIR=str(tmp_path))


def folders(cli):
    return list(cli.folder.glob("dekhand-bench*"))


@pytest.mark.slow
def test_figures_of_a_key(aws, cloud):
    found = aws.json(*FEW, schema="bench")
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert list(figures) == FIGURES
    assert all(figure["ratio"] > 0 for figure in figures.values())
    assert figures["kms_calls"]["yardstickTime"] == 20000
    counts = cloud.counts()
    assert counts["kms.Encrypt"] == 2 * (1 + 2 * 10)
    assert counts["kms.GenerateDataKey"] >= 1000
    asked = figures["kms_calls"]["time"] + figures["kms_calls_mixed"]["time"]
    assert 2000 <= asked <= counts["kms.Decrypt"] - counts["kms.GenerateDataKey"]
    assert not folders(aws)
    assert not aws.state.exists()


def test_a_key_that_is_denied_is_told(aws, cloud):
    cloud.control("deny", action="kms:Encrypt", on=True)
    done = aws.run(*FEW)
    assert done.returncode == 1
    assert b"kms:Encrypt" in done.stderr
    assert b"kms_" not in done.stdout
    assert not folders(aws)


@pytest.mark.parametrize("change, said", [
    ({"KMS_PROVIDER": "local"}, "provider local"),
    ({"KMS_PROXY": "http://127.0.0.1:1"}, "KMS_PROXY"),
    ({"AWS_ENDPOINT_URL": "http://localhost:1"}, "over TLS"),
], ids=["local", "proxy", "plain"])
def test_what_it_cannot_measure_is_told(aws, change, said):
    aws.env.update(change)
    assert said in aws.fails(2, *FEW)
    assert not folders(aws)
