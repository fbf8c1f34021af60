import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, missing


def benchmark(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=variables or None, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_a_small_benchmark_shows_goals_beside_results(tmp_path: Path) -> None:
    if not shutil.which("wrk"):
        missing("wrk")
    done = benchmark("--small", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "RESULTS.md").read_text().strip()
    goals = re.findall(r"^\| .+ \| at (?:least|most) [\d.]+ \| [\d.]+ \| (?:met|missed) \|$", done.stdout, re.MULTILINE)
    assert len(goals) == 11
    assert (tmp_path / "RESULTS.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_wrk_is_reported_with_its_package(tmp_path: Path) -> None:
    done = benchmark("--small", tmp_path, PATH="")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: wrk is missing")
