import hashlib

import numpy as np
import pytest

from training import examples, task


@pytest.fixture(scope="module")
def split() -> examples.Split:
    return examples.split()


def test_every_pair_is_in_exactly_one_part(split: examples.Split) -> None:
    parts = [split.train, split.validation, split.held_out]
    assert [len(part) for part in parts] == [890_000, 10_000, 100_000]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1_000_000))


def test_the_held_out_pairs_never_change(split: examples.Split) -> None:
    # Literal values: with another split, pairs used in the training of a shipped model would count as held out.
    assert np.sort(split.held_out)[:6].tolist() == [0, 3, 12, 31, 43, 50]
    assert hashlib.sha256(np.sort(split.held_out).tobytes()).hexdigest().startswith("0fa6fd0712bad2d1")


def test_parts_are_spread_over_the_domain(split: examples.Split) -> None:
    for part in (split.held_out, split.train[:100_000]):
        shares = np.bincount(part // 1000, minlength=1000)
        assert shares.min() > 50
        assert shares.max() < 150


def test_batch_order_depends_on_seed_and_epoch_only() -> None:
    some = task.tokenize_queries(task.queries()[:640]), task.tokenize(task.sums()[:640], 4)

    def order(seed: int, epoch: int) -> bytes:
        return b"".join(query.numpy().tobytes() for query, _ in examples.batches(*some, False, 64, seed, epoch))

    assert order(1, 0) == order(1, 0)
    assert len({order(1, 0), order(1, 1), order(2, 0)}) == 3


def test_shuffling_keeps_queries_with_their_answers() -> None:
    some = task.tokenize_queries(task.queries()[:640]), task.tokenize(task.sums()[:640], 4)
    belongs = {query.tobytes(): answer.tobytes() for query, answer in zip(*some, strict=True)}
    for batch in examples.batches(*some, False, 64, 1, 0):
        for query, answer in zip(*(np.argmax(part, -1).astype(np.uint8) for part in batch), strict=True):
            assert belongs[query.tobytes()] == answer.tobytes()


def test_batches_are_one_hot_and_full() -> None:
    some = task.tokenize_queries(task.queries()[:100]), task.tokenize(task.sums()[:100], 4)
    [(query, answer)] = examples.batches(*some, False, 64, 1, 0)
    assert query.shape == (64, 7, 12)
    assert answer.shape == (64, 4, 12)
    assert np.array_equal(np.sum(query, -1), np.ones((64, 7)))


def test_autoregressive_batches_hold_the_previous_characters() -> None:
    some = task.tokenize_queries(task.queries()[:100]), task.tokenize(task.sums()[:100], 4)
    [((_, previous), answer)] = examples.batches(*some, True, 64, 1, 0)
    assert np.array_equal(previous[:, 1:], answer[:, :-1])
    assert np.array_equal(np.argmax(previous[:, 0], -1), np.full(64, task.PAD))


def test_short_queries_are_oversampled(split: examples.Split) -> None:
    queries = task.queries()
    assert np.array_equal(examples.epoch_positions(890_000, False), np.sort(split.train))
    shown = np.bincount(examples.epoch_positions(890_000, True), minlength=1_000_000)
    assert np.array_equal(np.flatnonzero(shown), np.sort(split.train))
    length = np.char.str_len(queries)
    assert {int(n): set(shown[(length == n) & (shown > 0)].tolist()) for n in range(3, 8)} == {
        3: {32},
        4: {16},
        5: {2},
        6: {1},
        7: {1},
    }
