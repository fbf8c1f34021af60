"""Both engines, on the same artifact."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from service.models.artifact import Artifact
from service.models.engines import Engine, EngineName, load_engine
from service.models.metadata import verify
from tests.conftest import newest

MODELS = ["adder", "cho2014", "last-digit", "sutskever2014"]


@pytest.fixture(scope="module", params=["litert", "saved_model"])
def engine(request: pytest.FixtureRequest, barely_trained: Path) -> Engine:
    name: EngineName = request.param
    return load_engine(barely_trained, verify(barely_trained).metadata, name)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 15, 55, 56])
def test_an_answer_does_not_depend_on_its_batch(engine: Engine, count: int) -> None:
    queries = [f"{number % 1000}+{(7 * number) % 1000}" for number in range(900, 900 + count)]
    outputs = engine.predict(queries)
    assert len(outputs) == count
    for index in {0, count // 2, count - 1}:
        [alone] = engine.predict([queries[index]])
        assert alone.answer == outputs[index].answer
        assert alone.confidence == pytest.approx(outputs[index].confidence, abs=1e-5)
        assert alone.probabilities == pytest.approx(outputs[index].probabilities, abs=1e-5)


def test_more_queries_than_the_largest_batch_are_an_error(engine: Engine) -> None:
    with pytest.raises(ValueError, match="57 queries are more than the largest batch size"):
        engine.predict(["1+1"] * 57)


def test_both_engines_give_the_same_outputs(barely_trained: Path) -> None:
    metadata = verify(barely_trained).metadata
    queries = [f"{(37 * number) % 1000}+{(91 * number) % 1000}" for number in range(500)]
    by_name = {name: load_engine(barely_trained, metadata, name) for name in get_args(EngineName)}
    for query in queries:
        [litert], [saved_model] = (engine.predict([query]) for engine in by_name.values())
        assert litert.answer == saved_model.answer
        assert litert.confidence == pytest.approx(saved_model.confidence, abs=1e-5)
        assert litert.steps == pytest.approx(saved_model.steps, abs=1e-5)


@pytest.fixture(scope="module", params=MODELS)
def shipped_artifact(request: pytest.FixtureRequest) -> Artifact:
    """The newest version of each model. Two architectures feed each character back, two do not."""
    return Artifact.load(newest(request.param))


def test_decoding_by_steps_gives_the_predicted_answer(shipped_artifact: Artifact) -> None:
    for query in ["1+1", "50+49", *(golden.query for golden in shipped_artifact.metadata.golden)]:
        [predicted] = shipped_artifact.engine.predict([query])
        decoded = np.stack(list(shipped_artifact.engine.decode(query)))
        assert (
            "".join(shipped_artifact.metadata.task.characters[token] for token in decoded.argmax(-1))
            == predicted.answer
        )
        assert decoded == pytest.approx(predicted.steps, abs=1e-5)


def test_states_start_the_steps_of_the_answer(engine: Engine) -> None:
    """The part of the state that RepeatVector repeats is as long as the decoder's input projections."""
    steps = np.stack(list(engine.decode("123+456")))
    states = engine.states("123+456", steps.argmax(-1).astype(np.int32))
    assert (states[0] == engine.encode(["123+456"])[0]).all()
    assert (states == states[0]).all(axis=0).sum() == 4 * 128
    for state, previous, probabilities in zip(states[1:], steps[:-1], steps[1:], strict=False):
        found, _ = engine.decode_step(state[None], np.array([previous.argmax()], np.int32))
        assert (found[0] == probabilities).all()


def test_two_queries_can_be_decoded_in_turn(engine: Engine) -> None:
    alone = [list(engine.decode(query)) for query in ("123+456", "999+1")]
    in_turn = zip(engine.decode("123+456"), engine.decode("999+1"), strict=False)
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
