import re
import shutil
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import newest, run_training, run_training_process, training_process
from training import TrainingError, engines, evaluate, examples, metadata
from training.examples import keys, parts_of, queries_of
from training.tasks import Task, find_task
from training.tasks.task import Texts

TASK = find_task("addition")
SPLIT = [queries_of(TASK, keys(TASK, part)) for part in evaluate.PARTS]
QUERIES, LABELS = np.concatenate(SPLIT), np.repeat(evaluate.PARTS, list(map(len, SPLIT)))


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


def outcome_with(wrong: list[bytes]) -> evaluate.Outcome:
    """The outcome if these queries of addition have wrong answers."""
    answers = TASK.answers(QUERIES)
    answers[np.isin(QUERIES, wrong)] = b""
    ones = np.ones(len(QUERIES), np.float32)
    return evaluate.Outcome(answers, ones, np.where(QUERIES == b"123+456", np.float32(0.25), ones), None)


def evidence(outcome: evaluate.Outcome, mismatches: int) -> metadata.Evidence:
    return evaluate.evidence_of(evaluate.tally(TASK, QUERIES, LABELS, outcome), False, mismatches)


def test_evidence_counts_wrong_answers_by_part() -> None:
    found = evidence(outcome_with([b"0+5", b"10+203"]), mismatches=7)
    assert (found.domain.wrong, found.domain.exact_match, found.is_sample) == (2, 0.999998, False)
    assert [part.queries for part in (found.held_out, found.validation, found.train)] == list(map(len, SPLIT))
    assert found.train.wrong + found.validation.wrong + found.held_out.wrong == 2
    assert {digits: part.wrong for digits, part in found.groups["digits"].items() if part.wrong} == {"1+1": 1, "2+3": 1}
    assert [part.wrong for part in found.groups["carries"].values()] == [2, 0, 0, 0]
    for parts in found.groups.values():
        assert sum(part.queries for part in parts.values()) == 1_000_000
    assert found.margin == metadata.Margin(query="123+456", smallest=0.25)
    assert found.litert_mismatches == 7


def test_tallies_of_two_halves_add_up() -> None:
    outcome = outcome_with([b"0+5", b"10+203"])
    whole = evaluate.tally(TASK, QUERIES, LABELS, outcome)
    halves = [
        evaluate.tally(
            TASK,
            QUERIES[part],
            LABELS[part],
            outcome._replace(**{name: getattr(outcome, name)[part] for name in ("answers", "confidence", "margins")}),
        )
        for part in (slice(None, 300_000), slice(300_000, None))
    ]
    assert halves[0] + halves[1] == whole


class StubEngine(engines.LiteRTEngine):
    """Answers rightly, but for `wrong`."""

    wrong: tuple[bytes, ...] = ()

    def __init__(self, _folder: Path, task: Task) -> None:
        engines.Engine.__init__(self, task)

    def predict(self, queries: Texts) -> engines.Predictions:
        assert len(queries) == evaluate.BATCH_SIZE
        answers = self._task.answers(queries)
        answers[np.isin(queries, self.wrong)] = b"1"
        steps = np.zeros([len(queries), 6, 6], np.float32)
        return engines.Predictions(answers, steps, np.ones(len(queries), np.float32))


def test_evaluate_measures_any_domain_without_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A domain that is no multiple of the batch size, and a sample of one that is drawn."""
    monkeypatch.setattr(evaluate, "SavedModelEngine", StubEngine)
    monkeypatch.setattr(examples, "DRAWN", {"train": 5000, "validation": 1000, "held_out": 5000})
    for name, queries, is_sample in [("reversal", 19_530, False), ("addition-5", 22_000, True)]:
        task = replace(find_task(name))
        changes = {"task": metadata.describe(task), "provenance": None}
        metadata.write(tmp_path, metadata.read(newest("adder")).model_copy(update=changes))
        found = evaluate.evaluate(tmp_path, task)
        assert (found.domain.wrong, found.is_sample, found.litert_mismatches) == (0, is_sample, None)
        assert 0.97 * queries < found.domain.queries <= queries


@pytest.fixture
def whole(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Task]:
    """An artifact and a task of 40 chunks with 4,000 queries together, which is asked in this process."""
    task = replace(find_task("addition-4"), chunks=40, chunk=_hundred)
    monkeypatch.setattr(evaluate, "_ask_chunks", in_this_process)
    monkeypatch.setattr(evaluate, "LiteRTEngine", StubEngine)
    return artifact, task


def _hundred(number: int) -> Texts:
    return np.array([f"{number}+{other}".encode() for other in range(100)])


def in_this_process(artifact: Path, task: Task, chunks: list[int]) -> Generator[tuple[int, evaluate.Tally]]:
    engine = StubEngine(artifact, task)
    for number in chunks:
        assert task.chunk is not None
        queries = task.chunk(number)
        yield number, evaluate.tally(task, queries, parts_of(task, queries), evaluate.run([engine], queries))


def test_all_queries_are_asked_in_chunks_that_can_be_broken_off(
    whole: tuple[Path, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, task = whole
    asked: list[list[int]] = []

    def broken_off(artifact: Path, task: Task, chunks: list[int]) -> Generator[tuple[int, evaluate.Tally]]:
        yield from in_this_process(artifact, task, chunks[:15])
        raise KeyboardInterrupt

    def recorded(artifact: Path, task: Task, chunks: list[int]) -> Generator[tuple[int, evaluate.Tally]]:
        asked.append(chunks)
        return in_this_process(artifact, task, chunks)

    monkeypatch.setattr(StubEngine, "wrong", (b"3+4", b"39+99"))
    monkeypatch.setattr(evaluate, "_ask_chunks", broken_off)
    with pytest.raises(TrainingError, match=r"interrupted after 15 of 40 chunks: the same command goes on"):
        evaluate.evaluate_whole(artifact, task)
    [progress] = artifact.glob(".whole-*")
    progress.write_text(progress.read_text()[:-30])  # the last line is broken off too
    monkeypatch.setattr(evaluate, "_ask_chunks", recorded)
    found = evaluate.evaluate_whole(artifact, task)
    assert asked == [list(range(14, 40))]
    assert (found.domain.queries, found.domain.wrong, found.is_sample) == (4000, 2, False)
    assert found.wrong_queries == ["3+4", "39+99"]
    assert found.held_out.queries + found.validation.queries + found.train.queries == 4000
    assert metadata.read(artifact).evidence == found
    assert not list(artifact.glob(".whole-*"))


def test_a_process_that_ends_early_is_reported(whole: tuple[Path, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, task = whole
    monkeypatch.setattr(evaluate, "_ask_chunks", lambda *_: in_this_process(artifact, task, [3, 5]))
    with pytest.raises(TrainingError, match="a process ended after 2 of 40 chunks: the same command goes on"):
        evaluate.evaluate_whole(artifact, task)


def test_ctrl_c_ends_whole_at_once(tmp_path: Path) -> None:
    """With processes that ask LiteRT. The network is barely trained: all answers are wrong."""
    checkpoints, artifacts = tmp_path / "checkpoints", tmp_path / "artifacts"
    options = ["--task", "addition-4", "--epochs", 1, "--examples", 512]
    assert run_training("train", checkpoints, *options).returncode == 0
    assert run_training("export", checkpoints, "--artifacts", artifacts, "--name", "adder-4").returncode == 0
    artifact = artifacts / "adder-4" / "1"
    with training_process("evaluate", "--whole", artifact) as asking:
        while not any(progress.stat().st_size for progress in artifact.glob(".whole-*")):
            assert asking.poll() is None
            time.sleep(0.05)
        asking.send_signal(signal.SIGINT)
        _, stderr = asking.communicate()
    assert asking.returncode == 1
    assert re.fullmatch(
        r"error: interrupted after [1-9]\d* of 1000 chunks: the same command goes on",
        stderr.splitlines()[-1],
    )


def test_whole_needs_chunks(artifact: Path) -> None:
    refused = run_training("evaluate", artifact, "--whole")
    assert refused.stderr == (
        "error: the task addition has no chunks: leave --whole out, to ask all queries or a sample\n"
    )


def test_a_margin_counts_the_answer_and_its_end() -> None:
    probabilities = np.zeros([2, 4, 12], np.float32)
    probabilities[:, :, 0], probabilities[:, :, 1] = [1, 0.75, 0.5, 0.25], [0, 0, 0.25, 0.25]
    assert evaluate.margins(np.array([b"9", b"123"]), probabilities).tolist() == [0.75, 0]


def calibration(correct: list[bool], confidence: list[float]) -> tuple[float, list[metadata.Bin]]:
    """The calibration error and the bins of queries with such answers."""
    queries = np.array([f"{number}+0".encode() for number in range(len(correct))])
    answers = np.where(correct, TASK.answers(queries), b"")
    ones = np.ones(len(queries), np.float32)
    outcome = evaluate.Outcome(answers, np.array(confidence, np.float32), ones, None)
    labels = np.resize(np.array(["held_out", "validation", "train"]), len(queries))
    found = evaluate.evidence_of(evaluate.tally(TASK, queries, labels, outcome), False, None)
    return found.calibration_error, found.reliability


def test_calibration_error_is_accuracy_minus_confidence_by_bin() -> None:
    right = [True, True, True, False]
    assert calibration(right, [1, 1, 1, 0])[0] == 0
    assert calibration(right, [1, 1, 1, 1])[0] == pytest.approx(0.25)
    assert calibration(right, [0.5, 0.5, 0.5, 0.5])[0] == pytest.approx(0.25)
    correct_overall_but_not_in_each_bin = [0.2, 0.2, 0.8, 0.8]
    assert calibration([True, True, False, False], correct_overall_but_not_in_each_bin)[0] == pytest.approx(0.8)


def test_reliability_bins_hold_means() -> None:
    assert calibration([True, False, True], [0.99, 0.95, 0.5])[1] == [
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
