"""The sanitizer builds: options, where their reports go, how a program is started.

Reports go to files, so that one from a child process whose output a test swallowed still counts.
(gcc's UBSan beside ASan writes to standard error all the same; it ends the process with 86.)
"""

import shutil
import subprocess

# 86 is no exit code of dekhand: a report cannot pass for an expected failure.
_COMMON = "exitcode=86:log_path={log}"
_OPTIONS = {
    "asan": {
        "ASAN_OPTIONS": _COMMON + ":detect_leaks=1:detect_stack_use_after_return=1"
                                  ":strict_string_checks=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": _COMMON + ":print_stacktrace=1:halt_on_error=1",
    },
    # die_after_fork=0: tests fork with threads running, on purpose.
    "tsan": {"TSAN_OPTIONS": _COMMON + ":die_after_fork=0:second_deadlock_stack=1"},
}
# Suites that a build leaves out. TSan looks for races between threads; dekhand starts none, so of a
# sweep in one thread it says what ASan says, for three times the time.
LEFT_OUT = {name: {"tsan"} for name in (
    "scenario/alloc_test",  # each allocation fails once
    "scenario/damaged_test",  # a flipped byte, 2,500 times
    "scenario/io_sweep_test",  # each call of the disk fails once
    "scenario/kill_test",  # a process killed at each of its points
    "scenario/power_cut_test",  # lives over power cuts
    "scenario/prune_test",  # thousands of rows of the log
)}
# TSan's shadow memory has fixed places; with 32 random bits of layout a program may be mapped
# there. It says this and ends before main().
TSAN_UNLUCKY = "unexpected memory mapping"


def environment(build, scratch):
    """The variables of a build; none for a build without sanitizers."""
    log = scratch / "report"
    return {name: text.format(log=log) for name, text in _OPTIONS.get(build, {}).items()}


def reports(scratch):
    """The text of every report written since the start."""
    return "".join(path.read_text(errors="replace") for path in sorted(scratch.glob("report.*")))


def launcher(build):
    """What stands before a program: for TSan, setarch -R where the machine permits it."""
    if build != "tsan" or shutil.which("setarch") is None:
        return []
    permitted = subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0
    return ["setarch", "-R"] if permitted else []
