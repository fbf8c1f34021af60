"""Decoding: the answer, or the k best answers, from a network that is run one character at a time.

B is the batch, N the sequences decoded together, V the alphabet, S the decoder state.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Hypotheses = tuple[tf.Tensor, tf.Tensor]  # characters int32 [B, k, length], log-probabilities float32 [B, k]
Step = Callable[[Any, tf.Tensor], tuple[tf.Tensor, Any]]  # state, previous [N] -> probabilities [N, V], next state


def greedy(step: Step, state: Any, length: int, pad: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Choose the most probable character at each step.

    `state`: a tensor [B, S], or a list of tensors or Nones whose first element is a tensor [B, ·]. `pad` is the
    character before the first one, and the end of an answer.

    Returns the characters, int32 [B, length], with `pad` from the end of the answer on; the probabilities, float32
    [B, length, V]; and the confidence, float32 [B]: the product of the probabilities of the answer's characters, and
    of its end if the answer is shorter than `length`.
    """
    batch = tf.shape(tf.nest.flatten(state)[0])[:1]
    previous, unfinished, confidence = tf.fill(batch, pad), tf.fill(batch, True), tf.fill(batch, 1.0)  # (B,) each
    steps, characters = [], []
    for _ in range(length):
        probabilities, state = step(state, previous)  # (B, V)
        previous = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        steps.append(probabilities)
        characters.append(tf.where(unfinished, previous, pad))
        confidence = tf.where(unfinished, confidence * tf.reduce_max(probabilities, axis=-1), confidence)
        unfinished &= previous != pad
    return tf.stack(characters, axis=1), tf.stack(steps, axis=1), confidence


def k_best(step: Step, state: tf.Tensor, k: tf.Tensor, length: int, pad: int) -> Hypotheses:
    """Find the k most probable answers by beam search of width k; a finished answer leaves the beam.

    Source: Sutskever et al. 2014, arXiv 1409.3215, section 3.2. `state`: float32 [B, S]. `k`: int32 scalar, at least 1.
    `pad` is the character before the first one, and the end of an answer.

    Returns the characters, int32 [B, k, length], with `pad` from the end of each answer on, and the log-probabilities,
    float32 [B, k], in descending order. If fewer than k answers exist, the rest have minus infinity and arbitrary
    characters.

    The result is exact, except for the order of equally probable answers, if the probabilities of a character do not
    depend on the characters before it: then every prefix of one of the k best answers is among the k best prefixes.
    """
    batch, size = tf.shape(state)[0], state.shape[-1]
    state, previous = tf.repeat(state, k, axis=0), tf.fill([batch * k], pad)  # (B k, S), (B k,)
    impossible = tf.fill([batch, k], -float("inf"))
    scores = tf.concat([tf.zeros([batch, 1]), impossible[:, 1:]], axis=1)  # (B, k); at first only the empty prefix
    prefixes = tf.zeros([batch, k, 0], tf.int32)  # (B, k, position)
    finished, finished_scores = tf.fill([batch, k, length], pad), impossible
    for position in range(length):
        probabilities, state = step(state, previous)
        alphabet = probabilities.shape[-1]
        log_probabilities = tf.reshape(tf.math.log(probabilities), [batch, k, alphabet])
        extended = tf.expand_dims(scores, 2) + log_probabilities  # (B, k, V)
        ended = tf.pad(prefixes, [[0, 0], [0, 0], [0, length - position]], constant_values=pad)  # (B, k, length)
        finished, finished_scores = _best(k, finished, finished_scores, ended, extended[:, :, pad])

        unfinished = tf.where(tf.range(alphabet) == pad, -float("inf"), extended)
        scores, chosen = tf.math.top_k(tf.reshape(unfinished, [batch, k * alphabet]), k)
        prefix, character = chosen // alphabet, chosen % alphabet  # (B, k) each
        prefixes = tf.gather(prefixes, prefix, batch_dims=1)
        prefixes = tf.concat([prefixes, tf.expand_dims(character, 2)], axis=2)
        state = tf.reshape(tf.gather(tf.reshape(state, [batch, k, size]), prefix, batch_dims=1), [batch * k, size])
        previous = tf.reshape(character, [-1])
    return _best(k, finished, finished_scores, prefixes, scores)


def _best(k: tf.Tensor, one: tf.Tensor, one_scores: tf.Tensor, other: tf.Tensor, other_scores: tf.Tensor) -> Hypotheses:
    """Merge two sets of k hypotheses, int32 [B, k, length] and float32 [B, k] each, and keep the k best."""
    scores, chosen = tf.math.top_k(tf.concat([one_scores, other_scores], axis=1), k)
    return tf.gather(tf.concat([one, other], axis=1), chosen, batch_dims=1), scores
