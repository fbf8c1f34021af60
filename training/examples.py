"""Pairs of query and answer, and their fixed split into train, validation and held-out."""

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import task

HELD_OUT = 100_000  # enough to see an accuracy of 99.99%
VALIDATION = 10_000  # enough to see the training go wrong, in a second an epoch

# In an epoch, by the length of the query. There are 91 train queries of 3 characters in 890,000, too few to be learned
# from by themselves: both wrong answers of adder/1 were short.
TIMES_SHOWN = {3: 32, 4: 16, 5: 2}

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions in `task.queries()`, int64 [N] each, in the order of the hash: the first few are a fair sample."""

    train: Indices
    validation: Indices
    held_out: Indices


@cache
def split() -> Split:
    """Split by the rank of each query's BLAKE2b hash: no seed and no number of examples moves a pair.

    "a+b" and "b+a" are two pairs, and may fall on two sides. The arrays cannot be written to.
    """
    rank = np.argsort([blake2b(query, digest_size=8).digest() for query in task.queries().tolist()])
    rank.setflags(write=False)
    held_out, validation, train = np.split(rank, [HELD_OUT, HELD_OUT + VALIDATION])
    return Split(train, validation, held_out)


def shown(count: int, short_more_often: bool) -> Indices:
    """The positions that an epoch shows, int64 [N], ascending: the first `count` of the train part, the short queries
    among them many times if so wished."""
    train = np.sort(split().train[:count])
    if not short_more_often:
        return train
    length = np.char.str_len(task.queries()[train])
    return np.repeat(train, np.select([length == short for short in TIMES_SHOWN], list(TIMES_SHOWN.values()), 1))


def batches(
    queries: task.Tokens, answers: task.Tokens, feeds_back: bool, batch_size: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """One epoch of one-hot batches, float32: [B, 7, V] -> [B, T, V], the last short one dropped.

    For a network that feeds back, the input is a pair: behind the query come the characters before, [B, T, V].
    The order is a function of seed and epoch alone, so that a resumed run sees what the unbroken one saw.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(queries))
    examples = tf.data.Dataset.from_tensor_slices((queries[order], answers[order]))
    depth = len(task.ALPHABET)

    def one_hot(query: tf.Tensor, answer: tf.Tensor) -> tuple[Any, tf.Tensor]:
        before = tf.one_hot(tf.pad(answer[:, :-1], [[0, 0], [1, 0]], constant_values=task.PAD), depth)
        query, answer = tf.one_hot(query, depth), tf.one_hot(answer, depth)
        return (query, before) if feeds_back else query, answer

    return examples.batch(batch_size, drop_remainder=True).map(one_hot).prefetch(2)
