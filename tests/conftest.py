"""Fixtures of all tests: artifacts, made once for the session."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

# As the service and the command line do, before TensorFlow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# The settings in the environment of the caller must not reach the tests.
for name in [name for name in os.environ if name.startswith("ADDER_")]:
    del os.environ[name]

ROOT = Path(__file__).parent.parent


def run_training(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m training` in a process of its own."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def newest(model: str) -> Path:
    """Return the newest committed version of a model."""
    return max((ROOT / "model_artifacts" / model).iterdir(), key=lambda folder: int(folder.name))


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The newest committed version of adder."""
    return newest("adder")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a network trained for one short epoch: most of its answers are wrong."""
    folder = tmp_path_factory.mktemp("checkpoints")
    trained = run_training("train", folder, "--epochs", 1, "--examples", 20_480)
    assert trained.returncode == 0, trained.stderr
    return folder


@pytest.fixture(scope="session")
def barely_trained(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of `checkpoints`, exported as adder/1. Tests must not change it: `artifact` is a copy for that."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    exported = run_training("export", checkpoints, "--artifacts", artifacts, "--name", "adder")
    assert exported.returncode == 0, exported.stderr
    return artifacts / "adder" / "1"


@pytest.fixture
def artifact(barely_trained: Path, tmp_path: Path) -> Path:
    """A copy of the barely trained artifact, which a test may change."""
    return shutil.copytree(barely_trained, tmp_path / "artifacts" / "adder" / "1")


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, where everything must be installed."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")
