"""Many more lives over power cuts than `make check` has time for."""

import os
import subprocess

from harness import tree

SEEDS = int(os.environ.get("SOAK_SEEDS", 20_000))


def test_F13_nothing_acknowledged_is_lost_in_many_lives():
    program = tree.test_program("release", tree.ROOT / "tests" / "scenario" / "power_cut_test.c")
    done = subprocess.run([program], env={**os.environ, "DEKHAND_SEEDS": str(SEEDS)},
                          capture_output=True, check=False, timeout=7000)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
