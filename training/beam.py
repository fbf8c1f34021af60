"""The k best answers."""

from collections.abc import Callable

import tensorflow as tf

Best = tuple[tf.Tensor, tf.Tensor]
Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def k_best(step: Step, state: tf.Tensor, k: tf.Tensor, length: int, pad: int) -> Best:
    """Beam search of width k: an answer that ends leaves the beam (Sutskever et al. 2014, section 3.2).

    `step(state, previous)`: float32 [N, S] and int32 [N] -> probabilities [N, V] and the next state [N, S]. `pad`
    stands before the first character and ends an answer.
    State [B, S] -> characters int32 [B, k, length], all pad from the end on, and their log-probabilities float32
    [B, k], best first; minus infinity where there are fewer than k answers.

    Exact where a character does not depend on those before it: then what follows has the same probability behind every
    beginning, so that the beginning of one of the k best answers is itself among the k best of its length.
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
        following = total[:, :, tf.newaxis] + tf.reshape(tf.math.log(probabilities), [batch, k, alphabet])
        whole = tf.pad(begun, [[0, 0], [0, 0], [0, length - position]], constant_values=pad)
        ended, ended_total = _best(k, ended, ended_total, whole, following[:, :, pad])

        going_on = tf.where(tf.range(alphabet) == pad, -float("inf"), following)
        total, best = tf.math.top_k(tf.reshape(going_on, [batch, k * alphabet]), k)
        beginning, character = best // alphabet, best % alphabet
        begun = tf.gather(begun, beginning, batch_dims=1)
        begun = tf.concat([begun, character[:, :, tf.newaxis]], axis=2)
        state = tf.reshape(tf.gather(tf.reshape(state, [batch, k, size]), beginning, batch_dims=1), [batch * k, size])
        previous = tf.reshape(character, [-1])
    return _best(k, ended, ended_total, begun, total)


def _best(k: tf.Tensor, one: tf.Tensor, one_total: tf.Tensor, other: tf.Tensor, other_total: tf.Tensor) -> Best:
    """The k best of two sets: characters int32 [B, k, length] and log-probabilities float32 [B, k] each."""
    total, best = tf.math.top_k(tf.concat([one_total, other_total], axis=1), k)
    return tf.gather(tf.concat([one, other], axis=1), best, batch_dims=1), total
