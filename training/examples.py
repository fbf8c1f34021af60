"""The examples (pairs of query and answer): their fixed split into train, validation and held-out, and the batches."""

from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import TrainingError
from training.tasks import Task
from training.tasks.task import Draw, Texts, Tokens

HELD_OUT_SHARE = 0.1  # of all queries
VALIDATION_SHARE = 0.01  # enough to see a training fail; costs a second an epoch
DRAWN, DRAW_SEED = 1_000_000, 0  # queries of a task that has too many to enumerate, before repetitions are removed


class Split(NamedTuple):
    """Queries, bytes [N] each, in the order of a hash: any prefix is a random sample."""

    train: Texts
    validation: Texts
    held_out: Texts


@cache
def split(task: Task) -> Split:
    """Split the queries of a task by their BLAKE2b hash. The split does not depend on a seed or the number of examples.

    If all queries are enumerated, the shares are exact. Otherwise the queries are a sample without repetition, and the
    hash alone decides the part of a query, whether it is in the sample or not. "a+b" and "b+a" are two queries and may
    be in different parts. The arrays are read-only.

    Raises TrainingError if the task has too few queries.
    """
    parts = _split_all(task.queries()) if task.queries is not None else _split_drawn(cast(Draw, task.draw))
    if not all(len(part) for part in parts):
        raise TrainingError(
            f"the task {task.name} has {sum(map(len, parts))} queries, too few to hold some out: 100 are required"
        )
    for part in parts:
        part.setflags(write=False)
    return parts


def epoch_queries(task: Task, count: int, oversample_short: bool) -> Texts:
    """Return the queries of an epoch's examples: bytes [N].

    These are the first `count` train queries; with `oversample_short`, short ones are repeated as the task says.
    """
    train = split(task).train[:count]
    if not oversample_short:
        return train
    repeats = np.array([task.oversampling.get(length, 1) for length in range(task.query_length + 1)])
    return np.repeat(train, repeats[np.char.str_len(train)])


def batches(
    task: Task, queries: Tokens, answers: Tokens, autoregressive: bool, batch_size: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """Return one epoch of one-hot batches, float32: queries [B, Q, V] -> answers [B, T, V]. An incomplete last batch is
    dropped.

    For an autoregressive network the input is a pair: the query, and the previous characters, [B, T, V]. The order
    depends on `seed` and `epoch` only, so that a resumed training sees the same batches as an uninterrupted one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(queries))
    examples = tf.data.Dataset.from_tensor_slices((queries[order], answers[order]))
    depth, end = len(task.alphabet), task.end_token

    def one_hot(query: tf.Tensor, answer: tf.Tensor) -> tuple[Any, tf.Tensor]:
        previous = tf.one_hot(tf.pad(answer[:, :-1], [[0, 0], [1, 0]], constant_values=end), depth)
        query, answer = tf.one_hot(query, depth), tf.one_hot(answer, depth)
        return (query, previous) if autoregressive else query, answer

    return examples.batch(batch_size, drop_remainder=True).map(one_hot).prefetch(2)


def _split_all(queries: Texts) -> Split:
    """Split exactly by the shares."""
    ranked = queries[np.argsort(_hashes(queries))]
    held_out = round(HELD_OUT_SHARE * len(queries))
    validation = held_out + round(VALIDATION_SHARE * len(queries))
    return Split(ranked[validation:], ranked[held_out:validation], ranked[:held_out])


def _split_drawn(draw: Draw) -> Split:
    """Draw queries, and split them by the shares of all hashes."""
    queries = np.unique(draw(np.random.default_rng(DRAW_SEED), DRAWN))
    hashes = _hashes(queries)
    order = np.argsort(hashes)
    bounds = np.array([HELD_OUT_SHARE, HELD_OUT_SHARE + VALIDATION_SHARE]) * 2.0**64
    held_out, validation, train = np.split(queries[order], np.searchsorted(hashes[order], bounds.astype(np.uint64)))
    return Split(train, validation, held_out)


def _hashes(queries: Texts) -> npt.NDArray[np.uint64]:
    digests = [int.from_bytes(blake2b(query, digest_size=8).digest()) for query in queries.tolist()]
    return np.array(digests, np.uint64)
