import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import ModelUnavailable
from service.models import saved_model_check
from service.models.artifact import Artifact
from service.models.catalog import Catalog
from service.models.engines.litert import LiteRTEngine
from service.models.engines.saved_model import SavedModelEngine
from tests.conftest import newest
from tests.service.conftest import edit_metadata, remove_files
from training import metadata

CheckIn = Callable[..., Catalog]


def check(folder: Path) -> dict[str, Any]:
    return saved_model_check.check(folder, Artifact.load(folder))


@pytest.fixture
def check_in(monkeypatch: pytest.MonkeyPatch) -> CheckIn:
    """Runs the check in its process on an artifacts folder."""

    def run(artifacts: Path, before: Catalog | None = None) -> Catalog:
        monkeypatch.setenv("ADDER_ARTIFACTS", str(artifacts))
        return saved_model_check.check_versions(before or Catalog())

    return run


@pytest.fixture
def differing(artifact: Path, shipped: Path) -> Path:
    """A complete artifact whose serving LiteRT file is that of another model."""
    shutil.copy(shipped / "serving_bytes.tflite", artifact)
    shipped_metadata = metadata.read(shipped)
    metadata.write(artifact, shipped_metadata.model_copy(update={"version": 1}))
    return artifact


@pytest.mark.parametrize("name", ["adder", "cho2014", "last-digit", "sutskever2014"])
def test_the_files_of_shipped_models_agree(name: str) -> None:
    check(newest(name))


@pytest.mark.parametrize("name", ["a[b]", "a\\b", "a*?{b} c"])
def test_any_path_is_loaded(barely_trained: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(barely_trained, tmp_path / name / "adder" / "1")
    assert check(folder)["method_name"] == "tensorflow/serving/predict"


def test_files_that_differ_are_refused(differing: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by litert differ from the SavedModel's"):
        check(differing)


def test_the_decoder_of_another_model_is_refused(artifact: Path, shipped: Path) -> None:
    original_metadata = metadata.read(artifact)
    shutil.copy(shipped / "decoding.tflite", artifact)
    metadata.write(artifact, original_metadata)
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by litert differ from the SavedModel's"):
        check(artifact)


def test_other_k_best_answers_are_refused(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiteRTEngine, "k_best", lambda *_: [("1", 1.0)])
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by litert differ from the SavedModel's"):
        check(barely_trained)


def test_a_version_without_litert_files_is_checked(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_files(artifact, "serving_bytes.tflite", "decoding.tflite")
    assert check(artifact)["method_name"] == "tensorflow/serving/predict"
    monkeypatch.setattr(SavedModelEngine, "decode", lambda *_: iter([np.zeros(12, np.float32)]))
    with pytest.raises(ModelUnavailable, match=r"/1: probabilities by saved_model differ from the SavedModel's"):
        check(artifact)


def test_a_version_that_differs_is_not_served(check_in: CheckIn, differing: Path, barely_trained: Path) -> None:
    shutil.copytree(barely_trained, differing.with_name("0"))
    edit_metadata(differing.with_name("0"), version=0)
    catalog = check_in(differing.parent.parent)
    assert catalog.served() == {"adder": [0]}
    version = catalog.version("adder", 1)
    assert version.state == "failed"
    assert "differ from the SavedModel's" in str(version.reason)


def test_a_missing_model_is_a_problem(check_in: CheckIn, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"{tmp_path}/adder has no version"):
        check_in(tmp_path)


def test_the_check_returns_signatures(check_in: CheckIn, artifact: Path) -> None:
    version = check_in(artifact.parent.parent).version("adder", 1)
    assert version.state == "available"
    assert version.signature_def["method_name"] == "tensorflow/serving/predict"
    query = version.signature_def["inputs"]["query"]
    assert query["dtype"] == "DT_STRING"
    assert query["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert set(version.signature_def["outputs"]) == {"answer", "probabilities", "confidence"}


def test_a_second_check_keeps_what_is_served(check_in: CheckIn, artifact: Path) -> None:
    catalog = check_in(artifact.parent.parent)
    (artifact / "saved_model.pb").write_bytes(b"half of one")
    damaged = check_in(artifact.parent.parent, catalog).version("adder", 1)
    assert (damaged.state, damaged.is_served, damaged.sha256) == ("damaged", True, catalog.version("adder", 1).sha256)


def evidence(wrong: int) -> dict[str, Any]:
    part = {"queries": 1000, "wrong": wrong, "exact_match": 1 - wrong / 1000}
    margin = {"query": "0+0", "smallest": 0.5}
    parts = dict.fromkeys(("domain", "train", "validation", "held_out"), part)
    return {**parts, "is_sample": False, "calibration_error": 0.0, "margin": margin}


@pytest.mark.parametrize(
    ("wrong_of_newer", "wrong", "reason"),
    [
        (2, 2, None),
        (1, 2, None),
        (2, None, None),
        (3, 2, "99.7000% of its answers are right by its evidence, and 99.8000% of those of version 1"),
        (None, 2, "it was not evaluated: run `python -m training evaluate "),
        (None, None, "it was not evaluated"),
    ],
)
def test_a_version_that_is_less_right_is_held_back(
    artifact: Path, wrong_of_newer: int | None, wrong: int | None, reason: str | None
) -> None:
    newer = shutil.copytree(artifact, artifact.with_name("2"))
    edit_metadata(newer, version=2, evidence=None if wrong_of_newer is None else evidence(wrong_of_newer))
    edit_metadata(artifact, evidence=None if wrong is None else evidence(wrong))
    held_back = saved_model_check.Examiner().held_back(newer, artifact)
    assert (held_back is None) == (reason is None)
    assert (reason or "") in (held_back or "")


def test_a_version_is_held_back_whatever_its_evidence_says(artifact: Path, shipped: Path) -> None:
    boasting = artifact.with_name("3")
    artifact.rename(boasting)
    edit_metadata(boasting, version=3, evidence=evidence(0))
    edit = saved_model_check.Examiner().held_back(boasting, shipped)
    assert "of its answers to its" in str(edit)
    assert f"samples are right, and 2,000 of those of version {shipped.name}" in str(edit)


def test_a_version_is_held_back_if_the_default_cannot_be_loaded(artifact: Path, shipped: Path) -> None:
    (artifact / "saved_model.pb").write_bytes(b"half of one")
    held_back = saved_model_check.Examiner().held_back(shipped, artifact)
    assert str(held_back).startswith("it cannot be compared with version 1: ")
