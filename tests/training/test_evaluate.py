import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import run_training, run_training_process
from training import evaluate, metadata, task


def test_evaluate_reproduces_the_shipped_evidence(shipped: Path, tmp_path: Path) -> None:
    """Through the SavedModel, over all 1,000,000 queries."""
    copy = shutil.copytree(shipped, tmp_path / "adder" / shipped.name)
    metadata.write(copy, metadata.read(copy).model_copy(update={"evidence": None}))
    evaluated = run_training_process("evaluate", copy)
    evidence, committed = metadata.read(copy).evidence, metadata.read(shipped).evidence
    assert evidence is not None
    assert committed is not None
    assert evidence.model_copy(update={"calibration_error": 0}) == committed.model_copy(update={"calibration_error": 0})
    assert evidence.calibration_error == pytest.approx(committed.calibration_error, abs=2e-6)
    assert evaluated.stdout.startswith(f"{evidence.domain.wrong} wrong of 1,000,000\n")
    assert "1000000/1000000" in evaluated.stderr


def test_evaluate_counts_litert_mismatches(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_in_both, wrong_in_saved_model, wrong_in_litert = 5, [7, 123_456], [999_997, 999_998, 999_999]
    saved_model_answers, litert_answers = task.sums(), task.sums()
    saved_model_answers[[wrong_in_both, *wrong_in_saved_model]] = b"1"
    litert_answers[[wrong_in_both, *wrong_in_litert]] = b"1"
    position = {query: place for place, query in enumerate(task.queries().tolist())}

    def serving_default(query: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = saved_model_answers[[position[each] for each in query.numpy().tolist()]]
        size = len(answers)
        return {
            "answer": tf.constant(answers),
            "probabilities": tf.zeros([size, 4, 12]),
            "confidence": tf.ones([size]),
        }

    class StubLiteRTModel:
        def __init__(self, folder: Path, batch_size: int) -> None:
            assert (folder, batch_size) == (artifact, evaluate.BATCH_SIZE)

        def predict(self, queries: task.Texts) -> tuple[task.Texts]:
            return (litert_answers[[position[each] for each in queries.tolist()]],)

    loaded = SimpleNamespace(signatures={"serving_default": serving_default})
    monkeypatch.setattr(tf.saved_model, "load", {str(artifact): loaded}.__getitem__)
    monkeypatch.setattr(evaluate, "LiteRTModel", StubLiteRTModel)
    evidence = evaluate.evaluate(artifact)
    assert evidence.domain.wrong == 3
    assert evidence.wrong_queries == ["0+5", "0+7", "123+456"]
    assert evidence.litert_mismatches == 5
    assert metadata.read(artifact).evidence == evidence


def test_the_shipped_model_has_no_wrong_answers(shipped: Path) -> None:
    evidence = metadata.read(shipped).evidence
    assert evidence is not None
    assert evidence.domain.wrong == 0


def test_evidence_counts_wrong_answers_by_part() -> None:
    queries = task.queries()
    right = np.ones(len(queries), np.bool_)
    right[[5, 10_203]] = False  # 0+5 and 10+203
    margin = np.ones(len(queries), np.float32)
    margin[123_456] = 0.25
    evidence = evaluate.build_evidence(queries, right, np.ones(len(queries), np.float32), margin, 7)
    assert (evidence.domain.wrong, evidence.domain.exact_match) == (2, 0.999998)
    assert evidence.train.wrong + evidence.validation.wrong + evidence.held_out.wrong == 2
    wrong = {length: part.wrong for length, part in evidence.by_operand_length.items() if part.wrong}
    assert wrong == {"1+1": 1, "2+3": 1}
    assert {carries: part.wrong for carries, part in evidence.by_carries.items()} == {"0": 2, "1": 0, "2": 0, "3": 0}
    for parts in (evidence.by_operand_length, evidence.by_carries):
        assert sum(part.queries for part in parts.values()) == 1_000_000
    assert evidence.margin == metadata.Margin(query="123+456", smallest=0.25)
    assert evidence.litert_mismatches == 7


def test_a_margin_counts_the_answer_and_its_end() -> None:
    probabilities = np.zeros([2, 4, 12], np.float32)
    probabilities[:, :, 0], probabilities[:, :, 1] = [1, 0.75, 0.5, 0.25], [0, 0, 0.25, 0.25]
    assert evaluate.margins(np.array([b"9", b"123"]), probabilities).tolist() == [0.75, 0]


def test_calibration_error_is_accuracy_minus_confidence_by_bin() -> None:
    right = np.array([True, True, True, False])
    assert evaluate.expected_calibration_error(right, np.array([1, 1, 1, 0], np.float32)) == 0
    assert evaluate.expected_calibration_error(right, np.array([1, 1, 1, 1], np.float32)) == pytest.approx(0.25)
    assert evaluate.expected_calibration_error(right, np.array([0.5, 0.5, 0.5, 0.5], np.float32)) == pytest.approx(0.25)
    correct_overall_but_not_in_each_bin = np.array([0.2, 0.8], np.float32)
    assert evaluate.expected_calibration_error(right[2:], correct_overall_but_not_in_each_bin) == pytest.approx(0.8)


def test_reliability_bins_hold_means() -> None:
    bins = evaluate.reliability_bins(np.array([True, False, True]), np.array([0.99, 0.95, 0.5], np.float32))
    assert bins == [
        metadata.Bin(queries=1, confidence=0.5, accuracy=1),
        metadata.Bin(queries=2, confidence=0.97, accuracy=0.5),
    ]


def test_evaluate_reports_a_missing_artifact_in_one_line(tmp_path: Path) -> None:
    refused = run_training("evaluate", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {tmp_path} is not an artifact: ")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "text"), [("metadata.json", "{}"), ("checksums.txt", "nothing")])
def test_evaluate_reports_a_damaged_file_in_one_line(artifact: Path, name: str, text: str) -> None:
    (artifact / name).write_text(text)
    refused = run_training("evaluate", artifact)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
