"""The TAP of cmocka, as 1.1.5 and 1.1.7 print it."""

from harness import tap

MIXED = """1..4
said by the test
ok 1 - good
not ok 2 - bad
# 0x1 != 0x2
# t.c:9: error: Failure!
needs two processors
not ok 3 # SKIP parallel
not ok 4 - late Could not run test: Test setup failed
# not ok - group
"""


def test_every_kind_of_line_is_counted():
    seen = tap.parse(MIXED)
    assert (seen.planned, seen.ran, seen.passed, seen.failed) == (4, 4, 1, 2)
    assert seen.skips == ["parallel: needs two processors"]
    assert seen.problem == ""


def test_groups_add_up():
    seen = tap.parse("1..1\nok 1 - a\n# ok - g\n1..2\nok 1 - b\nok 2 - c\n# ok - h\n")
    assert (seen.planned, seen.passed, seen.problem) == (3, 3, "")


def test_newer_form_of_a_skip():
    seen = tap.parse("TAP version 13\n1..1\nok 1 # SKIP a\n")
    assert (seen.passed, seen.skips, seen.problem) == (0, ["a"], "")


def test_crash_leaves_a_plan_unfulfilled():
    assert tap.parse("1..3\nok 1 - a\n").problem == "planned 3 tests, ran 1"


def test_empty_program_is_a_problem():
    assert tap.parse("").problem == "ran no test"
    assert tap.parse("1..0\n").problem == "ran no test"


def test_failed_teardown_of_a_group_is_a_failure():
    seen = tap.parse("1..1\nok 1 - a\nnot ok 0 - g [  FAILED  ] GROUP TEARDOWN\n# ok - g\n")
    assert (seen.passed, seen.failed, seen.problem) == (1, 1, "")
