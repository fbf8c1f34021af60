"""Pairs of query and answer, and their fixed split into train, validation and held-out."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import task

HELD_OUT = 100_000  # enough to see an accuracy of 99.99%
VALIDATION = 10_000  # enough to see the training go wrong, in a second an epoch

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions in `task.domain()`, int64 [N] each, in the order of the hash: the first few are a fair sample."""

    train: Indices
    validation: Indices
    held_out: Indices


def split(queries: task.Texts) -> Split:
    """Split by the rank of each query's BLAKE2b hash: no seed and no number of examples moves a pair.

    "a+b" and "b+a" are two pairs, and may fall on two sides.
    """
    rank = np.argsort([blake2b(query, digest_size=8).digest() for query in queries.tolist()])
    held_out, validation, train = np.split(rank, [HELD_OUT, HELD_OUT + VALIDATION])
    return Split(train, validation, held_out)


def batches(queries: task.Tokens, answers: task.Tokens, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """One epoch of one-hot batches: float32 [B, QUERY_LENGTH, V] and [B, ANSWER_LENGTH, V], the last short one dropped.

    The order is a function of seed and epoch alone, so that a resumed run sees what the unbroken one saw.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(queries))
    examples = tf.data.Dataset.from_tensor_slices((queries[order], answers[order]))
    depth = len(task.ALPHABET)
    return (
        examples.batch(batch_size, drop_remainder=True)
        .map(lambda query, answer: (tf.one_hot(query, depth), tf.one_hot(answer, depth)))
        .prefetch(2)
    )
