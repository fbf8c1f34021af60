"""Exact-match accuracy of an artifact on all queries of its task, or on a sample of them."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training import metadata
from training.engines import Engine, Floats, LiteRTEngine, SavedModelEngine, has_litert_files
from training.examples import Part, keys, queries_of
from training.tasks import Task, find_task
from training.tasks.task import Texts

BATCH_SIZE = 10_000  # of all calls: XLA compiles one size
PARTS: tuple[Part, ...] = ("held_out", "validation", "train")
CALIBRATION_BINS = 15  # as in Guo et al. 2017
MAX_WRONG_QUERIES = 10_000  # are listed in the metadata; more are not worth reading one by one

Bools = npt.NDArray[np.bool_]


class Outcome(NamedTuple):
    """One value for each query: answer, bytes [N]; confidence and margin, float32 [N]; whether LiteRT gives another
    answer, bool [N], or None without LiteRT files."""

    answers: Texts
    confidence: Floats
    margins: Floats
    mismatches: Bools | None


def evaluate(artifact: Path, task: Task | None = None) -> metadata.Evidence:
    """Answer every query by the SavedModel and by LiteRT, and write the evidence into the artifact's `metadata.json`.

    `task` is by default the artifact's, by its name. If its queries are drawn, a sample is measured. Raises
    TrainingError if `artifact` is incomplete or changed, or if no task has that name.
    """
    contents = metadata.read(artifact)
    task = task or find_task(contents.task.name)
    if contents.provenance is not None and not contents.provenance.split_by_pair:
        task = replace(task, mirror=None)  # the parts as they were in its training
    parts = [queries_of(task, keys(task, part)) for part in PARTS]
    engines = [
        SavedModelEngine(artifact, task),
        *([LiteRTEngine(artifact, task)] if has_litert_files(artifact) else []),
    ]
    outcome = _run(engines, np.concatenate(parts), str(artifact))
    evidence = build_evidence(task, parts, outcome)
    # Read again: another command may have changed the file meanwhile.
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": evidence}))
    return evidence


def _run(engines: list[Engine], queries: Texts, label: str) -> Outcome:
    """Answer the queries by the first engine, and compare the answers of the second, if there is one."""
    rows = []
    with tqdm(total=len(queries), desc=label, unit_scale=True, unit="query") as bar:
        for start in range(0, len(queries), BATCH_SIZE):
            batch = queries[start : start + BATCH_SIZE]
            padded = np.resize(batch, BATCH_SIZE)  # repeats the batch
            first, *others = [engine.predict(padded) for engine in engines]
            mismatches = [first.answers != other.answers for other in others]
            row = (first.answers, first.confidence, margins(first.answers, first.probabilities), *mismatches)
            rows.append([column[: len(batch)] for column in row])
            bar.update(len(batch))
    answers, confidence, margin, *mismatched = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Outcome(answers, confidence, margin, mismatched[0] if mismatched else None)


def build_evidence(task: Task, parts: list[Texts], outcome: Outcome) -> metadata.Evidence:
    """Compute the evidence from the outcome for the queries of the PARTS, in this order."""
    queries = np.concatenate(parts)
    correct = outcome.answers == task.answers(queries)
    held_out, validation, train = np.split(correct, np.cumsum([len(part) for part in parts[:-1]]))
    least = int(outcome.margins.argmin())
    return metadata.Evidence(
        domain=measure(correct),
        is_sample=task.queries is None,
        train=measure(train),
        validation=measure(validation),
        held_out=measure(held_out),
        groups={name: _measure_groups(correct, labels) for name, labels in task.groups(queries).items()},
        calibration_error=round(expected_calibration_error(correct, outcome.confidence), 6),
        reliability=reliability_bins(correct, outcome.confidence),
        margin=metadata.Margin(query=queries[least].decode(), smallest=round(float(outcome.margins[least]), 4)),
        litert_mismatches=None if outcome.mismatches is None else int(outcome.mismatches.sum()),
        wrong_queries=[query.decode() for query in np.sort(queries[~correct])[:MAX_WRONG_QUERIES].tolist()],
    )


def margins(answers: Texts, probabilities: Floats) -> Floats:
    """Bytes [B] and float32 [B, T, V] -> float32 [B].

    The margin of an answer is the smallest difference between the two highest probabilities, over its characters and
    its end.
    """
    second, first = np.moveaxis(np.partition(probabilities, -2, axis=-1)[..., -2:], -1, 0)  # (B, T) each
    counted = np.arange(probabilities.shape[1]) <= np.char.str_len(answers)[:, None]  # (B, T)
    margin: Floats = np.where(counted, first - second, np.float32(1)).min(axis=1)
    return margin


def expected_calibration_error(correct: Bools, confidence: Floats) -> float:
    """Bool [N] and float32 [N] -> the mean difference between accuracy and mean confidence over equal bins of
    confidence, weighted by the queries in each (Guo et al. 2017, arXiv 1706.04599, section 2)."""
    surplus = np.bincount(_bins(confidence), weights=correct.astype(float) - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(surplus).sum() / len(correct))


def reliability_bins(correct: Bools, confidence: Floats) -> list[metadata.Bin]:
    """Bool [N] and float32 [N] -> the bins of a reliability diagram (Guo et al. 2017), in ascending order, without
    the empty ones."""
    bins, found = _bins(confidence), []
    for index in np.unique(bins):
        inside = bins == index
        found.append(
            metadata.Bin(
                queries=int(inside.sum()),
                confidence=round(float(confidence[inside].mean(dtype=np.float64)), 4),
                accuracy=round(float(correct[inside].mean()), 6),
            )
        )
    return found


def measure(correct: Bools) -> metadata.Part:
    """Bool [N] -> the number of queries and of wrong answers, and the exact-match accuracy."""
    wrong = int((~correct).sum())
    return metadata.Part(queries=len(correct), wrong=wrong, exact_match=1 - wrong / len(correct))


def _measure_groups(correct: Bools, groups: npt.NDArray[np.str_]) -> dict[str, metadata.Part]:
    return {str(group): measure(correct[groups == group]) for group in np.unique(groups)}


def _bins(confidence: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
