from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from training import decoding

LENGTH, ALPHABET, PAD = 3, 4, 3  # 3 characters and the pad: 1 + 3 + 9 + 27 = 40 answers
Floats = npt.NDArray[np.float32]


def random_network(seed: int, autoregressive: bool) -> tuple[decoding.Step, tf.Tensor]:
    """A random network. Its state is the position, with a table of probabilities by previous character for each."""
    logits = np.random.default_rng(seed).normal(scale=2, size=(LENGTH, ALPHABET, ALPHABET)).astype(np.float32)
    if not autoregressive:
        logits[:] = logits[:, :1]
    table = tf.nn.softmax(logits)

    def step(state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        position = tf.cast(state[:, 0], tf.int32)
        return tf.gather_nd(table, tf.stack([position, previous], axis=1)), state + 1

    return step, tf.zeros([2, 1])


def by_brute_force(step: decoding.Step) -> list[tuple[float, tuple[int, ...]]]:
    """Every answer with its log-probability, best first."""
    answers = []
    for characters in product(range(ALPHABET), repeat=LENGTH):
        end = characters.index(PAD) if PAD in characters else LENGTH
        if set(characters[end:]) <= {PAD}:
            total, previous, state = 0.0, PAD, tf.zeros([1, 1])
            for character in characters[: end + 1]:
                probabilities, state = step(state, tf.constant([previous]))
                total, previous = total + float(np.log(probabilities[0, character])), character
            answers.append((total, characters))
    assert len(answers) == 40
    return sorted(answers, reverse=True)


def test_the_first_pad_ends_an_answer() -> None:
    characters = iter([2, PAD, 0, 1])

    def step(state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.one_hot(tf.fill(tf.shape(previous), next(characters)), ALPHABET, on_value=0.5), state

    answer, _, confidence = decoding.greedy(step, tf.zeros([1, 1]), 4, PAD)
    assert answer.numpy().tolist() == [[2, PAD, PAD, PAD]]
    assert confidence.numpy().tolist() == [0.25]


@given(st.integers(0, 1000), st.sampled_from([1, 2, 3, 7, 40]))
@settings(max_examples=15, deadline=None)
def test_k_best_is_exact_without_feedback(seed: int, k: int) -> None:
    step, state = random_network(seed, autoregressive=False)
    characters, totals = decoding.k_best(step, state, k, LENGTH, PAD)
    expected = by_brute_force(step)[:k]
    for row in range(2):
        np.testing.assert_allclose(totals[row], [total for total, _ in expected], atol=1e-5)
        assert [tuple(answer) for answer in characters[row].numpy().tolist()] == [answer for _, answer in expected]


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_beam_as_wide_as_the_domain_is_always_exact(seed: int) -> None:
    step, state = random_network(seed, autoregressive=True)
    characters, totals = decoding.k_best(step, state, 40, LENGTH, PAD)
    expected = by_brute_force(step)
    np.testing.assert_allclose(totals[1], [total for total, _ in expected], atol=1e-5)
    assert [tuple(answer) for answer in characters[1].numpy().tolist()] == [answer for _, answer in expected]


def test_a_narrow_beam_returns_correct_sorted_probabilities() -> None:
    step, state = random_network(5, autoregressive=True)
    characters, totals = decoding.k_best(step, state, 3, LENGTH, PAD)
    every = {answer: total for total, answer in by_brute_force(step)}
    found = [every[tuple(answer)] for answer in characters[0].numpy().tolist()]
    assert found == sorted(found, reverse=True)
    np.testing.assert_allclose(totals[0], found, atol=1e-5)


def test_k_above_the_domain_gives_minus_infinity() -> None:
    step, state = random_network(1, autoregressive=False)
    _, totals = decoding.k_best(step, state, 50, LENGTH, PAD)
    assert np.isfinite(totals[0]).sum() == 40
    assert float(tf.reduce_sum(tf.exp(totals[0]))) == pytest.approx(1, abs=1e-5)
