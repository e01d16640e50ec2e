"""How the end of a program or of pytest becomes a result."""

import sys
import time

from harness import suites
from harness.command import Outcome, run


def judge(text, code=0, reports=""):
    result = suites._judge("a", Outcome(code, text, "", 0.1), reports)
    return result.passed, result.failed, result.output


def test_good_program():
    assert judge("1..1\nok 1 - a\n")[:2] == (1, 0)


def test_crash_after_the_last_test_fails():
    passed, failed, output = judge("1..1\nok 1 - a\n", -11)
    assert (passed, failed) == (1, 1)
    assert "ended by SIGSEGV" in output


def test_crash_in_a_test_fails_once():
    passed, failed, output = judge("1..2\nok 1 - a\n", -6)
    assert (passed, failed) == (1, 1)
    assert "planned 2 tests, ran 1" in output and "SIGABRT" in output


def test_status_of_failed_tests_is_no_second_failure():
    assert judge("1..2\nok 1 - a\nnot ok 2 - b\n", 1)[:2] == (1, 1)


def test_sanitizer_report_fails_a_good_run():
    passed, failed, output = judge("1..1\nok 1 - a\n", 0, "ERROR: LeakSanitizer")
    assert (passed, failed) == (1, 1)
    assert "LeakSanitizer" in output


def test_command_is_stopped_at_its_limit():
    outcome = run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)
    assert outcome.code is None and outcome.seconds < 30
    assert "stopped at the time limit" in outcome.ending


def test_command_leaves_nothing_behind():
    script = "import subprocess as s; print(s.Popen(['sleep', '60']).pid)"
    pid = int(run([sys.executable, "-c", script], timeout=30).stdout)
    until = time.monotonic() + 30
    while not gone(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert gone(pid)


def gone(pid):
    """True for a process that has ended (one that nobody waited for is a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # before the open, or after it
        return True


def test_junit_counts(tmp_path):
    xml = tmp_path / "r.xml"
    xml.write_text("""<testsuites><testsuite><testcase name="a"/>
        <testcase name="b"><failure message="m"/></testcase>
        <testcase name="c"><error message="m"/></testcase>
        <testcase name="d"><skipped message="no data"/></testcase></testsuite></testsuites>""")
    assert suites._read_junit(xml) == (1, 2, ["d: no data"])


def test_pytest_that_wrote_no_results_fails(tmp_path):
    result = suites._judge_pytest("a", Outcome(4, "usage", "", 0.1), tmp_path / "none.xml", "")
    assert (result.passed, result.failed) == (0, 1)
