"""Fixtures of all tests: artifacts, made once for the session."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch
from warnings import catch_warnings, filterwarnings

import pytest

# As the service and the command line do, before TensorFlow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# A shell starts its background jobs with SIGINT ignored, and the processes that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The settings in the environment of the caller must not reach the tests.
for name in [name for name in os.environ if name.startswith("ADDER_")]:
    del os.environ[name]

from training.__main__ import main  # noqa: E402  after the environment is set

ROOT = Path(__file__).parent.parent


def run_training(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line of training in this process, which has imported TensorFlow already."""
    command, stdout, stderr = ["training", *map(str, arguments)], StringIO(), StringIO()
    with (
        patch.object(sys, "argv", command),
        patch.dict(os.environ),  # `train` changes it, for its own process
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        catch_warnings(),
    ):
        filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # TensorFlow's own
        try:
            main()
        except SystemExit as end:
            status = end.code
    if isinstance(status, str):  # as the interpreter does when it ends
        stderr.write(f"{status}\n")
        status = 1
    return subprocess.CompletedProcess(command, status or 0, stdout.getvalue(), stderr.getvalue())


def training_process(*arguments: object) -> subprocess.Popen[str]:
    """Start `python -m training` in a process of its own."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_training_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m training` in a process of its own, to its end."""
    with training_process(*arguments) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


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
    trained = run_training_process("train", folder, "--epochs", 1, "--examples", 10_000)
    assert trained.returncode == 0, trained.stderr
    return folder


@pytest.fixture(scope="session")
def barely_trained(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of `checkpoints`, exported as adder/1, so that `export.check` accepts it.

    Tests must not change it: `artifact` is a copy for that.
    """
    artifacts = tmp_path_factory.mktemp("artifacts")
    exported = run_training_process("export", checkpoints, "--artifacts", artifacts, "--name", "adder")
    assert exported.returncode == 0, exported.stderr
    for stage in ("tracing the signatures", "converting the SavedModel", "comparing the engines"):
        assert f"\n{stage}" in f"\n{exported.stderr}"  # what takes long is announced
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
