"""The folder of a suite: in memory where the machine has room there, because tests sync all day.

What tests leave in it goes when the suite ends, also when it was stopped.
"""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 2 << 30  # bytes that have to be free
ANYBODY = 0o1777  # tests that run as an ordinary user leave files too


def place(memory=MEMORY, room=ROOM):
    """Where folders are made; None = on the disk (TMPDIR): no memory, or no program runs there."""
    try:
        seen = os.statvfs(memory)
    except OSError:
        return None
    good = (os.access(memory, os.W_OK) and not seen.f_flag & os.ST_NOEXEC
            and seen.f_bavail * seen.f_frsize >= room)
    return memory if good else None


def disk():
    """For what is about the disk, or larger than memory."""


@contextmanager
def folder(on=place):
    with tempfile.TemporaryDirectory(prefix="dekhand-", dir=on(),
                                     ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def in_memory(scratch, memory=MEMORY):
    """A folder for tests that fill thousands: in memory however little there is, else in `scratch`."""
    on = memory if os.access(memory, os.W_OK) and memory not in scratch.parents else scratch
    with folder(lambda: on) as path:
        path.chmod(ANYBODY)
        yield path
