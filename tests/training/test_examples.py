import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from training import TrainingError, examples, fit
from training.examples import keys, queries_of
from training.recipe import Recipe
from training.tasks import Task, find_task
from training.tasks.task import Texts, Tokens

TASK = find_task("addition")
PARTS: tuple[examples.Part, ...] = ("train", "validation", "held_out")


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {"task": "addition", "examples": 445_445, "batch_size": 64, "command": ""}
    return Recipe(**fields | changes)


def queries(task: Task, part: examples.Part) -> Texts:
    return queries_of(task, keys(task, part))


def examples_task(digits: int) -> Task:
    return find_task("addition" if digits == 3 else f"addition-{digits}")


def canonical(found: Texts) -> set[frozenset[bytes]]:
    """The pairs without their order."""
    return {frozenset(query.split(b"+")) for query in found.tolist()}


def test_every_query_is_in_exactly_one_part() -> None:
    assert TASK.queries is not None
    assert [len(keys(TASK, part)) for part in PARTS] == [445_445, 5_005, 50_050]
    assert np.array_equal(np.sort(np.concatenate([queries(TASK, part) for part in PARTS])), np.sort(TASK.queries()))


def test_no_pair_is_held_out_that_is_trained_on_in_its_other_order() -> None:
    pairs = [canonical(queries(TASK, part)) for part in PARTS]
    assert sum(map(len, pairs)) == len(set.union(*pairs)) == 500_500


def test_the_held_out_pairs_never_change() -> None:
    # Literal values: with another split, pairs used in the training of a shipped model would count as held out.
    held_out = keys(TASK, "held_out")
    assert held_out[:3].tolist() == [b"403+509", b"591+607", b"395+467"]
    assert hashlib.sha256(b" ".join(np.sort(held_out))).hexdigest().startswith("7bcbbce57289300a")


@pytest.mark.parametrize("digits", [2, 3, 4, 5])
def test_a_pair_that_alone_has_its_sum_is_never_held_out(digits: int) -> None:
    task, largest = examples_task(digits), 10**digits - 1
    only = np.array([f"{a}+{b}".encode() for a, b in [(0, 0), (1, 0), (largest, largest), (largest - 1, largest)]])
    if task.queries is None:
        assert set(examples.parts_of(task, only)) == {"train"}
    else:
        assert set(only.tolist()) <= set(queries(task, "train").tolist())


def test_parts_are_spread_over_the_domain() -> None:
    for part in (queries(TASK, "held_out"), queries_of(TASK, keys(TASK, "train", 50_000))):
        shares = np.bincount(np.char.partition(part, b"+")[:, 0].astype(int), minlength=1000)
        assert shares.min() > 50
        assert shares.max() < 150


def test_the_parts_of_a_small_domain_have_its_shares() -> None:
    assert [len(queries(find_task("reversal"), part)) for part in PARTS] == [17_382, 195, 1953]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The task of five digits with fewer queries."""
    monkeypatch.setattr(examples, "BLOCK", 20_000)
    yield replace(find_task("addition-5"))
    examples.keys.cache_clear()


def test_the_hash_of_a_drawn_pair_decides_its_part(drawn: Task) -> None:
    pairs = [canonical(keys(drawn, part, 3000)) for part in PARTS]
    assert [len(part) for part in pairs] == [3000, 3000, 3000]
    assert len(set.union(*pairs)) == 9000
    block = drawn.draw(np.random.default_rng(1), 50_000) if drawn.draw else None
    assert block is not None
    parts = examples.parts_of(drawn, block)
    assert np.mean(parts == "held_out") == pytest.approx(0.1, abs=0.01)
    assert np.mean(parts == "validation") == pytest.approx(0.01, abs=0.003)
    assert drawn.mirror is not None
    assert np.array_equal(parts, examples.parts_of(drawn, drawn.mirror(block)))


def test_a_prefix_of_drawn_pairs_does_not_depend_on_their_number(drawn: Task) -> None:
    assert np.array_equal(keys(drawn, "held_out", 100), keys(drawn, "held_out", 2000)[:100])


def test_each_epoch_of_a_fresh_training_has_its_own_train_queries(drawn: Task) -> None:
    fresh = recipe(task="addition-5", examples=30_000, fresh=True)
    epochs = [examples.epoch_queries(drawn, fresh, epoch) for epoch in (0, 1)]
    assert [len(epoch) for epoch in epochs] == [30_000, 30_000]
    assert np.array_equal(epochs[1], examples.epoch_queries(drawn, fresh, 1))
    assert len(set(epochs[0].tolist()) & set(epochs[1].tolist())) < 10_000  # the short ones
    assert set(examples.parts_of(drawn, np.concatenate(epochs))) == {"train"}


def test_too_few_queries_are_a_sentence() -> None:
    small = replace(find_task("reversal"), queries=lambda: np.array([b"abc", b"abd"]), name="tiny")
    with pytest.raises(TrainingError, match="the task tiny has 2 queries, too few to hold some out: 100 are required"):
        keys(small, "train")


def pairs(count: int) -> tuple[Tokens, Tokens]:
    """Queries and answers as tokens."""
    some = np.array([f"{number}+{number + 1}".encode() for number in range(count)])
    return fit.encode(TASK, some), TASK.tokenize_answers(TASK.answers(some))


def test_batch_order_depends_on_seed_and_epoch_only() -> None:
    some = pairs(640)

    def order(seed: int, epoch: int) -> bytes:
        batches = examples.batches(TASK, *some, recipe(seed=seed), epoch)
        return b"".join(query.numpy().tobytes() for (query, _), _ in batches)

    assert order(1, 0) == order(1, 0)
    assert len({order(1, 0), order(1, 1), order(2, 0)}) == 3


def test_shuffling_keeps_queries_with_their_answers() -> None:
    some = pairs(640)
    belongs = {query.tobytes(): answer.tobytes() for query, answer in zip(*some, strict=True)}
    for (queries, _), answers in examples.batches(TASK, *some, recipe(), 0):
        for query, answer in zip(queries.numpy().astype(np.uint8), answers.numpy().astype(np.uint8), strict=True):
            assert belongs[query.tobytes()] == answer.tobytes()


def test_batches_are_full_and_have_the_previous_characters() -> None:
    [((query, previous), answer)] = examples.batches(TASK, *pairs(100), recipe(), 0)
    assert (query.shape, previous.shape, answer.shape) == ((64, 7), (64, 4), (64, 4))
    assert np.array_equal(previous[:, 1:], answer[:, :-1])
    assert np.array_equal(previous[:, 0], np.full(64, TASK.end_token))


def test_short_queries_are_oversampled() -> None:
    train = np.sort(queries(TASK, "train"))
    assert np.array_equal(np.sort(examples.epoch_queries(TASK, recipe(oversample_short=False), 0)), train)
    found, shown = np.unique(examples.epoch_queries(TASK, recipe(), 0), return_counts=True)
    assert np.array_equal(found, train)
    length = np.char.str_len(found)
    assert {int(n): set(shown[length == n].tolist()) for n in range(3, 8)} == {3: {32}, 4: {16}, 5: {2}, 6: {1}, 7: {1}}


def test_one_order_of_each_pair_is_as_good_as_random() -> None:
    one = examples.epoch_queries(TASK, recipe(both_orders=False, oversample_short=False, examples=10_000), 0)
    assert canonical(one) == canonical(keys(TASK, "train", 10_000))
    left, right = np.char.partition(one, b"+")[:, ::2].T.astype(int)
    assert np.mean(left < right) == pytest.approx(0.5, abs=0.03)
