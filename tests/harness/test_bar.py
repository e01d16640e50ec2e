"""scripts/bar.py on small trees."""

import pytest

import bar

WHOLE = {test_id: "later" for test_id in bar.IDS}


def row(test_id="I05", words="w", step="Core", status="test"):
    return f"| {test_id} | {words} | {step} | {status} |\n"


def page(statuses):
    return "# t\n\n| id | words | step | status |\n|---|---|---|---|\n" + "".join(
        row(test_id, status=status) for test_id, status in statuses.items())


def run(root, capsys, monkeypatch, text, tests=()):
    """(exit code, printed lines) for a docs/BAR.md and test files as (path, content)."""
    for path, content in (("docs/BAR.md", text), ("tests/a.txt", ""), *tests):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    monkeypatch.setattr("sys.argv", ["bar.py", str(root)])
    return bar.main(), capsys.readouterr().out.splitlines()


def test_the_list_is_whole():
    assert len(bar.IDS) == len(set(bar.IDS)) == 32 + 80 + 30
    assert {"I01", "I32", "F01", "F80", "R1", "R30"} <= set(bar.IDS)


def test_all_later_and_no_test_holds(tmp_path, capsys, monkeypatch):
    assert run(tmp_path, capsys, monkeypatch, page(WHOLE)) == (
        0, ["the bar holds: 142 ids (0 test, 0 part, 142 later)"])


def test_missing_id_is_named(tmp_path, capsys, monkeypatch):
    text = page({test_id: "later" for test_id in bar.IDS if test_id != "F36"})
    assert run(tmp_path, capsys, monkeypatch, text) == (1, ["F36: docs/BAR.md has no such row"])


@pytest.mark.parametrize("status, code", [("test", 1), ("part", 1), ("later", 0)])
def test_claim_without_a_test_is_named(tmp_path, capsys, monkeypatch, status, code):
    got, lines = run(tmp_path, capsys, monkeypatch, page({**WHOLE, "R2": status}))
    assert got == code
    assert lines[0].startswith("R2: " if code else "the bar holds")


@pytest.mark.parametrize("path, content", [
    ("tests/unit/a_test.c", "static void R2_first_use(void **state)\n{\n}\n"),
    ("tests/contract/a_test.c", "CONTRACT(I05_R2_first_use)\n"),
    ("tests/scenario/a_test.c", "static void test_R2_first_use(void **state)\n"),
    ("tests/scenario/test_a.py", "def test_R2_first_use():\n    pass\n"),
    ("tests/scenario/test_a.py", "class TestA:\n    def test_I05_R2_first_use(self):\n        pass\n"),
])
def test_tests_are_found(tmp_path, capsys, monkeypatch, path, content):
    statuses = {**WHOLE, "R2": "test", "I05": "part"}
    code, lines = run(tmp_path, capsys, monkeypatch, page(statuses), [
        (path, content), ("tests/unit/b_test.c", "static void I05_one(void **state)\n")])
    assert (code, lines) == (0, ["the bar holds: 142 ids (1 test, 1 part, 140 later)"])


@pytest.mark.parametrize("path, content", [
    ("tests/unit/a_test.c", "/* R2_first_use */ // R2_first_use\n"),
    ("tests/unit/a_test.c", 'printf("R2_first_use\\"R2_first_use");\n'),
    ("tests/unit/a_test.c", "int R2_MAX, xR2_first, first_R2_use;\n"),
    ("tests/unit/a.c", "static void R2_first_use(void **state)\n"),
    ("tests/scenario/test_a.py", "# def test_R2_first_use():\n"),
    ("tests/scenario/test_a.py", "def R2_first_use():\n    pass\n"),
    ("tests/scenario/a.py", "def test_R2_first_use():\n    pass\n"),
])
def test_what_is_no_test_is_passed_over(tmp_path, capsys, monkeypatch, path, content):
    code, lines = run(tmp_path, capsys, monkeypatch, page({**WHOLE, "R2": "test"}), [(path, content)])
    assert (code, lines) == (1, ["R2: docs/BAR.md says `test`, and no test begins with it"])


def test_test_of_a_later_id_is_named(tmp_path, capsys, monkeypatch):
    code, lines = run(tmp_path, capsys, monkeypatch, page(WHOLE),
                      [("tests/unit/a_test.c", "static void F36_two(void **state)\n")])
    assert (code, lines) == (
        1, ["F36: docs/BAR.md says `later`, and there is tests/unit/a_test.c: F36_two"])


@pytest.mark.parametrize("name", ["I33_x", "F81_x", "R31_x", "R02_x", "I5_x"])
def test_test_of_an_unknown_id_is_named(tmp_path, capsys, monkeypatch, name):
    code, lines = run(tmp_path, capsys, monkeypatch, page(WHOLE),
                      [("tests/unit/a_test.c", f"static void {name}(void **state)\n")])
    assert (code, lines) == (1, [f"{name[:-2]}: no such id (tests/unit/a_test.c: {name})"])


@pytest.mark.parametrize("line, why", [
    (row("I33"), "no such id"),
    (row(words=""), "not: id"),
    ("| I05 | w | Core |\n", "not: id"),
    (row(step="Soon"), "the step is none of"),
    (row(status="done"), "the status is none of"),
    (row(status="later") * 2, "a second row"),
])
def test_row_that_is_none_is_named(line, why):
    rows, findings = bar.read_rows(line)
    assert len(rows) == len(findings) == 1
    assert why in findings[0]


def test_tables_of_other_things_are_passed_over():
    assert bar.read_rows("| point | where |\n| after_commit | I05 |\n|I05x| w |\nI05 | w\n") == ({}, [])
