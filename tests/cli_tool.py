"""The command line program from outside: a state directory of its own, a clean environment."""

import base64
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import jsonschema

ROOT = Path(os.environ.get("DEKHAND_ROOT", Path(__file__).resolve().parents[1]))
PROGRAM = os.environ.get("DEKHAND_BIN", str(ROOT / "build" / "dekhand"))
SCHEMAS = ROOT / "docs" / "schemas"
# Every process of the other builds takes many times as long: what they leave out says docs/BAR.md.
IN_FULL = os.environ.get("DEKHAND_BUILD", "release") == "release"
RANDOM_FILES, RANDOM_BYTES = (300, 100) if IN_FULL else (60, 20)  # of CSV, and of JSONL
TIMEOUT = 120
PRINTED = os.environ.get("DEKHAND_PRINTED")

# What a sanitizer or a coverage build needs; everything else of the caller stays outside.
KEPT = ("PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS")

# A process inherits the peak of the one that started it, so that one has to be small.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


class Cli:
    """`dekhand` in one folder: its state in `state`, its home in `home`."""

    def __init__(self, folder, **env):
        self.folder = Path(folder)
        self.state = self.folder / "state"
        self.home = self.folder / "home"
        self.home.mkdir(exist_ok=True)
        self.env = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.env.update(HOME=str(self.home), KMS_STATE_DIR=str(self.state), LC_ALL="C.UTF-8", **env)

    @property
    def database(self):
        return self.state / "dekhand.db"

    @property
    def master_key(self):
        return self.state / "master.key"

    def without(self, *names):
        """The same without some variables of the environment."""
        other = Cli(self.folder)
        other.env = {name: value for name, value in self.env.items() if name not in names}
        return other

    def run(self, *args, stdin=b"", env=None, **more):
        """Runs it; stdout and stderr are bytes."""
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        done = subprocess.run([PROGRAM, *map(_argument, args)], input=stdin, cwd=self.folder,
                              env={**self.env, **(env or {})}, timeout=TIMEOUT, check=False,
                              **{**pipes, **more})
        self._keep_printed(args, done)
        return done

    def _keep_printed(self, args, done):
        """For the harness, which looks for secrets in it. Where one is asked for it may be."""
        if PRINTED is not None:
            asked_for = args[:1] == ("decrypt",) or args[:2] == ("keys", "export")
            with open(Path(PRINTED) / (str(self.folder).replace("/", "%") + "%"), "ab") as file:
                file.write((done.stderr or b"") + (b"" if asked_for else done.stdout or b""))

    def ok(self, *args, **more):
        """Runs it, it ends 0; what it wrote to standard output."""
        done = self.run(*args, **more)
        assert done.returncode == 0, told(done)
        return done.stdout

    def json(self, *args, schema=None, **more):
        """The one object that --json printed, after a look at its schema."""
        found = json.loads(self.ok(*args, "--json", **more))
        if schema is not None:
            check_schema(schema, found)
        return found

    def fails(self, code, *args, **more):
        """Runs it, it ends with this code and writes no data; what it said."""
        done = self.run(*args, **more)
        assert done.returncode == code, told(done)
        assert done.stdout == b"", told(done)
        return done.stderr.decode()

    def measured(self, *args, source, target):
        """Runs it from file to file, it ends 0; the most memory it held, in KiB."""
        argv = [sys.executable, "-S", "-c", MEASURE, PROGRAM, *map(_argument, args)]
        with open(source, "rb") as stdin, open(target, "wb") as stdout:
            done = subprocess.run(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                                  env=self.env, cwd=self.folder, timeout=1800, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stderr.splitlines()[-1])

    def export(self, tenant, version):
        """The data key."""
        found = self.json("keys", "export", "--tenant", tenant, "--version", version,
                          "--allow-key-export", schema="keys-export")
        return base64.b64decode(found["dataKey"], validate=True)

    def query(self, sql):
        """Rows of the registry, read as an operator would."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as registry:
            return registry.execute(sql).fetchall()


def _argument(arg):
    return arg if isinstance(arg, bytes) else str(arg)


def told(done):
    """For the message of a failed assertion."""
    return f"{done.args} ended {done.returncode}\n{done.stdout[:2000]}\n{done.stderr[:2000]}"


def check_schema(name, found):
    """`found` is what docs/schemas/<name>.json describes."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(found)
