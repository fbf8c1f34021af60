import hashlib
from dataclasses import replace

import numpy as np
import pytest

from training import TrainingError, examples, fit
from training.tasks import find_task
from training.tasks.task import Tokens

TASK = find_task("addition")


@pytest.fixture(scope="module")
def split() -> examples.Split:
    return examples.split(TASK)


def test_every_pair_is_in_exactly_one_part(split: examples.Split) -> None:
    assert TASK.queries is not None
    assert [len(part) for part in split] == [890_000, 10_000, 100_000]
    assert np.array_equal(np.sort(np.concatenate(split)), np.sort(TASK.queries()))


def test_the_held_out_pairs_never_change(split: examples.Split) -> None:
    # Literal values: with another split, pairs used in the training of a shipped model would count as held out.
    left, right = (np.char.partition(split.held_out, b"+")[:, part].astype(int) for part in (0, 2))
    positions = np.sort(1000 * left + right)
    assert positions[:6].tolist() == [0, 3, 12, 31, 43, 50]
    assert hashlib.sha256(positions.tobytes()).hexdigest().startswith("0fa6fd0712bad2d1")


def test_parts_are_spread_over_the_domain(split: examples.Split) -> None:
    for part in (split.held_out, split.train[:100_000]):
        shares = np.bincount(np.char.partition(part, b"+")[:, 0].astype(int), minlength=1000)
        assert shares.min() > 50
        assert shares.max() < 150


def test_the_parts_of_a_small_domain_have_its_shares() -> None:
    assert [len(part) for part in examples.split(find_task("reversal"))] == [17_382, 195, 1953]


def test_the_parts_of_drawn_queries_have_the_shares_of_hashes() -> None:
    parts = examples.split(find_task("addition-5"))
    queries = np.concatenate(parts)
    assert len(np.unique(queries)) == len(queries) > 700_000
    assert len(parts.held_out) / len(queries) == pytest.approx(0.1, abs=0.002)
    assert len(parts.validation) / len(queries) == pytest.approx(0.01, abs=0.001)
    # The hash of a query decides its part: it does not depend on what else was drawn.
    hashed = {hashlib.blake2b(query, digest_size=8).digest() for query in parts.held_out.tolist()}
    assert max(hashed) < (2**64 // 10 + 1).to_bytes(8)


def test_too_few_queries_are_a_sentence() -> None:
    small = replace(find_task("reversal"), queries=lambda: np.array([b"abc", b"abd"]), name="tiny")
    with pytest.raises(TrainingError, match="the task tiny has 2 queries, too few to hold some out: 100 are required"):
        examples.split(small)


def pairs(count: int) -> tuple[Tokens, Tokens]:
    """Queries and answers as tokens."""
    queries = np.array([f"{number}+{number + 1}".encode() for number in range(count)])
    return fit.encode(TASK, queries), TASK.tokenize_answers(TASK.answers(queries))


def test_batch_order_depends_on_seed_and_epoch_only() -> None:
    some = pairs(640)

    def order(seed: int, epoch: int) -> bytes:
        return b"".join(query.numpy().tobytes() for query, _ in examples.batches(TASK, *some, False, 64, seed, epoch))

    assert order(1, 0) == order(1, 0)
    assert len({order(1, 0), order(1, 1), order(2, 0)}) == 3


def test_shuffling_keeps_queries_with_their_answers() -> None:
    some = pairs(640)
    belongs = {query.tobytes(): answer.tobytes() for query, answer in zip(*some, strict=True)}
    for batch in examples.batches(TASK, *some, False, 64, 1, 0):
        for query, answer in zip(*(np.argmax(part, -1).astype(np.uint8) for part in batch), strict=True):
            assert belongs[query.tobytes()] == answer.tobytes()


def test_batches_are_one_hot_and_full() -> None:
    some = pairs(100)
    [(query, answer)] = examples.batches(TASK, *some, False, 64, 1, 0)
    assert query.shape == (64, 7, 12)
    assert answer.shape == (64, 4, 12)
    assert np.array_equal(np.sum(query, -1), np.ones((64, 7)))


def test_autoregressive_batches_hold_the_previous_characters() -> None:
    some = pairs(100)
    [((_, previous), answer)] = examples.batches(TASK, *some, True, 64, 1, 0)
    assert np.array_equal(previous[:, 1:], answer[:, :-1])
    assert np.array_equal(np.argmax(previous[:, 0], -1), np.full(64, TASK.end_token))


def test_short_queries_are_oversampled(split: examples.Split) -> None:
    assert np.array_equal(examples.epoch_queries(TASK, 890_000, False), split.train)
    queries, shown = np.unique(examples.epoch_queries(TASK, 890_000, True), return_counts=True)
    assert np.array_equal(queries, np.sort(split.train))
    length = np.char.str_len(queries)
    assert {int(n): set(shown[length == n].tolist()) for n in range(3, 8)} == {3: {32}, 4: {16}, 5: {2}, 6: {1}, 7: {1}}
