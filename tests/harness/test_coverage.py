"""The gates, on a small gcovr document."""

from harness import coverage


def line(number, count, *branches, **marks):
    return {"line_number": number, "count": count, "branches": [{"count": n} for n in branches],
            **marks}


def document(**field):
    files = {path: [line(1, 1, 1, 1)] for path in coverage.EVERY_BRANCH}
    files.update(field)
    return {"files": [{"file": path, "lines": lines} for path, lines in files.items()]}


def test_gates_hold():
    assert coverage.check(coverage.read(document())) == []


def test_branch_never_taken_is_named():
    lines = [line(7, 1, 1, 0), line(9, 1, 1, 1)]
    failures = coverage.check(coverage.read(document(**{"src/crypto/field.c": lines})))
    assert failures == ["src/crypto/field.c: branches never taken in lines 7"]


def test_lines_of_all_files_count_together():
    lines = [line(n, 0) for n in range(10)]
    failures = coverage.check(coverage.read(document(**{"src/base/a.c": lines})))
    assert failures == ["src/: 28.6 % of the lines, 90 % wanted"]


def test_excluded_lines_do_not_count():
    lines = [line(1, 0, **{"gcovr/noncode": True}), line(2, 0, **{"gcovr/excluded": True})]
    assert coverage.check(coverage.read(document(**{"src/base/a.c": lines}))) == []


def test_no_data_fails_every_gate():
    assert len(coverage.check([])) == 1 + len(coverage.EVERY_BRANCH)
