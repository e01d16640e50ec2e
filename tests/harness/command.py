"""Runs one command in a session of its own: with a time limit, and nothing of it left behind."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

from harness.tree import ROOT

_running = set()
_stopping = False
_lock = threading.RLock()  # guards both; a signal handler may come while it is held


@dataclass
class Outcome:
    code: int | None  # None: stopped at the time limit; negative: the signal that ended it
    stdout: str
    stderr: str  # empty when merged
    seconds: float

    @property
    def output(self):
        return self.stdout + self.stderr

    @property
    def ending(self):
        """How the command ended, in words; empty when it ended 0."""
        if self.code is None:
            return f"stopped at the time limit after {self.seconds:.0f} s"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        return f"ended with status {self.code}" if self.code else ""


def run(argv, env=None, timeout=600, merge=True):
    """Runs `argv` in the repository's root. `merge`: standard error goes where stdout goes.

    KeyboardInterrupt once stop_all() was called: here, and not wherever a signal happens to come.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [str(arg) for arg in argv], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT if merge else err, start_new_session=True)
        code = _wait(process, timeout)
        if is_stopping():
            raise KeyboardInterrupt
        return Outcome(code, _text(out), _text(err), time.monotonic() - began)


def stop_all():
    """Ends every command still running, and each that would start later (Ctrl-C)."""
    global _stopping
    with _lock:
        _stopping = True
        for process in _running:
            _kill_session(process)


def is_stopping():
    return _stopping


def _wait(process, timeout):
    with _lock:
        _running.add(process)
        if _stopping:
            _kill_session(process)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill_session(process)
        process.wait()
        with _lock:
            _running.discard(process)


def _kill_session(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _text(file):
    file.seek(0)
    return file.read().decode("utf-8", "replace")
