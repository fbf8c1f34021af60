import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelUnavailable
from service.models import saved_model_check
from service.models.engines.litert import LiteRTEngine
from service.models.engines.saved_model import SavedModelEngine
from service.models.saved_model_check import SavedModelChecks
from tests.conftest import ROOT, newest
from tests.service.conftest import remove_files
from training import metadata


def run_check(artifacts: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ADDER_ARTIFACTS": str(artifacts)}
    command = [sys.executable, "-m", "service.models.saved_model_check"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def differing(artifact: Path, shipped: Path) -> Path:
    """A complete artifact whose serving LiteRT file is that of another model."""
    shutil.copy(shipped / "serving_bytes.tflite", artifact)
    shipped_metadata = metadata.read(shipped)
    metadata.write(artifact, shipped_metadata.model_copy(update={"version": 1}))
    return artifact


@pytest.mark.parametrize("name", ["adder", "cho2014", "last-digit", "sutskever2014"])
def test_the_files_of_shipped_models_agree(name: str) -> None:
    saved_model_check.check(newest(name))


@pytest.mark.parametrize("name", ["a[b]", "a\\b", "a*?{b} c"])
def test_any_path_is_loaded(barely_trained: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(barely_trained, tmp_path / name / "adder" / "1")
    assert saved_model_check.check(folder)["method_name"] == "tensorflow/serving/predict"


def test_files_that_differ_are_refused(differing: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by litert differ from the SavedModel's"):
        saved_model_check.check(differing)


def test_the_decoder_of_another_model_is_refused(artifact: Path, shipped: Path) -> None:
    original_metadata = metadata.read(artifact)
    shutil.copy(shipped / "decoding.tflite", artifact)
    metadata.write(artifact, original_metadata)
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by litert differ from the SavedModel's"):
        saved_model_check.check(artifact)


def test_other_k_best_answers_are_refused(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiteRTEngine, "k_best", lambda *_: [("1", 1.0)])
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by litert differ from the SavedModel's"):
        saved_model_check.check(barely_trained)


def test_a_version_without_litert_files_is_checked(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_files(artifact, "serving_bytes.tflite", "decoding.tflite")
    assert saved_model_check.check(artifact)["method_name"] == "tensorflow/serving/predict"
    monkeypatch.setattr(SavedModelEngine, "decode", lambda *_: iter([np.zeros(12, np.float32)]))
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by saved_model differ from the SavedModel's"):
        saved_model_check.check(artifact)


def test_the_check_prints_versions_that_differ(differing: Path) -> None:
    result = run_check(differing.parent.parent)
    assert result.returncode == 0
    [(folder, checked)] = json.loads(result.stdout).items()
    assert folder == str(differing)
    assert "differ from the SavedModel's" in checked["problem"]
    assert checked["signature_def"] == {}


def test_a_missing_model_is_an_error_of_one_line(tmp_path: Path) -> None:
    result = run_check(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'adder'} has no version")
    assert len(result.stderr.splitlines()) == 1


def test_the_check_prints_signatures_of_versions_that_agree(artifact: Path) -> None:
    [(folder, checked)] = json.loads(run_check(artifact.parent.parent).stdout).items()
    assert folder == str(artifact)
    assert checked["problem"] is None
    assert checked["signature_def"]["method_name"] == "tensorflow/serving/predict"
    query = checked["signature_def"]["inputs"]["query"]
    assert query["dtype"] == "DT_STRING"
    assert query["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert set(checked["signature_def"]["outputs"]) == {"answer", "probabilities", "confidence"}


def test_a_version_that_was_not_checked_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match="adder/1 was added after the service started: send SIGHUP"):
        SavedModelChecks().require_checked(Path("adder/1"))
