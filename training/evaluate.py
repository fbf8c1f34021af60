"""Exact-match accuracy of an artifact on all 1,000,000 queries."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from training import examples, metadata, task
from training.litert import Floats, LiteRTModel
from training.networks import ARCHITECTURES

BATCH_SIZE = 10_000  # divides the number of queries: XLA compiles one size
CALIBRATION_BINS = 15  # as in Guo et al. 2017
MAX_WRONG_QUERIES = 10_000  # are listed in the metadata; more are not worth reading one by one

Bools = npt.NDArray[np.bool_]


def evaluate(artifact: Path) -> metadata.Evidence:
    """Answer every query by the SavedModel and by LiteRT, and write the evidence into the artifact's `metadata.json`.

    Raises TrainingError if `artifact` is incomplete or changed.
    """
    contents = metadata.read(artifact)
    serving = tf.saved_model.load(str(artifact)).signatures["serving_default"]
    queries, targets = task.queries(), ARCHITECTURES[contents.architecture].targets()
    litert_model = LiteRTModel(artifact, BATCH_SIZE)
    rows = []
    batches = np.split(queries, len(queries) // BATCH_SIZE)
    for batch in tqdm(batches, desc=str(artifact), unit_scale=BATCH_SIZE, unit="query"):
        outputs = {name: output.numpy() for name, output in serving(query=tf.constant(batch)).items()}
        answers = outputs["answer"].astype("S")
        margin = margins(answers, outputs["probabilities"])
        rows.append((answers, outputs["confidence"], margin, litert_model.predict(batch)[0]))
    answers, confidence, margin, litert_answers = (np.concatenate(column) for column in zip(*rows, strict=True))
    litert_mismatches = int((answers != litert_answers).sum())
    evidence = build_evidence(queries, answers == targets, confidence, margin, litert_mismatches)
    # Read again: another command may have changed the file meanwhile.
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": evidence}))
    return evidence


def build_evidence(
    queries: task.Texts, correct: Bools, confidence: Floats, margin: Floats, litert_mismatches: int
) -> metadata.Evidence:
    """Compute the evidence from one value for each of `task.queries()`, in their order.

    `queries`: bytes [N]. `correct`: bool [N]. `confidence`, `margin`: float32 [N].
    """
    split = examples.split()
    lengths = np.array(["+".join(str(len(operand)) for operand in query.split(b"+")) for query in queries.tolist()])
    carries = task.carry_counts().astype(str)
    least = int(margin.argmin())
    return metadata.Evidence(
        domain=measure(correct),
        train=measure(correct[split.train]),
        validation=measure(correct[split.validation]),
        held_out=measure(correct[split.held_out]),
        by_operand_length=_measure_groups(correct, lengths),
        by_carries=_measure_groups(correct, carries),
        calibration_error=round(expected_calibration_error(correct, confidence), 6),
        reliability=reliability_bins(correct, confidence),
        margin=metadata.Margin(query=queries[least].decode(), smallest=round(float(margin[least]), 4)),
        litert_mismatches=litert_mismatches,
        wrong_queries=[query.decode() for query in queries[~correct][:MAX_WRONG_QUERIES].tolist()],
    )


def margins(answers: task.Texts, probabilities: Floats) -> Floats:
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
