"""The fuzz targets of the fuzz build, each for some seconds."""

from concurrent.futures import ThreadPoolExecutor, as_completed

from harness.command import run
from harness.report import Result
from harness.tree import ROOT, clean_environment, out_dir

AT_ONCE = 2


def run_all(report, seconds):
    out = out_dir("fuzz")
    targets = sorted(path for path in (out / "fuzz").glob("*_fuzz"))
    if not targets:
        report.add(Result("fuzz", failed=1, output=f"no *_fuzz in {out / 'fuzz'}"))
    (out / "crashes").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in as_completed([pool.submit(_fuzz, target, seconds) for target in targets]):
            report.add(done.result())


def _fuzz(target, seconds):
    """One test: no input crashes, hangs or leaks. New inputs stay below build/."""
    name = target.name.removesuffix("_fuzz")
    found = out_dir("fuzz") / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    kept = ROOT / "tests" / "fuzz" / "corpus" / name
    crashes = out_dir("fuzz") / "crashes"
    argv = [target, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
            "-print_final_stats=1", f"-artifact_prefix={crashes}/{name}-", found,
            *([kept] if kept.is_dir() else [])]
    outcome = run(argv, env=clean_environment(), timeout=seconds + 120)
    failed = outcome.ending != ""
    return Result(f"fuzz: {name}", int(not failed), int(failed), seconds=outcome.seconds,
                  output=f"{outcome.output}{outcome.ending}; inputs that fail: {crashes}/{name}-*")
