"""The networks, one function each, and a plain dict of them by name.

Each is there twice over the same layers: whole, as Keras trains it, and one character at a time, as it answers. Tokens
are int32, one-hot inputs and probabilities float32; B is the batch, T the length of an answer, V the alphabet.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from training import cells, task
from training.cells import States

HIDDEN_UNITS = 128  # the tutorial's
ALPHABET_SIZE = len(task.ALPHABET)
CELLS = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}


class Network(NamedTuple):
    """One architecture.

    `build(cell)` gives the Keras network: one-hot queries [B, 7, V] -> probabilities [B, T, V]. One that feeds back
    takes the characters before, one-hot [B, T, V], as a second input (teacher forcing).
    `encode(network, tokens)`: [B, 7] -> all that the decoder needs, of which the first is no None.
    `decode_step(network, states, previous)`: that, and the character before, int32 [B] (task.PAD at the start) ->
    probabilities [B, V] and the next states.
    `truth()`: the right answer to each of `task.queries()`, bytes [1,000,000].
    """

    build: Callable[[str], keras.Model]
    encode: Callable[[keras.Model, tf.Tensor], States]
    decode_step: Callable[[keras.Model, States, tf.Tensor], tuple[tf.Tensor, States]]
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


def _repeat_vector_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    context, _ = _read(network, tokens)
    cell = network.get_layer("decoder").cell
    return [context @ cell.kernel + cells.input_bias(cell), *cells.zeros(cell)]


def _repeat_vector_decode_step(network: keras.Model, states: States, _previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    context, *states = states
    output, states = cells.step(network.get_layer("decoder").cell, context, states)
    return network.get_layer("characters").layer(output), [context, *states]


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


def _classifier_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    return [_read(network, tokens)[0]]


def _classifier_decode_step(network: keras.Model, states: States, _previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    return network.get_layer("characters")(states[0]), states


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


def _cho_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    context, _ = _read(network, tokens)
    cell, characters = network.get_layer("decoder").cell, network.get_layer("characters").layer
    return [
        context @ cell.kernel[ALPHABET_SIZE:] + cells.input_bias(cell),
        context @ characters.kernel[HIDDEN_UNITS + ALPHABET_SIZE :] + characters.bias,
        network.get_layer("start")(context),
    ]


def _cho_decode_step(network: keras.Model, states: States, previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    to_decoder, to_characters, *states = states
    cell, characters = network.get_layer("decoder").cell, network.get_layer("characters").layer
    read = to_decoder + tf.gather(cell.kernel[:ALPHABET_SIZE], previous)
    output, states = cells.step(cell, read, states)
    of_output, of_previous, _ = tf.split(
        tf.convert_to_tensor(characters.kernel), [HIDDEN_UNITS, ALPHABET_SIZE, HIDDEN_UNITS]
    )
    logits = to_characters + output @ of_output + tf.gather(of_previous, previous)
    return tf.nn.softmax(logits), [to_decoder, to_characters, *states]


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


def _sutskever_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    return _read(network, tokens)[1]


def _sutskever_decode_step(network: keras.Model, states: States, previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    cell = network.get_layer("decoder").cell
    output, states = cells.step(cell, tf.gather(cell.kernel + cells.input_bias(cell), previous), states)
    return network.get_layer("characters").layer(output), states


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


def _read(network: keras.Model, tokens: tf.Tensor) -> tuple[tf.Tensor, States]:
    """The encoder's last output and states, [B, 128] each; unrolled."""
    cell = network.get_layer("encoder").cell
    table = cell.kernel + cells.input_bias(cell)  # (V, G)
    states = cells.zeros(cell)
    for token in tf.unstack(tokens, axis=1):
        output, states = cells.step(cell, tf.gather(table, token), states)
    return output, states
