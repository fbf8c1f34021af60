import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from service.artifact import Artifact, Metadata, Prediction, verify
from service.problems import BrokenArtifact
from training import metadata as training_metadata


@pytest.fixture(scope="module")
def loaded(barely_trained: Path) -> Artifact:
    return Artifact.load(barely_trained)


def edit_metadata(artifact: Path, **changes: Any) -> None:
    """Change the metadata, and its checksum with it, as a badly made artifact would have it."""
    file, checksums = artifact / "metadata.json", artifact / "checksums.txt"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    checksums.write_text(checksums.read_text().replace(before, hashlib.sha256(file.read_bytes()).hexdigest()))


def test_a_whole_artifact_is_verified(barely_trained: Path) -> None:
    assert verify(barely_trained).query_example == "123+456"


def test_both_packages_mean_the_same_metadata() -> None:
    ours, theirs = (model.model_json_schema() for model in (Metadata, training_metadata.Metadata))

    def kind(schema: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in schema.items() if key in ("type", "items", "const", "$ref")}

    for field, schema in ours["properties"].items():
        assert kind(schema) == kind(theirs["properties"][field])
    for name, definition in ours["$defs"].items():
        for field, schema in definition["properties"].items():
            assert kind(schema) == kind(theirs["$defs"][name]["properties"][field])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.json", None, "cannot be read: No such file or directory"),
        ("serving_bytes.tflite", None, "cannot be read: No such file or directory"),
        ("saved_model.pb", None, "cannot be read: No such file or directory"),
        ("checksums.txt", None, "cannot be read: No such file or directory"),
        ("checksums.txt", b"nothing", "is not a list of checksums"),
        ("checksums.txt", b"\xff", "is not a list of checksums"),
        ("checksums.txt", b"0  \x00", "does not name metadata.json"),
        ("checksums.txt", b"", "does not name metadata.json"),
        ("metadata.json", b"{}", "has changed since it was exported"),
        ("variables/variables.data-00000-of-00001", b"", "has changed since it was exported"),
    ],
)
def test_a_damaged_artifact_is_named(artifact: Path, name: str, content: bytes | None, reason: str) -> None:
    (artifact / name).unlink()
    if content is not None:
        (artifact / name).write_bytes(content)
    with pytest.raises(BrokenArtifact, match=rf"{re.escape(str(artifact / name))} {re.escape(reason)}"):
        verify(artifact)


def test_what_is_damaged_is_not_loaded(artifact: Path) -> None:
    (artifact / "fingerprint.pb").write_bytes(b"")  # which TensorFlow would load
    with pytest.raises(BrokenArtifact, match="has changed since it was exported"):
        Artifact.load(artifact)


def test_loading_calls_every_batch_size(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, predict = [], Artifact.predict

    def noted(self: Artifact, queries: list[str]) -> list[Prediction]:
        sizes.append(len(queries))
        return predict(self, queries)

    monkeypatch.setattr(Artifact, "predict", noted)
    assert set(Artifact.load(barely_trained).metadata.batch_sizes) <= set(sizes)


def test_a_file_without_a_checksum_is_named(artifact: Path) -> None:
    (artifact / "variables" / "more").touch()
    with pytest.raises(BrokenArtifact, match=r"checksums\.txt does not name variables/more"):
        verify(artifact)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 1}, "format_version: Input should be 2"),
        ({"largest_operand": "999"}, "largest_operand: Input should be a valid integer"),
        ({"batch_sizes": [8, 1]}, "batch_sizes: Value error, batch sizes must be positive and ascend"),
        ({"query_pattern": "[0-9]+"}, "the query '123+456' does not match query_pattern"),
        ({"batch_sizes": []}, "batch_sizes: List should have at least 1 item"),
        ({"query_pattern": "("}, "query_pattern: "),
        ({"version": 2}, "describes adder version 2, not the folder that it is in"),
    ],
)
def test_metadata_that_breaks_the_contract_is_named(artifact: Path, changes: dict[str, Any], reason: str) -> None:
    edit_metadata(artifact, **changes)
    with pytest.raises(BrokenArtifact, match=re.escape(reason)):
        verify(artifact)


def test_what_was_not_exported_with_these_answers_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, golden=[{"query": "1+1", "answer": "no"}])
    with pytest.raises(BrokenArtifact, match=r"answers 1\+1 with '.*', at its export with 'no'"):
        Artifact.load(artifact)


def test_an_alphabet_in_another_order_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, alphabet="9876543210+ ")
    with pytest.raises(BrokenArtifact, match="has an alphabet in another order than its network"):
        Artifact.load(artifact)


def test_the_card_and_its_pictures_are_not_looked_at(artifact: Path) -> None:
    (artifact / "MODEL_CARD.md").touch()
    (artifact / "encoder.png").touch()
    assert verify(artifact).version == 1
    (artifact / "variables" / "encoder.png").touch()
    with pytest.raises(BrokenArtifact, match=r"does not name variables/encoder\.png"):
        verify(artifact)


@pytest.mark.parametrize("pattern", ["(", "^a{99999999999999999999}$", "(" * 5000 + ")" * 5000])
def test_a_pattern_that_cannot_be_compiled_is_refused(artifact: Path, pattern: str) -> None:
    edit_metadata(artifact, query_pattern=pattern)
    with pytest.raises(BrokenArtifact, match="query_pattern: Value error, the pattern cannot be compiled"):
        verify(artifact)


def test_an_alphabet_of_another_size_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, alphabet="0123")
    with pytest.raises(BrokenArtifact, match="has an alphabet of another size"):
        Artifact.load(artifact)


def test_what_cannot_be_loaded_is_refused(artifact: Path) -> None:
    file = artifact / "serving_bytes.tflite"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(b"no flat buffer")
    checksums = artifact / "checksums.txt"
    checksums.write_text(checksums.read_text().replace(before, hashlib.sha256(file.read_bytes()).hexdigest()))
    with pytest.raises(BrokenArtifact, match="cannot be loaded"):
        Artifact.load(artifact)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 15, 55, 56])
def test_an_answer_does_not_depend_on_its_batch(loaded: Artifact, count: int) -> None:
    queries = [f"{number % 1000}+{(7 * number) % 1000}" for number in range(900, 900 + count)]
    predictions = loaded.predict(queries)
    assert len(predictions) == count
    for index in {0, count // 2, count - 1}:
        [alone] = loaded.predict([queries[index]])
        assert alone.answer == predictions[index].answer
        assert alone.confidence == pytest.approx(predictions[index].confidence, abs=1e-5)
        assert alone.probabilities == pytest.approx(predictions[index].probabilities, abs=1e-5)


def test_the_next_batch_size_is_called(loaded: Artifact) -> None:
    called = []

    def network(size: int) -> Any:
        return lambda _queries: called.append(size)

    artifact = Artifact(loaded.metadata, {size: network(size) for size in loaded.metadata.batch_sizes})
    for count in (1, 2, 7, 8, 29, 56):
        artifact.predict(["1+1"] * count)
    assert called == [1, 7, 7, 14, 56, 56]


def test_more_queries_than_a_call_takes_are_an_error(loaded: Artifact) -> None:
    with pytest.raises(ValueError, match="57 queries are more than one call answers"):
        loaded.predict(["1+1"] * 57)


def test_the_answers_are_those_of_the_saved_model(barely_trained: Path, loaded: Artifact) -> None:
    queries = [f"{(37 * number) % 1000}+{(91 * number) % 1000}" for number in range(500)]
    returned = tf.saved_model.load(str(barely_trained)).signatures["serving_default"](query=tf.constant(queries))
    predictions = [loaded.predict([query])[0] for query in queries]
    assert [each.answer.encode() for each in predictions] == returned["answer"].numpy().tolist()
    for prediction, confidence in zip(predictions, returned["confidence"].numpy(), strict=True):
        assert prediction.confidence == pytest.approx(confidence, abs=1e-5)
