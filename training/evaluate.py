"""Exact-match accuracy of an artifact, over the whole domain."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from training import examples, metadata, task
from training.lite import Floats, Lite
from training.networks import NETWORKS

BATCH_SIZE = 10_000  # divides the domain: one compiled size
CALIBRATION_BINS = 15  # as in Guo et al. 2017
WRONG_QUERIES = 10_000  # so many are named; a network with more is not worth looking at one by one

Truths = npt.NDArray[np.bool_]


def evaluate(artifact: Path) -> metadata.Evidence:
    """Answer every query by the SavedModel, and once more by LiteRT; write the evidence into the artifact's
    `metadata.json`, and return it.

    Raises TrainingError where `artifact` is not a whole artifact.
    """
    described = metadata.read(artifact)
    serving = tf.saved_model.load(str(artifact)).signatures["serving_default"]
    queries, truth = task.queries(), NETWORKS[described.network].truth()
    batches = np.split(queries, len(queries) // BATCH_SIZE)
    serving_lite = Lite(artifact, BATCH_SIZE)
    answered = []
    for batch in tqdm(batches, desc=str(artifact), unit_scale=BATCH_SIZE, unit="query"):
        returned = {name: output.numpy() for name, output in serving(query=tf.constant(batch)).items()}
        answers = returned["answer"].astype("S")
        margin = margins(answers, returned["probabilities"])
        answered.append((answers, returned["confidence"], margin, serving_lite(batch)[0]))
    answers, confidence, margin, lite_answers = (np.concatenate(column) for column in zip(*answered, strict=True))
    evidence = count(queries, answers == truth, confidence, margin, int((answers != lite_answers).sum()))
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": evidence}))
    return evidence


def count(
    queries: task.Texts, right: Truths, confidence: Floats, margin: Floats, lite_differs: int
) -> metadata.Evidence:
    """Bytes, bool and float32 twice, [N] each, all over the whole domain in its order -> the evidence."""
    split = examples.split()
    lengths = np.array(["+".join(str(len(operand)) for operand in query.split(b"+")) for query in queries.tolist()])
    carries = task.carries().astype(str)
    worst = int(margin.argmin())
    return metadata.Evidence(
        domain=part(right),
        train=part(right[split.train]),
        validation=part(right[split.validation]),
        held_out=part(right[split.held_out]),
        by_operand_length=_parts(right, lengths),
        by_carries=_parts(right, carries),
        calibration_error=round(calibration_error(right, confidence), 6),
        reliability=reliability(right, confidence),
        margin=metadata.Margin(query=queries[worst].decode(), smallest=round(float(margin[worst]), 4)),
        lite_differs=lite_differs,
        wrong_queries=[query.decode() for query in queries[~right][:WRONG_QUERIES].tolist()],
    )


def margins(answers: task.Texts, probabilities: npt.NDArray[np.float32]) -> Floats:
    """Bytes [B] and float32 [B, T, V] -> float32 [B]: the least distance of the first character's probability from the
    second's, over the characters of the answer and its end."""
    second, first = np.moveaxis(np.partition(probabilities, -2, axis=-1)[..., -2:], -1, 0)
    counted = np.arange(probabilities.shape[1]) <= np.char.str_len(answers)[:, None]
    margin: Floats = np.where(counted, first - second, np.float32(1)).min(axis=1)
    return margin


def calibration_error(right: Truths, confidence: Floats) -> float:
    """Bool [N] and float32 [N] -> the expected calibration error of Guo et al. 2017, arXiv 1706.04599, section 2, in
    equal bins of confidence: the mean distance of a bin's accuracy from its mean confidence, weighted by its
    queries."""
    surplus = np.bincount(_bins(confidence), weights=right.astype(float) - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(surplus).sum() / len(right))


def reliability(right: Truths, confidence: Floats) -> list[metadata.Bin]:
    """Bool [N] and float32 [N] -> the bins of the reliability diagram of Guo et al. 2017, the lowest first, without
    those that have no queries."""
    bins, found = _bins(confidence), []
    for index in np.unique(bins):
        inside = bins == index
        means = round(float(confidence[inside].mean(dtype=np.float64)), 4), round(float(right[inside].mean()), 6)
        found.append(metadata.Bin(queries=int(inside.sum()), confidence=means[0], accuracy=means[1]))
    return found


def _bins(confidence: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _parts(right: Truths, groups: npt.NDArray[np.str_]) -> dict[str, metadata.Part]:
    return {str(group): part(right[groups == group]) for group in np.unique(groups)}


def part(right: Truths) -> metadata.Part:
    """Bool [N], whether each query was answered right -> the count."""
    wrong = int((~right).sum())
    return metadata.Part(queries=len(right), wrong=wrong, exact_match=1 - wrong / len(right))
