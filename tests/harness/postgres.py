"""One PostgreSQL server and its pool for all suites: making them takes a second."""

import subprocess
import tempfile
from contextlib import contextmanager

from harness import scratch, tree
from harness.report import Result

NAMES = ("DEKHAND_TEST_PG", "DEKHAND_TEST_BOUNCER")  # in the order in which servers.py prints them


@contextmanager
def shared(report):
    """While it is open the tests find its URL in DEKHAND_TEST_PG, and in DEKHAND_TEST_BOUNCER where
    PgBouncer listens; no server is one failure.

    Both end with their standard input, also when this process is killed.
    """
    with scratch.folder() as folder, tempfile.TemporaryFile() as told, subprocess.Popen(
            [tree.PYTHON, "tests/servers.py"], cwd=tree.ROOT,
            env={**tree.clean_environment(), "TMPDIR": str(folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True) as keeper:
        folder.chmod(scratch.ANYBODY)
        told_of = [keeper.stdout.readline().strip() for _ in NAMES]
        if all(told_of):
            tree.FOR_TESTS.update(zip(NAMES, told_of))
        else:
            told.seek(0)
            report.add(Result("PostgreSQL for the tests", failed=1,
                              output=told.read().decode(errors="replace")))
        try:
            yield
        finally:
            for name in NAMES:
                tree.FOR_TESTS.pop(name, None)
            keeper.stdin.close()
            keeper.wait()  # `with` would not, after Ctrl-C; the folder goes when all have ended
