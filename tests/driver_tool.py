"""A process that keeps the library open, told what to do line by line: tests/driver/driver.c."""

import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from cli_tool import KEPT, PROGRAM

DRIVER = Path(PROGRAM).parent / "tests" / "driver" / "driver"
SECONDS = 60


@dataclass(frozen=True)
class Answer:
    code: str
    seconds: float
    text: str

    @property
    def ok(self):
        return self.code == "OK"


class Driver:
    """Settings by name: those of a Cli's environment, or others."""

    def __init__(self, settings, log=subprocess.DEVNULL):
        said = [f"{name}={value}" for name, value in settings.items()
                if name.startswith(("KMS_", "AWS_", "AZURE_", "IDENTITY_"))
                or name == "DATABASE_URL"]
        env = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.process = subprocess.Popen([DRIVER, *said], stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=log, env=env)
        self._lines = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def tell(self, *words):
        """Without waiting for the answer."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds=SECONDS):
        return _parse(self._line(seconds))

    def ask(self, *words, seconds=SECONDS):
        self.tell(*words)
        return self.answer(seconds)

    def ok(self, *words):
        found = self.ask(*words)
        assert found.ok, (words, found)
        return found.text

    def answers(self, seconds=SECONDS):
        """{tenant: answer} of `many` and `batch`."""
        found = {}
        while (line := self._line(seconds)) != "done":
            tenant, _, rest = line.partition(" ")
            found[tenant] = _parse(rest)
        return found

    def end(self):
        """At the end of its input it closes the registry; its exit status."""
        self.process.stdin.close()
        return self.process.wait(SECONDS)

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _line(self, seconds):
        line = self._lines.get(timeout=seconds)
        assert line is not None, f"the driver ended: {self.process.wait()}"
        return line


def _parse(line):
    code, ms, text = line.split(" ", 2)
    return Answer(code, int(ms) / 1000, text)
