import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from service.errors import ModelUnavailable
from service.models.artifact import Artifact
from service.models.engines.litert import LiteRTEngine
from service.models.engines.model_output import ModelOutput
from tests.conftest import newest
from tests.service.conftest import edit_metadata

MODELS = ["adder", "cho2014", "last-digit", "sutskever2014"]


@pytest.fixture(scope="module")
def loaded(barely_trained: Path) -> Artifact:
    return Artifact.load(barely_trained)


def test_a_damaged_artifact_is_not_loaded(artifact: Path) -> None:
    (artifact / "fingerprint.pb").write_bytes(b"")  # TensorFlow would load it
    with pytest.raises(ModelUnavailable, match="has changed since it was exported"):
        Artifact.load(artifact)


def test_loading_calls_every_batch_size(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, predict = [], LiteRTEngine.predict

    def recording(self: LiteRTEngine, queries: list[str]) -> list[ModelOutput]:
        sizes.append(len(queries))
        return predict(self, queries)

    monkeypatch.setattr(LiteRTEngine, "predict", recording)
    assert set(Artifact.load(barely_trained).metadata.batch_sizes) <= set(sizes)


def test_another_golden_answer_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, golden=[{"query": "1+1", "answer": "no"}])
    with pytest.raises(ModelUnavailable, match=r"answers 1\+1 with '.*', at its export with 'no'"):
        Artifact.load(artifact)


def test_an_alphabet_in_another_order_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, alphabet="9876543210+ ")
    with pytest.raises(ModelUnavailable, match="has an alphabet in another order than its model"):
        Artifact.load(artifact)


def test_an_alphabet_of_another_size_is_refused(artifact: Path) -> None:
    edit_metadata(artifact, alphabet="0123 ")
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


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 15, 55, 56])
def test_an_answer_does_not_depend_on_its_batch(loaded: Artifact, count: int) -> None:
    queries = [f"{number % 1000}+{(7 * number) % 1000}" for number in range(900, 900 + count)]
    outputs = loaded.engine.predict(queries)
    assert len(outputs) == count
    for index in {0, count // 2, count - 1}:
        [alone] = loaded.engine.predict([queries[index]])
        assert alone.answer == outputs[index].answer
        assert alone.confidence == pytest.approx(outputs[index].confidence, abs=1e-5)
        assert alone.probabilities == pytest.approx(outputs[index].probabilities, abs=1e-5)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 7), (7, 7), (8, 14), (29, 56), (56, 56)])
def test_the_next_batch_size_is_used(loaded: Artifact, monkeypatch: pytest.MonkeyPatch, count: int, size: int) -> None:
    set_tensor, shapes = Interpreter.set_tensor, []

    def recording(self: Interpreter, index: int, tensor: Any) -> None:
        shapes.append(tensor.shape[0])
        set_tensor(self, index, tensor)

    monkeypatch.setattr(Interpreter, "set_tensor", recording)
    loaded.engine.predict(["1+1"] * count)
    assert shapes == [size]


def test_more_queries_than_the_largest_batch_are_an_error(loaded: Artifact) -> None:
    with pytest.raises(ValueError, match="57 queries are more than the largest batch size"):
        loaded.engine.predict(["1+1"] * 57)


def test_answers_equal_those_of_the_saved_model(barely_trained: Path, loaded: Artifact) -> None:
    queries = [f"{(37 * number) % 1000}+{(91 * number) % 1000}" for number in range(500)]
    returned = tf.saved_model.load(str(barely_trained)).signatures["serving_default"](query=tf.constant(queries))
    outputs = [loaded.engine.predict([query])[0] for query in queries]
    assert [output.answer.encode() for output in outputs] == returned["answer"].numpy().tolist()
    for output, confidence in zip(outputs, returned["confidence"].numpy(), strict=True):
        assert output.confidence == pytest.approx(confidence, abs=1e-5)


@pytest.fixture(scope="module", params=MODELS)
def shipped_artifact(request: pytest.FixtureRequest) -> Artifact:
    """The newest version of each model. Two architectures feed each character back, two do not."""
    return Artifact.load(newest(request.param))


def test_decoding_by_steps_gives_the_predicted_answer(shipped_artifact: Artifact) -> None:
    for query in ["1+1", "50+49", *(golden.query for golden in shipped_artifact.metadata.golden)]:
        [predicted] = shipped_artifact.engine.predict([query])
        decoded = np.stack(list(shipped_artifact.engine.decode(query)))
        answer = "".join(shipped_artifact.metadata.alphabet[token] for token in decoded.argmax(-1))
        assert answer == (predicted.answer + " ")[: len(predicted.probabilities)]
        assert decoded == pytest.approx(predicted.steps, abs=1e-5)


def test_two_queries_can_be_decoded_in_turn(loaded: Artifact) -> None:
    alone = [list(loaded.engine.decode(query)) for query in ("123+456", "999+1")]
    in_turn = zip(loaded.engine.decode("123+456"), loaded.engine.decode("999+1"), strict=False)
    for first, second in zip(*alone, strict=False):
        decoded = next(in_turn)
        assert (decoded[0] == first).all()
        assert (decoded[1] == second).all()


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_first_of_the_k_best_is_the_predicted_answer(shipped_artifact: Artifact, k: int) -> None:
    for golden in shipped_artifact.metadata.golden:
        [predicted] = shipped_artifact.engine.predict([golden.query])
        answers, probabilities = zip(*shipped_artifact.engine.k_best(golden.query, k), strict=True)
        assert answers[0] == golden.answer
        assert probabilities[0] == pytest.approx(predicted.confidence, abs=1e-5)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        assert len(set(answers)) == k
        assert sum(probabilities) <= 1 + 1e-5


def test_k_best_gives_no_answer_that_does_not_exist() -> None:
    best = Artifact.load(newest("last-digit")).engine.k_best("1+1", 100)
    assert sorted(answer for answer, _ in best) == ["", *"+0123456789"]
    assert sum(probability for _, probability in best) == pytest.approx(1, abs=1e-5)


def test_sha256_is_that_of_the_checksums(barely_trained: Path, loaded: Artifact) -> None:
    assert loaded.sha256 == hashlib.sha256((barely_trained / "checksums.txt").read_bytes()).hexdigest()
