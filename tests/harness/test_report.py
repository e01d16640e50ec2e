"""Counting, the closing line and the exit status."""

from harness.report import Report, Result


def closing(capsys, ci, *results):
    report = Report(ci=ci)
    for result in results:
        report.add(result)
    status = report.close()
    return status, capsys.readouterr().out.splitlines()


def test_all_passed(capsys):
    status, lines = closing(capsys, False, Result("a", passed=2), Result("b", passed=1))
    assert (status, lines[-1]) == (0, "3 passed, 0 failed, 0 skipped")


def test_nothing_passed_is_not_a_success(capsys):
    status, lines = closing(capsys, False)
    assert (status, lines[-1]) == (1, "0 passed, 0 failed, 0 skipped")


def test_failure_shows_its_output(capsys):
    status, lines = closing(capsys, False, Result("a", 1, 1, output="1 passed, 0 failed\nwhy"))
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")
    assert "    why" in lines


def test_failures_come_again_just_before_the_closing_line(capsys):
    output = "\n".join(f"line {i}" for i in range(100))
    _, lines = closing(capsys, False, Result("a", 0, 1, output=output), Result("b", 1))
    said = lines[lines.index("What failed:"):]
    assert (said[1], said[2], said[-2]) == ("a: 1 failed", "    line 80", "    line 99")


def test_skip_is_counted_with_its_reason(capsys):
    status, lines = closing(capsys, False, Result("a", 1, skips=["b: no network"]))
    assert (status, lines[-1]) == (0, "1 passed, 0 failed, 1 skipped")
    assert "    skipped: b: no network" in lines


def test_skip_is_a_failure_in_ci(capsys):
    status, lines = closing(capsys, True, Result("a", 1, skips=["b: no network"]))
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")
    assert "    skipped: b: no network" in lines
