"""Suites side by side: the longest first, so that none of them is left alone at the end."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Callable

AT_ONCE = 3  # on two cores: many a suite waits for servers and clocks

# In order; every other suite takes less.
LONGEST = (
    "scenario/power_cut_test", "scenario/io_sweep_test", "scenario/test_cli_tamper",
    "scenario/damaged_test", "scenario/test_pg_faults", "scenario/test_pg_migrate",
    "scenario/test_pg_servers", "scenario/test_cli_jsonl", "scenario/test_cli_csv",
    "scenario/alloc_test", "scenario/test_cli_values", "scenario/test_cli_threads",
    "scenario/test_archive", "scenario/test_pg_doctor", "scenario/test_cli_operate",
    "scenario/test_docs", "scenario", "scenario/test_azure_faults", "scenario/test_pg_bench",
    "scenario/test_fakes", "scenario/test_pg_demo", "scenario/test_pg_roles", "scenario/test_aws",
    "scenario/test_azure", "scenario/kill_test@postgres", "contract/store_test@pooled",
    "scenario/prune_test@postgres",
)


@dataclass
class Job:
    name: str  # of its file below tests/, without the suffix
    call: Callable  # gives the Result


def run(report, jobs):
    """Runs them and reports each when it ends; True when nothing failed."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        futures = [pool.submit(job.call) for job in sorted(jobs, key=_place)]
        return all([report.add(done.result()) for done in as_completed(futures)])
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C: none that did not begin


def _place(job):
    return LONGEST.index(job.name) if job.name in LONGEST else len(LONGEST)
