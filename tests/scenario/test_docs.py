"""The pages that are made from the code are those of the code."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(os.environ["DEKHAND_ROOT"])


@pytest.mark.release
def test_the_reference_is_what_the_code_says():
    done = subprocess.run([sys.executable, str(ROOT / "scripts/docs.py"), "--check"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
