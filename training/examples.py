"""The examples (pairs of query and answer): their fixed split into train, validation and held-out, and the batches."""

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import task
from training.recipe import OVERSAMPLING

HELD_OUT_PAIRS = 100_000  # enough to measure an accuracy of 99.99%
VALIDATION_PAIRS = 10_000  # enough to see a training fail; costs a second an epoch

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions in `task.queries()`, int64 [N] each, in the order of the hash: any prefix is a random sample."""

    train: Positions
    validation: Positions
    held_out: Positions


@cache
def split() -> Split:
    """Split by the rank of each query's BLAKE2b hash. The split does not depend on a seed or the number of examples.

    "a+b" and "b+a" are two pairs and may be in different parts. The arrays are read-only.
    """
    rank = np.argsort([blake2b(query, digest_size=8).digest() for query in task.queries().tolist()])
    rank.setflags(write=False)
    held_out, validation, train = np.split(rank, [HELD_OUT_PAIRS, HELD_OUT_PAIRS + VALIDATION_PAIRS])
    return Split(train, validation, held_out)


def epoch_positions(count: int, oversample_short: bool) -> Positions:
    """Return the positions of an epoch's examples in `task.queries()`: int64 [N], ascending.

    These are the first `count` train pairs; with `oversample_short`, short queries are repeated by `OVERSAMPLING`.
    """
    train = np.sort(split().train[:count])
    if not oversample_short:
        return train
    length = np.char.str_len(task.queries()[train])
    return np.repeat(train, np.select([length == short for short in OVERSAMPLING], list(OVERSAMPLING.values()), 1))


def batches(
    queries: task.Tokens, answers: task.Tokens, autoregressive: bool, batch_size: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """Return one epoch of one-hot batches, float32: queries [B, 7, V] -> answers [B, T, V]. An incomplete last batch is
    dropped.

    For an autoregressive network the input is a pair: the query, and the previous characters, [B, T, V]. The order
    depends on `seed` and `epoch` only, so that a resumed training sees the same batches as an uninterrupted one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(queries))
    examples = tf.data.Dataset.from_tensor_slices((queries[order], answers[order]))
    depth = len(task.ALPHABET)

    def one_hot(query: tf.Tensor, answer: tf.Tensor) -> tuple[Any, tf.Tensor]:
        previous = tf.one_hot(tf.pad(answer[:, :-1], [[0, 0], [1, 0]], constant_values=task.PAD), depth)
        query, answer = tf.one_hot(query, depth), tf.one_hot(answer, depth)
        return (query, previous) if autoregressive else query, answer

    return examples.batch(batch_size, drop_remainder=True).map(one_hot).prefetch(2)
