"""From the steps of a network to its answer, or to the k best."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Best = tuple[tf.Tensor, tf.Tensor]
Step = Callable[[Any, tf.Tensor], tuple[tf.Tensor, Any]]


def greedy(step: Step, state: Any, length: int, pad: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The most probable character at each step, `step` and `pad` being those of `k_best`.

    State: [B, S], or a list of which the first is such -> characters int32 [B, length], all pad from the end on;
    probabilities float32 [B, length, V]; confidence float32 [B]: the product of the probabilities of the answer's
    characters, and of its end where there is room.
    """
    batch = tf.shape(tf.nest.flatten(state)[0])[:1]
    previous, going_on, confidence = tf.fill(batch, pad), tf.fill(batch, True), tf.fill(batch, 1.0)
    steps, characters = [], []
    for _ in range(length):
        probabilities, state = step(state, previous)
        previous = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        steps.append(probabilities)
        characters.append(tf.where(going_on, previous, pad))
        confidence = tf.where(going_on, confidence * tf.reduce_max(probabilities, axis=-1), confidence)
        going_on &= previous != pad
    return tf.stack(characters, axis=1), tf.stack(steps, axis=1), confidence


def k_best(step: Step, state: tf.Tensor, k: tf.Tensor, length: int, pad: int) -> Best:
    """Beam search of width k: an answer that ends leaves the beam (Sutskever et al. 2014, section 3.2).

    `k`: int32 scalar, at least 1. `step(state, previous)`: float32 [N, S] and int32 [N] -> probabilities [N, V] and the
    next state [N, S]. `pad` stands before the first character and ends an answer.
    State [B, S] -> characters int32 [B, k, length], all pad from the end on, and their log-probabilities float32
    [B, k], best first; minus infinity, with characters that mean nothing, where there are fewer than k answers.

    Exact, but for the choice among equals, where a character does not depend on those before it: then what follows has
    the same probability behind every beginning, so that the beginning of one of the k best answers is itself among the
    k best of its length.
    """
    batch, size = tf.shape(state)[0], state.shape[-1]
    state, previous = tf.repeat(state, k, axis=0), tf.fill([batch * k], pad)
    none = tf.fill([batch, k], -float("inf"))
    total = tf.concat([tf.zeros([batch, 1]), none[:, 1:]], axis=1)  # one beginning: the empty one
    begun = tf.zeros([batch, k, 0], tf.int32)
    ended, ended_total = tf.fill([batch, k, length], pad), none
    for position in range(length):
        probabilities, state = step(state, previous)
        alphabet = probabilities.shape[-1]
        following = tf.expand_dims(total, 2) + tf.reshape(tf.math.log(probabilities), [batch, k, alphabet])
        whole = tf.pad(begun, [[0, 0], [0, 0], [0, length - position]], constant_values=pad)
        ended, ended_total = _best(k, ended, ended_total, whole, following[:, :, pad])

        going_on = tf.where(tf.range(alphabet) == pad, -float("inf"), following)
        total, chosen = tf.math.top_k(tf.reshape(going_on, [batch, k * alphabet]), k)
        beginning, character = chosen // alphabet, chosen % alphabet
        begun = tf.gather(begun, beginning, batch_dims=1)
        begun = tf.concat([begun, tf.expand_dims(character, 2)], axis=2)
        state = tf.reshape(tf.gather(tf.reshape(state, [batch, k, size]), beginning, batch_dims=1), [batch * k, size])
        previous = tf.reshape(character, [-1])
    return _best(k, ended, ended_total, begun, total)


def _best(k: tf.Tensor, one: tf.Tensor, one_total: tf.Tensor, other: tf.Tensor, other_total: tf.Tensor) -> Best:
    """The k best of two sets: characters int32 [B, k, length] and log-probabilities float32 [B, k] each."""
    total, chosen = tf.math.top_k(tf.concat([one_total, other_total], axis=1), k)
    return tf.gather(tf.concat([one, other], axis=1), chosen, batch_dims=1), total
