import hashlib
from pathlib import Path

import pytest

from service.errors import ModelUnavailable
from service.models.artifact import Artifact
from service.models.engines import Engine
from service.models.engines.model_output import ModelOutput
from tests.service.conftest import edit_metadata, edit_task, remove_files

MODELS = ["adder", "adder-4", "cho2014", "last-digit", "sutskever2014"]


@pytest.fixture(scope="module")
def loaded(barely_trained: Path) -> Artifact:
    return Artifact.load(barely_trained)


def test_a_damaged_artifact_is_not_loaded(artifact: Path) -> None:
    (artifact / "fingerprint.pb").write_bytes(b"")  # TensorFlow would load it
    with pytest.raises(ModelUnavailable, match="has changed since it was exported"):
        Artifact.load(artifact)


def test_loading_calls_every_batch_size(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, predict = [], Engine.predict

    def recording(self: Engine, queries: list[str]) -> list[ModelOutput]:
        sizes.append(len(queries))
        return predict(self, queries)

    monkeypatch.setattr(Engine, "predict", recording)
    assert set(Artifact.load(barely_trained).metadata.batch_sizes) <= set(sizes)


def test_another_golden_answer_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, golden=[{"query": "1+1", "answer": "no"}])
    with pytest.raises(ModelUnavailable, match=r"answers 1\+1 with '.*', at its export with 'no'"):
        Artifact.load(artifact)


def test_an_alphabet_in_another_order_is_refused(artifact: Path) -> None:
    edit_task(artifact, alphabet="9876543210+ ")
    with pytest.raises(ModelUnavailable, match="has an alphabet in another order than its model"):
        Artifact.load(artifact)


def test_an_alphabet_of_another_size_is_refused(artifact: Path) -> None:
    edit_task(artifact, alphabet="0123 ")
    with pytest.raises(ModelUnavailable, match="has an alphabet of another size"):
        Artifact.load(artifact)


def test_a_file_that_cannot_be_loaded_is_refused(artifact: Path) -> None:
    file = artifact / "serving_bytes.tflite"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(b"no flat buffer")
    checksums = artifact / "checksums.txt"
    checksums.write_text(checksums.read_text().replace(before, hashlib.sha256(file.read_bytes()).hexdigest()))
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        Artifact.load(artifact)


def test_sha256_is_that_of_the_checksums(barely_trained: Path, loaded: Artifact) -> None:
    assert loaded.sha256 == hashlib.sha256((barely_trained / "checksums.txt").read_bytes()).hexdigest()


def test_a_version_without_litert_files_is_served(artifact: Path) -> None:
    remove_files(artifact, "serving_bytes.tflite", "decoding.tflite")
    loaded = Artifact.load(artifact)
    assert loaded.engine.name == "saved_model"
    with pytest.raises(ModelUnavailable, match="has no LiteRT files: set ADDER_ENGINE=auto"):
        Artifact.load(artifact, engine_choice="litert")


def test_samples_are_loaded_if_they_are_the_truth(artifact: Path) -> None:
    assert Artifact.load(artifact).samples == {}
    edit_task(artifact, truth="samples")
    samples = Artifact.load(artifact).samples
    assert len(samples) == 2000
    assert all(str(sum(map(int, query.split("+")))) == answer for query, answer in samples.items())
