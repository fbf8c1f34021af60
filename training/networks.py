"""The networks, one function each, and a plain dict of them by name."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from training import task

HIDDEN_UNITS = 128  # the tutorial's


def repeat_vector() -> keras.Sequential:
    """The tutorial's encoder-decoder: float32 one-hot [B, 7, 12] -> probabilities float32 [B, 4, 12].

    From the Keras tutorial on return_sequences, RepeatVector and TimeDistributed. keras-io, examples/nlp/addition_rnn,
    is the same, but for a Dense that needs no TimeDistributed around it.
    """
    return keras.Sequential(
        [
            layers.Input((task.QUERY_LENGTH, len(task.ALPHABET))),
            layers.LSTM(HIDDEN_UNITS, name="encoder"),  # (B, 128): the context vector
            layers.RepeatVector(task.ANSWER_LENGTH),  # (B, 4, 128)
            layers.LSTM(HIDDEN_UNITS, return_sequences=True, name="decoder"),  # (B, 4, 128)
            layers.TimeDistributed(layers.Dense(len(task.ALPHABET), activation="softmax"), name="characters"),
        ],
        name="repeat_vector",
    )


NETWORKS: dict[str, Callable[[], keras.Sequential]] = {"repeat_vector": repeat_vector}


def encode(network: keras.Model, tokens: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [B, 7] -> all that the decoder needs, float32 [B, S]: the context vector and the decoder's state."""
    cell = network.get_layer("encoder").cell
    characters = tf.one_hot(tokens, len(task.ALPHABET))
    states = cell.get_initial_state(tf.shape(tokens)[0])
    for position in range(task.QUERY_LENGTH):
        context, states = cell(characters[:, position], states)
    start = network.get_layer("decoder").cell.get_initial_state(tf.shape(tokens)[0])
    return tf.concat([context, *start], axis=-1)


def decode_step(network: keras.Model, state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """State float32 [B, S], the character before int32 [B] -> probabilities float32 [B, V], state float32 [B, S].

    This decoder reads the context vector at every step and never the character before: `previous` changes nothing.
    """
    del previous
    cell = network.get_layer("decoder").cell
    context, *states = tf.split(state, [HIDDEN_UNITS] * (state.shape[-1] // HIDDEN_UNITS), axis=-1)
    output, states = cell(context, states)
    return network.get_layer("characters").layer(output), tf.concat([context, *states], axis=-1)
