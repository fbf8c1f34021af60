"""The networks, one function each, and a plain dict of them by name.

Each is there twice over the same layers: whole, as Keras trains it, and one character at a time, as it answers. Tokens
are int32, one-hot inputs and probabilities float32; B is the batch, T the length of an answer, V the alphabet.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from training import task

HIDDEN_UNITS = 128  # the tutorial's
ALPHABET_SIZE = len(task.ALPHABET)
CELLS = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}


class Network(NamedTuple):
    """One architecture.

    `build(cell)` gives the Keras network: one-hot queries [B, 7, V] -> probabilities [B, T, V]. One that feeds back
    takes the characters before, one-hot [B, T, V], as a second input (teacher forcing).
    `encode(network, tokens)`: [B, 7] -> all that the decoder needs, float32 [B, S].
    `decode_step(network, state, previous)`: [B, S] and the character before, int32 [B] (task.PAD at the start) ->
    probabilities [B, V] and the next state [B, S].
    `truth()`: the right answer to each of `task.queries()`, bytes [1,000,000].
    """

    build: Callable[[str], keras.Model]
    encode: Callable[[keras.Model, tf.Tensor], tf.Tensor]
    decode_step: Callable[[keras.Model, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    feeds_back: bool = False
    truth: Callable[[], task.Texts] = task.sums


def repeat_vector(cell: str) -> keras.Model:
    """The tutorial's second script: the context vector, repeated, is all that the decoder reads.

    From the Keras tutorial on return_sequences, RepeatVector and TimeDistributed. keras-io, examples/nlp/addition_rnn,
    is the same, but for a Dense that needs no TimeDistributed around it.
    """
    return keras.Sequential(
        [
            layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query"),
            CELLS[cell](HIDDEN_UNITS, name="encoder"),  # (B, 128): the context vector
            layers.RepeatVector(task.ANSWER_LENGTH),  # (B, 4, 128)
            CELLS[cell](HIDDEN_UNITS, return_sequences=True, name="decoder"),  # (B, 4, 128)
            layers.TimeDistributed(_characters(), name="characters"),  # (B, 4, V)
        ],
        name="repeat_vector",
    )


def _repeat_vector_encode(network: keras.Model, tokens: tf.Tensor) -> tf.Tensor:
    context, _ = _read(network, tokens)
    start = network.get_layer("decoder").cell.get_initial_state(tf.shape(tokens)[0])
    return tf.concat([context, *start], axis=-1)


def _repeat_vector_decode_step(
    network: keras.Model, state: tf.Tensor, _previous: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    context, *states = _parts(state)
    output, states = network.get_layer("decoder").cell(context, states)
    return network.get_layer("characters").layer(output), tf.concat([context, *states], axis=-1)


def simple_rnn_classifier(cell: str) -> keras.Model:
    """The tutorial's first script: one character out of the encoder's last state; here the last digit of the sum."""
    return keras.Sequential(
        [
            layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query"),
            CELLS[cell](HIDDEN_UNITS, name="encoder"),  # (B, 128)
            _characters(),  # (B, V)
            layers.Reshape((1, ALPHABET_SIZE)),  # (B, 1, V): an answer of one character
        ],
        name="simple_rnn_classifier",
    )


def _classifier_encode(network: keras.Model, tokens: tf.Tensor) -> tf.Tensor:
    return _read(network, tokens)[0]


def _classifier_decode_step(
    network: keras.Model, state: tf.Tensor, _previous: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    return network.get_layer("characters")(state), state


def cho2014(_cell: str) -> keras.Model:
    """The context vector goes to the decoder's start, and with the character before to its every step.

    Cho et al. 2014, arXiv 1406.1078, section 2.2 and appendix: the start is a tanh layer of the context; a character
    comes out of state, context and character before. Left out are their tanh layer between the encoder's last state and
    the context, and their maxout layer before the softmax.
    """
    query = layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query")
    previous = layers.Input((task.ANSWER_LENGTH, ALPHABET_SIZE), name="previous")
    context = layers.GRU(HIDDEN_UNITS, reset_after=False, name="encoder")(query)  # (B, 128)
    start = layers.Dense(HIDDEN_UNITS, activation="tanh", name="start")(context)
    read = layers.Concatenate()([previous, layers.RepeatVector(task.ANSWER_LENGTH)(context)])  # (B, 4, V + 128)
    decoder = layers.GRU(HIDDEN_UNITS, reset_after=False, return_sequences=True, name="decoder")
    states = decoder(read, initial_state=start)  # (B, 4, 128)
    characters = layers.TimeDistributed(_characters(), name="characters")(layers.Concatenate()([states, read]))
    return keras.Model([query, previous], characters, name="cho2014")


def _cho_encode(network: keras.Model, tokens: tf.Tensor) -> tf.Tensor:
    context, _ = _read(network, tokens)
    return tf.concat([context, network.get_layer("start")(context)], axis=-1)


def _cho_decode_step(network: keras.Model, state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    context, *states = _parts(state)
    read = tf.concat([tf.one_hot(previous, ALPHABET_SIZE), context], axis=-1)
    output, states = network.get_layer("decoder").cell(read, states)
    probabilities = network.get_layer("characters").layer(tf.concat([output, read], axis=-1))
    return probabilities, tf.concat([context, *states], axis=-1)


def sutskever2014(_cell: str) -> keras.Model:
    """The encoder's last state starts a decoder that reads the character before.

    Sutskever et al. 2014, arXiv 1409.3215, section 2: the query is reversed, and one symbol, here the pad, both starts
    and ends an answer. One layer, where they have four.
    """
    query = layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query")
    previous = layers.Input((task.ANSWER_LENGTH, ALPHABET_SIZE), name="previous")
    _, *state = layers.LSTM(HIDDEN_UNITS, return_state=True, name="encoder")(query)  # (B, 128) twice
    decoder = layers.LSTM(HIDDEN_UNITS, return_sequences=True, name="decoder")
    states = decoder(previous, initial_state=state)  # (B, 4, 128)
    characters = layers.TimeDistributed(_characters(), name="characters")(states)
    return keras.Model([query, previous], characters, name="sutskever2014")


def _sutskever_encode(network: keras.Model, tokens: tf.Tensor) -> tf.Tensor:
    return tf.concat(_read(network, tokens)[1], axis=-1)


def _sutskever_decode_step(network: keras.Model, state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    output, states = network.get_layer("decoder").cell(tf.one_hot(previous, ALPHABET_SIZE), _parts(state))
    return network.get_layer("characters").layer(output), tf.concat(states, axis=-1)


NETWORKS = {
    "repeat_vector": Network(repeat_vector, _repeat_vector_encode, _repeat_vector_decode_step),
    "simple_rnn_classifier": Network(
        simple_rnn_classifier, _classifier_encode, _classifier_decode_step, truth=task.last_digits
    ),
    "cho2014": Network(cho2014, _cho_encode, _cho_decode_step, feeds_back=True),
    "sutskever2014": Network(sutskever2014, _sutskever_encode, _sutskever_decode_step, feeds_back=True),
}


def _characters() -> keras.Layer:
    return layers.Dense(ALPHABET_SIZE, activation="softmax", name="characters")


def _read(network: keras.Model, tokens: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The encoder's last output and state, [B, 128] each; unrolled."""
    cell = network.get_layer("encoder").cell
    characters = tf.one_hot(tokens, ALPHABET_SIZE)
    states = cell.get_initial_state(tf.shape(tokens)[0])
    for position in range(task.QUERY_LENGTH):
        output, states = cell(characters[:, position], states)
    return output, states


def _parts(state: tf.Tensor) -> list[tf.Tensor]:
    """[B, S] -> [B, 128] each."""
    return list(tf.split(state, state.shape[-1] // HIDDEN_UNITS, axis=-1))
