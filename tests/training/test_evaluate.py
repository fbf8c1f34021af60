import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import newest, run_training, run_training_process
from training import engines, evaluate, examples, metadata
from training.tasks import Task, find_task
from training.tasks.task import Texts

TASK = find_task("addition")


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
    assert "1.00M/1.00M" in evaluated.stderr


def test_evaluate_counts_litert_mismatches(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_in_saved_model, wrong_in_litert = {b"0+5", b"0+7", b"123+456"}, {b"0+5", b"999+997", b"999+998", b"999+999"}

    def answering(wrong: set[bytes]) -> Callable[[object, Texts], engines.Predictions]:
        def predict(_: object, queries: Texts) -> engines.Predictions:
            answers = TASK.answers(queries)
            answers[np.isin(queries, list(wrong))] = b"1"
            return engines.Predictions(
                answers, np.zeros([len(queries), 4, 12], np.float32), np.ones(len(queries), np.float32)
            )

        return predict

    monkeypatch.setattr(engines.SavedModelEngine, "predict", answering(wrong_in_saved_model))
    monkeypatch.setattr(engines.LiteRTEngine, "predict", answering(wrong_in_litert))
    evidence = evaluate.evaluate(artifact)
    assert evidence.domain.wrong == 3
    assert evidence.wrong_queries == ["0+5", "0+7", "123+456"]
    assert evidence.litert_mismatches == 5
    assert metadata.read(artifact).evidence == evidence


def test_the_shipped_model_has_no_wrong_answers(shipped: Path) -> None:
    evidence = metadata.read(shipped).evidence
    assert evidence is not None
    assert evidence.domain.wrong == 0


def outcome_with(wrong: list[bytes], **changes: Any) -> evaluate.Outcome:
    """The outcome if these queries of addition have wrong answers."""
    parts = examples.split(TASK)
    queries = np.concatenate([parts.held_out, parts.validation, parts.train])
    answers = TASK.answers(queries)
    answers[np.isin(queries, wrong)] = b""
    ones = np.ones(len(queries), np.float32)
    return evaluate.Outcome(answers, ones, np.where(queries == b"123+456", np.float32(0.25), ones), None)._replace(
        **changes
    )


def test_evidence_counts_wrong_answers_by_part() -> None:
    outcome = outcome_with([b"0+5", b"10+203"], mismatches=np.arange(1_000_000) < 7)
    evidence = evaluate.build_evidence(TASK, outcome)
    assert (evidence.domain.wrong, evidence.domain.exact_match, evidence.is_sample) == (2, 0.999998, False)
    assert evidence.train.wrong + evidence.validation.wrong + evidence.held_out.wrong == 2
    assert {digits: part.wrong for digits, part in evidence.groups["digits"].items() if part.wrong} == {
        "1+1": 1,
        "2+3": 1,
    }
    assert {carries: part.wrong for carries, part in evidence.groups["carries"].items()} == {
        "0": 2,
        "1": 0,
        "2": 0,
        "3": 0,
    }
    for parts in evidence.groups.values():
        assert sum(part.queries for part in parts.values()) == 1_000_000
    assert evidence.margin == metadata.Margin(query="123+456", smallest=0.25)
    assert evidence.litert_mismatches == 7


def test_evaluate_measures_any_domain_without_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A domain that is no multiple of the batch size, and a sample of one that is drawn."""
    for name, queries, is_sample in [("reversal", 19_530, False), ("addition-5", 1_000_000, True)]:
        task = find_task(name)

        class StubEngine:
            def __init__(self, _folder: Path, task: Task) -> None:
                self.task = task

            def predict(self, queries: Texts) -> engines.Predictions:
                assert len(queries) == evaluate.BATCH_SIZE
                steps = np.zeros([len(queries), 6, 6], np.float32)
                return engines.Predictions(self.task.answers(queries), steps, np.ones(len(queries), np.float32))

        monkeypatch.setattr(evaluate, "SavedModelEngine", StubEngine)
        contents = metadata.read(newest("adder")).model_copy(update={"task": metadata.describe(task)})
        metadata.write(tmp_path, contents)
        evidence = evaluate.evaluate(tmp_path)
        assert (evidence.domain.wrong, evidence.is_sample, evidence.litert_mismatches) == (0, is_sample, None)
        assert 0.7 * queries < evidence.domain.queries <= queries


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
