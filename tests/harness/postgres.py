"""One PostgreSQL server for all suites: making one takes a second, and there are many programs."""

import subprocess
import tempfile
from contextlib import contextmanager

from harness import tree
from harness.report import Result


@contextmanager
def shared(report):
    """While it is open the tests find its URL in DEKHAND_TEST_PG; no server is one failure.

    The server ends with its standard input, also when this process is killed.
    """
    with tempfile.TemporaryFile() as told, subprocess.Popen(
            [tree.PYTHON, "tests/servers.py"], cwd=tree.ROOT, env=tree.clean_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True) as keeper:
        url = keeper.stdout.readline().strip()
        if url:
            tree.FOR_TESTS["DEKHAND_TEST_PG"] = url
        else:
            told.seek(0)
            report.add(Result("PostgreSQL for the tests", failed=1,
                              output=told.read().decode(errors="replace")))
        try:
            yield
        finally:
            tree.FOR_TESTS.pop("DEKHAND_TEST_PG", None)
            keeper.stdin.close()
