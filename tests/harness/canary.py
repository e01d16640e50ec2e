"""Looks for secrets in all that a suite left and printed (I28, R28, F78).

Known secrets are the marked plaintexts of the tests, and every key of every registry that was left:
master keys, registry keys and what is derived from them, data keys and what is derived from them.
Each is looked for as itself, in hex, and in both base64 alphabets wherever it may begin in a text.
"""

import base64
import sqlite3
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass

from harness.report import Result
from harness.tree import ROOT

sys.path.insert(0, str(ROOT / "tests" / "format"))
import dk1  # noqa: E402  (found by the line above)

MARK = b"dekhand-canary-b2f1c7e6"  # in plaintexts of tests/support/world.c and test_cli_canary.py
ALWAYS = {"a plaintext": MARK, "the fake's master key": b"\xfa" * 32}  # fake_provider.c
SQLITE = b"SQLite format 3\0"
# Bad rows are set aside byte for byte: that is what the file is for.
PLAINTEXT_IS_MEANT = {"rejects"}


def forms(secret):
    """Every way in which the bytes may stand in a file."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret)
        # Only characters whose six bits all are the secret's.
        text = text[(8 * before + 5) // 6:8 * (before + len(secret)) // 6]
        found |= {text, text.replace(b"+", b"-").replace(b"/", b"_")}
    return found


@dataclass
class Totals:
    files: int = 0
    bytes: int = 0
    secrets: int = 0
    findings: int = 0
    seconds: float = 0.0


totals = Totals()
_lock = threading.Lock()  # guards it: suites end side by side


# ---- what is secret ------------------------------------------------------------------------------

def master_keys(data):
    """{number: key} of a master key file; nothing for what is none."""
    if not data.startswith(dk1.MASTER_HEAD):
        return {}
    try:
        return {number: key for number, _, key in dk1.parse_master_key_file(data)}
    except dk1.Dk1Error:
        return {}


def rows(path):
    """Every row of every table, as {table: [tuple]}; nothing for what cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            db.text_factory = bytes
            tables = [name.decode() for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
    except sqlite3.Error:
        return {}


def read_wraps(path):
    """(the registry row or None, the key rows) by column name, as text."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            db.row_factory = sqlite3.Row
            found = db.execute("SELECT * FROM registry WHERE encrypted_data_key IS NOT NULL").fetchall()
            return found[0] if found else None, db.execute("SELECT * FROM encryption_keys").fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return None, []


def unwrap(masters, row, context_of):
    """The key of a row; None where no master key opens it (tests spoil rows on purpose)."""
    try:
        return dk1.local_unwrap(masters, row["kms_key_id"], row["encrypted_data_key"], context_of(row))
    except (dk1.Dk1Error, ValueError, TypeError, AttributeError):
        return None


def keys_of(masters, path):
    """Every key of a registry by name."""
    registry, key_rows = read_wraps(path)
    found = {}
    if registry is not None:
        key = unwrap(masters, registry, lambda row: dk1.registry_key_context(
            row["registry_uuid"], row["context_timestamp"]))
        if key is not None:
            subkeys = dk1.registry_subkeys(key)
            found |= {"registry key": key, **{name: subkeys[name] for name in ("k_row", "k_log", "k_seal")}}
    for row in key_rows:
        tenant, version = row["tenant_id"], row["version"]
        key = unwrap(masters, row, lambda row: dk1.data_key_context(
            row["tenant_id"], row["context_timestamp"]))
        if key is not None:
            found |= {f"data key {tenant}:{version}": key,
                      f"derived key {tenant}:{version}": dk1.derive(key, tenant, version)[0]}
    return found


# ---- where it is looked for ----------------------------------------------------------------------

def contents_of(path, data):
    """A file as it is, and the rows of a database once more: SQLite cuts long ones into pages."""
    yield data
    if data.startswith(SQLITE):
        yield b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode()
                         for table in rows(path).values() for row in table for cell in row)


def files_below(folder):
    """{path: bytes} of the regular files."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()}


def scan(folder, printed=None):
    """What was found below `folder` and in `printed` ({name: bytes}): [sentence]."""
    began = time.monotonic()
    files = files_below(folder)
    masters = {f"a master key ({n})": (n, key) for data in files.values()
               for n, key in master_keys(data).items()}
    by_name = {**ALWAYS, **{name: key for name, (_, key) in masters.items()}}
    for path, data in files.items():
        if data.startswith(SQLITE):
            by_name |= keys_of(dict(masters.values()), path)
    secrets = Secrets(by_name)
    found = []
    for path, data in files.items():
        found += [f"{path.relative_to(folder)} holds {name}"
                  for name in sorted(look_at(path, data, secrets))]
    for name, data in (printed or {}).items():
        found += [f"{name} shows {secret}" for secret in sorted(secrets.in_data(data))]
    count(files, printed or {}, by_name, found, time.monotonic() - began)
    return found


def look_at(path, data, secrets):
    """The names of the secrets that a file holds and must not hold."""
    if data.startswith(dk1.MASTER_HEAD):  # the one place where master keys are, once, as base64
        for name, key in secrets.by_name.items():
            if name.startswith("a master key"):
                data = data.replace(base64.b64encode(key), b"", 1)
    found = set().union(*(secrets.in_data(content) for content in contents_of(path, data)))
    return found - {"a plaintext"} if path.name.split(".")[0] in PLAINTEXT_IS_MEANT else found


class Secrets:
    """Secrets by name, made ready to look for thousands of them at once.

    A form has 15 bytes or more, so wherever it stands, one of its first eight windows of eight bytes
    stands at a multiple of eight: only those places are compared, as numbers.
    """

    def __init__(self, by_name):
        self.by_name = by_name
        self.windows = {}
        for name, secret in by_name.items():
            for form in forms(secret):
                for at in range(8):
                    window = int.from_bytes(form[at:at + 8], sys.byteorder)
                    self.windows.setdefault(window, set()).add((name, form))
        self.numbers = set(self.windows)

    def in_data(self, data):
        """The names of those that stand in the bytes."""
        numbers = memoryview(data + bytes(-len(data) % 8)).cast("Q")
        return {name for window in self.numbers.intersection(numbers)
                for name, form in self.windows[window] if form in data}


def count(files, printed, secrets, found, seconds):
    with _lock:
        totals.files += len(files) + len(printed)
        totals.bytes += sum(map(len, [*files.values(), *printed.values()]))
        totals.secrets += len(secrets) - len(ALWAYS)
        totals.findings += len(found)
        totals.seconds += seconds


# ---- what suites left ----------------------------------------------------------------------------

def scan_kept(kept, output):
    """The folders that a C program gave away, and what it printed."""
    found = scan_printed(output)
    for folder in sorted(kept.iterdir()):
        found += [f"{folder.name}: {text}" for text in scan(folder)]
    return found


def scan_printed(output):
    return [f"what it printed shows {name}" for name in sorted(Secrets(ALWAYS).in_data(output.encode()))]


def scan_pytest(scratch, output):
    """The folder of each test, with what the program printed there (tests/cli_tool.py)."""
    found = scan_printed(output)
    for folder in sorted(scratch.glob("pytest-of-*/pytest-*/*")):
        if folder.is_dir() and not folder.is_symlink():
            printed = {"what was printed": path.read_bytes()
                       for path in sorted((scratch / "printed").glob(f"{slug(folder)}*"))}
            found += [f"{folder.name}: {text}" for text in scan(folder, printed)]
    return found


def slug(folder):
    """A path as the name of a file."""
    return str(folder).replace("/", "%") + "%"


def result():
    """The end of a run: one test, that something was looked at and nothing was found."""
    looked = totals.files > 0 and totals.secrets > 0
    return Result("canary scan", int(looked and totals.findings == 0),
                  int(not looked or totals.findings > 0), seconds=totals.seconds,
                  output=f"{totals.files} files, {totals.bytes} bytes, {totals.secrets} keys, "
                         f"{totals.findings} findings (they stand with their suites)")
