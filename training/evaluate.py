"""Exact-match accuracy of an artifact, over the whole domain."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from training import examples, metadata, task

BATCH_SIZE = 10_000  # divides the domain: one compiled size
CALIBRATION_BINS = 15  # as in Guo et al. 2017

Truths = npt.NDArray[np.bool_]


def evaluate(artifact: Path) -> metadata.Evidence:
    """Answer every query by the SavedModel, write the evidence into the artifact's `metadata.json`, and return it.

    Raises TrainingError where `artifact` is not a whole artifact.
    """
    described = metadata.read(artifact)
    serving = tf.saved_model.load(str(artifact)).signatures["serving_default"]
    queries, truth = task.domain()
    answers, confidence = [], []
    for batch in tqdm(
        np.split(queries, len(queries) // BATCH_SIZE), desc=str(artifact), unit_scale=BATCH_SIZE, unit="query"
    ):
        returned = serving(query=tf.constant(batch))
        answers.append(returned["answer"].numpy().astype("S"))
        confidence.append(returned["confidence"].numpy())
    evidence = count(queries, np.concatenate(answers) == truth, np.concatenate(confidence))
    metadata.write(artifact, described.model_copy(update={"evidence": evidence}))
    return evidence


def count(queries: task.Texts, right: Truths, confidence: npt.NDArray[np.float32]) -> metadata.Evidence:
    """Bytes [N], bool [N] and float32 [N], all over the whole domain in its order -> the evidence."""
    split = examples.split(queries)
    lengths = np.array(["+".join(str(len(operand)) for operand in query.split(b"+")) for query in queries.tolist()])
    return metadata.Evidence(
        domain=_part(right),
        train=_part(right[split.train]),
        validation=_part(right[split.validation]),
        held_out=_part(right[split.held_out]),
        by_operand_length={str(length): _part(right[lengths == length]) for length in np.unique(lengths)},
        calibration_error=round(calibration_error(right, confidence), 6),
    )


def calibration_error(right: Truths, confidence: npt.NDArray[np.float32]) -> float:
    """The expected calibration error of Guo et al. 2017, arXiv 1706.04599, section 2, in equal bins of confidence: the
    mean distance of a bin's accuracy from its mean confidence, weighted by its queries."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    surplus = np.bincount(bins, weights=right.astype(float) - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(surplus).sum() / len(right))


def _part(right: Truths) -> metadata.Part:
    wrong = int((~right).sum())
    return metadata.Part(queries=len(right), wrong=wrong, exact_match=1 - wrong / len(right))
