"""The examples: the fixed split of a task's queries into train, validation and held-out, and the batches.

Queries that mirror each other ("1+2" and "2+1") are in the same part: a network that was shown one of them would have
an easy time with the other. The first of the two in the order of bytes is the key of both.
"""

from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from itertools import count
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training import TrainingError
from training.recipe import Recipe
from training.tasks import Task
from training.tasks.task import Draw, Labels, Texts, Tokens

Part = Literal["train", "validation", "held_out"]
Hashes = npt.NDArray[np.uint64]

HELD_OUT_SHARE = 0.1  # of all keys
VALIDATION_SHARE = 0.01  # enough to see a training fail; costs a second an epoch
DRAWN = {"train": 1_000_000, "validation": 5_000, "held_out": 1_000_000}  # keys of a task with too many to enumerate
BLOCK = 1_000_000  # queries that are drawn at once


@cache
def keys(task: Task, part: Part, maximum: int | None = None) -> Texts:
    """Return the first `maximum` keys of a part, or all: bytes [N], in an order that makes any prefix a random sample.

    The salted BLAKE2b hash of a key decides its part, whatever the seed and the number of examples. If all queries are
    enumerated, the shares are exact, and the order is that of the hash. Otherwise the keys are those of the first
    queries that `Task.draw` gives, DRAWN at most, without repetitions. The array is read-only.

    Raises TrainingError if the task has too few queries.
    """
    found = _enumerated(task)[part] if task.queries is not None else _drawn(task, part, maximum or DRAWN[part])
    found = found[:maximum]
    found.setflags(write=False)
    return found


def queries_of(task: Task, found: Texts) -> Texts:
    """Keys, bytes [N] -> these and then their mirrors, bytes [M]."""
    if task.mirror is None:
        return found
    mirrored = task.mirror(found)
    return np.concatenate([found, mirrored[mirrored != found]])


def epoch_queries(task: Task, recipe: Recipe, epoch: int) -> Texts:
    """Return the queries of an epoch's examples, not shuffled: bytes [N], with the same N in each epoch.

    These are the first train queries, the same in each epoch, or new ones from `Task.draw` if the recipe is `fresh`.
    """
    if recipe.fresh:
        return _fresh(task, recipe.examples, epoch)
    return _repeated(task, recipe.examples, recipe.both_orders, recipe.oversample_short)


def batches(task: Task, queries: Tokens, answers: Tokens, recipe: Recipe, epoch: int) -> tf.data.Dataset:
    """Return one epoch of batches of tokens, int32: (queries [B, Q], previous characters [B, T]) -> answers [B, T]. An
    incomplete last batch is dropped.

    The order depends on the recipe's seed and `epoch` only, so that a resumed training sees the same batches as an
    uninterrupted one.
    """
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(queries))
    examples = tf.data.Dataset.from_tensor_slices((queries[order], answers[order]))

    def with_previous(query: tf.Tensor, answer: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        query, answer = tf.cast(query, tf.int32), tf.cast(answer, tf.int32)
        return (query, tf.pad(answer[:, :-1], [[0, 0], [1, 0]], constant_values=task.end_token)), answer

    return examples.batch(recipe.batch_size, drop_remainder=True).map(with_previous).prefetch(2)


@cache
def _repeated(task: Task, examples: int, both_orders: bool, oversample_short: bool) -> Texts:
    """The queries of each epoch of a recipe that is not fresh."""
    train = keys(task, "train", examples)
    if both_orders:
        train = queries_of(task, train)
    elif task.mirror is not None:  # in an order that is as good as random
        train = np.where(_hashes(task, train) % 2 == 1, task.mirror(train), train)
    if oversample_short:
        repeats = np.array([task.oversampling.get(length, 1) for length in range(task.query_length + 1)])
        train = np.repeat(train, repeats[np.char.str_len(train)])
    train.setflags(write=False)
    return train


@cache
def _enumerated(task: Task) -> dict[Part, Texts]:
    """Split all keys exactly by the shares."""
    assert task.queries is not None  # noqa: S101  for mypy: the caller has looked
    found = np.unique(_keys(task, task.queries()))
    ranked = found[np.argsort(_hashes(task, found))]
    held_out = round(HELD_OUT_SHARE * len(found))
    validation = held_out + round(VALIDATION_SHARE * len(found))
    parts: dict[Part, Texts] = {
        "train": ranked[validation:],
        "validation": ranked[held_out:validation],
        "held_out": ranked[:held_out],
    }
    if not all(len(part) for part in parts.values()):
        raise TrainingError(
            f"the task {task.name} has {len(found)} queries, too few to hold some out: 100 are required"
        )
    return parts


def _drawn(task: Task, part: Part, maximum: int) -> Texts:
    """The first different keys of a part among those of drawn queries, in the order in which they are drawn."""
    found: dict[bytes, None] = {}  # a set with an order
    for drawn in _draws(task, part, first=0):
        found |= dict.fromkeys(_keys(task, drawn).tolist())
        if len(found) >= maximum:
            return np.array(list(found)[:maximum])
    raise AssertionError("drawing has no end")


def _fresh(task: Task, size: int, epoch: int) -> Texts:
    """Train queries that no other epoch draws. An epoch draws its blocks from a counter that starts at 2^32 times its
    number plus one: `_drawn` has those from zero."""
    found, missing = [], size
    for drawn in _draws(task, "train", first=(epoch + 1) << 32):
        found.append(drawn[:missing])
        missing -= len(found[-1])
        if not missing:
            return np.concatenate(found)
    raise AssertionError("drawing has no end")


def _draws(task: Task, part: Part, first: int) -> Iterator[Texts]:
    """Yield the queries of a part from block after block of drawn ones, from the block `first` on.

    Each block is a function of its number: Philox (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3)
    counts, and has no state that would have to be stored to resume.
    """
    for block in count(first):
        drawn = cast(Draw, task.draw)(np.random.Generator(np.random.Philox(counter=[0, 0, 0, block], key=0)), BLOCK)
        yield drawn[parts_of(task, drawn) == part]


def parts_of(task: Task, queries: Texts) -> Labels:
    """Return the part of each query of a task whose queries are drawn: bytes [N] -> [N]."""
    bounds = np.array([HELD_OUT_SHARE, HELD_OUT_SHARE + VALIDATION_SHARE]) * 2.0**64
    parts = np.array(["held_out", "validation", "train"])
    found: Labels = parts[np.searchsorted(bounds.astype(np.uint64), _hashes(task, _keys(task, queries)), side="right")]
    return found


def _keys(task: Task, queries: Texts) -> Texts:
    if task.mirror is None:
        return queries
    mirrored = task.mirror(queries)
    return np.where(queries <= mirrored, queries, mirrored)


def _hashes(task: Task, found: Texts) -> Hashes:
    digests = [int.from_bytes(blake2b(key, digest_size=8, salt=task.salt).digest()) for key in found.tolist()]
    hashes = np.array(digests, np.uint64)
    hashes[np.isin(found, task.train_only)] = np.iinfo(np.uint64).max  # the last ones are train queries
    return hashes
