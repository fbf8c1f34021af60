"""A study on a real Ray cluster of two processes on this machine."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, missing
from tests.end_to_end.conftest import free_port
from tests.environments import NoEnvironment, environment
from training.study.compare import read_lines

# Runs what `python -m training compare` does, with two trainings of seconds.
STUDY = """
import sys
from pathlib import Path
from training.study import compare, comparisons

short = {"task": "reversal", "examples": 2048, "epochs": 2, "batch_size": 256, "units": 16}
comparisons.COMPARISONS = {"short": {"reversed": short, "unreversed": short | {"reverse": False}}}
comparisons.SEEDS = (1,)
compare.compare(["short"], Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return environment("ray", ROOT / "training" / "requirements-ray.txt") / "bin" / "python"
    except NoEnvironment as problem:
        missing(f"the environment of Ray: {problem}")


@pytest.fixture
def cluster(python: Path) -> Iterator[str]:
    """Two nodes with a processor each: two trainings at once are on both."""
    host, port = "127.0.0.1", str(free_port())
    # Ray's sockets are below the folder: their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        head = ["--head", "--port", port, "--temp-dir", folder, "--include-dashboard", "false"]
        for options in (head, ["--address", f"{host}:{port}"]):
            command: list[str | Path] = [
                python.with_name("ray"),
                "start",
                "--node-ip-address",
                host,
                "--num-cpus",
                "1",
                *options,
            ]
            started = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            assert started.returncode == 0, started.stderr
        yield f"{host}:{port}"
        subprocess.run([python.with_name("ray"), "stop", "--force"], capture_output=True, check=True)


@pytest.mark.timeout(900)  # with the environment, on a busy machine
def test_a_cluster_runs_the_trainings_of_a_study(python: Path, cluster: str, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    command: list[str | Path] = [python, "-c", STUDY, results, tmp_path / "checkpoints", cluster]
    ran = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = read_lines(results)
    assert {line.recipe.reverse for line in lines} == {False, True}
    for line in lines:
        assert (line.held_out.queries, len(line.epochs)) == (1953, 2)
    assert any(line.startswith("2 of 2: ") for line in ran.stdout.splitlines())  # Ray adds lines of the trainings
