"""The scan finds each secret in each form, wherever it stands, and lets pass what is allowed."""

import base64
import sqlite3

import pytest

from harness import canary

dk1 = canary.dk1
MASTER, REGISTRY, DATA = (bytes(range(n, n + 32)) for n in (1, 60, 190))
CREATED = "2025-10-14T12:00:00.000000Z"
UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
KEYS = {"a master key (1)": MASTER, "registry key": REGISTRY, "data key acme:1": DATA,
        "derived key acme:1": dk1.derive(DATA, "acme", 1)[0],
        **{f"{name}": dk1.registry_subkeys(REGISTRY)[name] for name in ("k_row", "k_log", "k_seal")},
        "a plaintext": canary.MARK, "the fake's master key": b"\xfa" * 32}
FORMS = {
    "raw": lambda secret: secret, "hex": lambda secret: secret.hex().encode(),
    "upper_hex": lambda secret: secret.hex().upper().encode(),
    **{f"{name}_{before}_{after}": lambda secret, f=f, b=before, a=after: f(b"x" * b + secret + b"y" * a)
       for name, f in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode))
       for before in range(3) for after in range(3)},
}


@pytest.fixture
def left(tmp_path):
    """What a test leaves: a master key file and a registry of one tenant."""
    folder = tmp_path / "left"
    folder.mkdir()
    (folder / "master.key").write_bytes(dk1.write_master_key_file([(1, CREATED, MASTER)]))
    name = dk1.local_key_id(MASTER)
    with sqlite3.connect(folder / "dekhand.db") as db:
        db.execute("CREATE TABLE registry (registry_uuid, kms_key_id, encrypted_data_key, context_timestamp)")
        db.execute("CREATE TABLE encryption_keys (tenant_id, version, kms_key_id, encrypted_data_key,"
                   " context_timestamp)")
        db.execute("CREATE TABLE key_rotation_log (detail)")
        db.execute("INSERT INTO registry VALUES (?, ?, ?, ?)", (UUID, name, dk1.local_wrap(
            MASTER, 1, REGISTRY, dk1.registry_key_context(UUID, CREATED)), CREATED))
        db.execute("INSERT INTO encryption_keys VALUES ('acme', 1, ?, ?, ?)", (name, dk1.local_wrap(
            MASTER, 1, DATA, dk1.data_key_context("acme", CREATED)), CREATED))
    db.close()
    return folder


@pytest.fixture(autouse=True)
def own_totals(monkeypatch):
    monkeypatch.setattr(canary, "totals", canary.Totals())


def test_I28_clean_folder_passes_and_its_keys_are_known(left):
    assert canary.scan(left, {"stderr": b"nothing"}) == []
    assert canary.totals.files == 3 and canary.totals.secrets == len(KEYS) - len(canary.ALWAYS)
    assert (canary.result().passed, canary.result().failed) == (1, 0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_I28_R28_each_secret_is_found_in_each_form_at_each_place(left, form):
    for name, secret in KEYS.items():
        for before in range(8):
            text = b"." * before + form(secret) + b"."
            (left / "file.log").write_bytes(text)
            assert canary.scan(left) == [f"file.log holds {name}"]
            (left / "file.log").unlink()
            assert canary.scan(left, {"stderr": text}) == [f"stderr shows {name}"]


def test_I28_secret_in_an_audit_row_is_found_across_the_pages_of_the_file(left):
    with sqlite3.connect(left / "dekhand.db") as db:
        [(page,)] = db.execute("PRAGMA page_size")
        for fill in range(0, page, 7):
            db.execute("INSERT INTO key_rotation_log VALUES (?)", ("." * (page + fill) + DATA.hex(),))
            db.execute("DELETE FROM key_rotation_log WHERE rowid < (SELECT max(rowid) FROM key_rotation_log)")
    db.close()
    assert "dekhand.db holds data key acme:1" in canary.scan(left)


def test_I28_master_key_file_holds_its_key_once_and_nothing_else(left):
    path = left / "master.key"
    good = path.read_bytes()
    for more, name in ((MASTER, "a master key (1)"), (base64.b64encode(MASTER), "a master key (1)"),
                       (DATA, "data key acme:1")):
        (left / "copy").write_bytes(good + more)
        assert canary.scan(left) == [f"copy holds {name}"]


def test_I28_bad_rows_may_hold_a_plaintext_and_no_key(left):
    (left / "rejects").write_bytes(canary.MARK)
    assert canary.scan(left) == []
    (left / "rejects").write_bytes(canary.MARK + DATA)
    assert canary.scan(left) == ["rejects holds data key acme:1"]


def test_I28_what_suites_leave_and_print_is_scanned(left, tmp_path):
    (left / "file").write_bytes(DATA)
    assert canary.scan_kept(tmp_path, canary.MARK.decode()) == [
        "what it printed shows a plaintext", "left: file holds data key acme:1"]
    test = tmp_path / "pytest-of-x" / "pytest-0" / "test_a0"
    test.parent.mkdir(parents=True)
    left.rename(test)
    (tmp_path / "printed").mkdir()
    (tmp_path / "printed" / canary.slug(test)).write_bytes(DATA.hex().encode())
    assert canary.scan_pytest(tmp_path, "") == [
        "test_a0: file holds data key acme:1", "test_a0: what was printed shows data key acme:1"]


def test_I28_scan_that_saw_nothing_or_found_something_fails(left):
    assert canary.result().failed == 1
    (left / "file").write_bytes(DATA)
    canary.scan(left)
    assert canary.result().failed == 1


def test_I28_tests_mark_their_plaintexts_with_what_is_looked_for():
    for path in ("tests/support/world.c", "tests/scenario/test_cli_canary.py"):
        assert canary.MARK in (canary.ROOT / path).read_bytes()
