"""Regions, partitions and endpoints of AWS: what the C tests compare with is what botocore says."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.release

TESTS = Path(__file__).resolve().parents[1]
PYTHON = TESTS.parent / "build" / "cache" / "python" / "bin" / "python"


def test_the_table_is_botocores():
    said = subprocess.run([PYTHON, TESTS / "aws_places.py"], check=True, text=True, timeout=60,
                          capture_output=True).stdout
    assert said == (TESTS / "vectors" / "aws_places.txt").read_text()
