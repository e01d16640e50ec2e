"""The tree builds from an archive, without .git."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.release, pytest.mark.slow]

ROOT = Path(os.environ.get("DEKHAND_ROOT", Path(__file__).parents[2]))


def git(folder, *arguments):
    """Runs git with an index of its own, so that the user's stays as it is."""
    env = dict(os.environ, GIT_INDEX_FILE=str(folder / "index"))
    return subprocess.run(["git", *arguments], cwd=ROOT, env=env, check=True, text=True,
                          capture_output=True).stdout.strip()


@pytest.fixture
def unpacked(tmp_path):
    """`git archive` of the tree as it is now, committed or not."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree was itself made from an archive")
    git(tmp_path, "read-tree", "HEAD")
    git(tmp_path, "add", "--all")
    archive = tmp_path / "dekhand.tar"
    git(tmp_path, "archive", f"--output={archive}", git(tmp_path, "write-tree"))
    tree = tmp_path / "dekhand"
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
    yield tree
    # The sources hold published test keys: nothing for the scan for secrets.
    archive.unlink()
    shutil.rmtree(tree)


def test_archive_builds_without_git(unpacked):
    made = subprocess.run(["make", "-j2", "all"], cwd=unpacked, capture_output=True, text=True,
                          timeout=600)
    assert made.returncode == 0, made.stdout + made.stderr
    for name in ("dekhand", "libdekhand.so.0", "libdekhand.a"):
        assert (unpacked / "build" / name).is_file()
