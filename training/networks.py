"""The architectures: a function that builds each one, and a table of them by name.

Each architecture has two forms over the same layers: the Keras network, which is trained, and `encode` with
`decode_step`, which answer one character at a time. Tokens are int32, one-hot inputs and probabilities float32. B is
the batch, T the length of an answer, V the alphabet, G the gates of a cell (see cells.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from training import cells, task
from training.cells import States
from training.recipe import HIDDEN_UNITS

ALPHABET_SIZE = len(task.ALPHABET)
RECURRENT_LAYERS = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}


class Architecture(NamedTuple):
    """An architecture in its two forms, and its task.

    `build(cell)` returns the Keras network: one-hot queries [B, 7, V] -> probabilities [B, T, V]. An autoregressive
    network has a second input for teacher forcing: the previous characters, one-hot [B, T, V].
    `encode(network, tokens)`: tokens [B, 7] -> the decoder's states; the first is not None.
    `decode_step(network, states, previous)`: the states, and the previous character, int32 [B] (task.PAD at the start)
    -> probabilities [B, V] and the next states.
    `targets()` returns the correct answer to each of `task.queries()`, bytes [1,000,000].
    """

    build: Callable[[str], keras.Model]
    encode: Callable[[keras.Model, tf.Tensor], States]
    decode_step: Callable[[keras.Model, States, tf.Tensor], tuple[tf.Tensor, States]]
    autoregressive: bool = False
    targets: Callable[[], task.Texts] = task.sums


def repeat_vector(cell: str) -> keras.Model:
    """Encoder-decoder whose decoder reads the context vector, the same at every step.

    Source: the second script of the Keras tutorial on return_sequences, RepeatVector and TimeDistributed. The example
    examples/nlp/addition_rnn of keras-io is the same architecture without the TimeDistributed wrapper, which a Dense
    layer does not need.
    """
    return keras.Sequential(
        [
            layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query"),  # (B, 7, V)
            RECURRENT_LAYERS[cell](HIDDEN_UNITS, name="encoder"),  # (B, 128): the context vector
            layers.RepeatVector(task.ANSWER_LENGTH),  # (B, 4, 128)
            RECURRENT_LAYERS[cell](HIDDEN_UNITS, return_sequences=True, name="decoder"),  # (B, 4, 128)
            layers.TimeDistributed(_output_layer(), name="characters"),  # (B, 4, V)
        ],
        name="repeat_vector",
    )


def _repeat_vector_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    context, _ = _run_encoder(network, tokens)
    cell = network.get_layer("decoder").cell
    return [context @ cell.kernel + cells.input_bias(cell), *cells.initial_states(cell)]


def _repeat_vector_decode_step(network: keras.Model, states: States, _previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    input_projection, *states = states
    output, states = cells.step(network.get_layer("decoder").cell, input_projection, states)
    return network.get_layer("characters").layer(output), [input_projection, *states]


def simple_rnn_classifier(cell: str) -> keras.Model:
    """Encoder with one output character, computed from its last state. Here the character is the last digit of the sum.

    Source: the first script of the Keras tutorial on return_sequences, RepeatVector and TimeDistributed.
    """
    return keras.Sequential(
        [
            layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query"),  # (B, 7, V)
            RECURRENT_LAYERS[cell](HIDDEN_UNITS, name="encoder"),  # (B, 128)
            _output_layer(),  # (B, V)
            layers.Reshape((1, ALPHABET_SIZE)),  # (B, 1, V): an answer of one character
        ],
        name="simple_rnn_classifier",
    )


def _classifier_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    return [_run_encoder(network, tokens)[0]]


def _classifier_decode_step(network: keras.Model, states: States, _previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    return network.get_layer("characters")(states[0]), states


def cho2014(_cell: str) -> keras.Model:
    """GRU encoder-decoder whose decoder starts from the context vector, and reads it with the previous character at
    every step.

    Source: Cho et al. 2014, arXiv 1406.1078, section 2.2 and appendix. A tanh layer of the context vector gives the
    decoder's initial state. Each character is computed from the decoder's state, the context vector and the previous
    character. Two layers of the paper are left out: the tanh layer between the encoder's last state and the context
    vector, and the maxout layer before the softmax.
    """
    query = layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query")  # (B, 7, V)
    previous = layers.Input((task.ANSWER_LENGTH, ALPHABET_SIZE), name="previous")  # (B, 4, V)
    context = layers.GRU(HIDDEN_UNITS, reset_after=False, name="encoder")(query)  # (B, 128)
    start = layers.Dense(HIDDEN_UNITS, activation="tanh", name="start")(context)  # (B, 128)
    repeated = layers.RepeatVector(task.ANSWER_LENGTH)(context)  # (B, 4, 128)
    inputs = layers.Concatenate()([previous, repeated])  # (B, 4, V + 128)
    decoder = layers.GRU(HIDDEN_UNITS, reset_after=False, return_sequences=True, name="decoder")
    states = decoder(inputs, initial_state=start)  # (B, 4, 128)
    features = layers.Concatenate()([states, inputs])  # (B, 4, 128 + V + 128)
    characters = layers.TimeDistributed(_output_layer(), name="characters")(features)  # (B, 4, V)
    return keras.Model([query, previous], characters, name="cho2014")


def _cho_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    context, _ = _run_encoder(network, tokens)
    cell, characters = network.get_layer("decoder").cell, network.get_layer("characters").layer
    return [
        context @ cell.kernel[ALPHABET_SIZE:] + cells.input_bias(cell),
        context @ characters.kernel[HIDDEN_UNITS + ALPHABET_SIZE :] + characters.bias,
        network.get_layer("start")(context),
    ]


def _cho_decode_step(network: keras.Model, states: States, previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    context_projection, context_logits, *states = states
    cell, characters = network.get_layer("decoder").cell, network.get_layer("characters").layer
    input_projection = context_projection + tf.gather(cell.kernel[:ALPHABET_SIZE], previous)
    output, states = cells.step(cell, input_projection, states)
    output_kernel, previous_kernel, _ = tf.split(
        tf.convert_to_tensor(characters.kernel), [HIDDEN_UNITS, ALPHABET_SIZE, HIDDEN_UNITS]
    )
    logits = context_logits + output @ output_kernel + tf.gather(previous_kernel, previous)  # (B, V)
    return tf.nn.softmax(logits), [context_projection, context_logits, *states]


def sutskever2014(_cell: str) -> keras.Model:
    """LSTM encoder-decoder whose decoder starts from the encoder's last state, and reads the previous character.

    Source: Sutskever et al. 2014, arXiv 1409.3215, section 2. The query is reversed, and one symbol, here the pad, both
    starts and ends an answer. The paper has four layers of LSTM, this network one.
    """
    query = layers.Input((task.QUERY_LENGTH, ALPHABET_SIZE), name="query")  # (B, 7, V)
    previous = layers.Input((task.ANSWER_LENGTH, ALPHABET_SIZE), name="previous")  # (B, 4, V)
    _, *state = layers.LSTM(HIDDEN_UNITS, return_state=True, name="encoder")(query)  # (B, 128) twice
    decoder = layers.LSTM(HIDDEN_UNITS, return_sequences=True, name="decoder")
    states = decoder(previous, initial_state=state)  # (B, 4, 128)
    characters = layers.TimeDistributed(_output_layer(), name="characters")(states)  # (B, 4, V)
    return keras.Model([query, previous], characters, name="sutskever2014")


def _sutskever_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    return _run_encoder(network, tokens)[1]


def _sutskever_decode_step(network: keras.Model, states: States, previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    cell = network.get_layer("decoder").cell
    output, states = cells.step(cell, tf.gather(cell.kernel + cells.input_bias(cell), previous), states)
    return network.get_layer("characters").layer(output), states


ARCHITECTURES = {
    "repeat_vector": Architecture(repeat_vector, _repeat_vector_encode, _repeat_vector_decode_step),
    "simple_rnn_classifier": Architecture(
        simple_rnn_classifier, _classifier_encode, _classifier_decode_step, targets=task.last_digits
    ),
    "cho2014": Architecture(cho2014, _cho_encode, _cho_decode_step, autoregressive=True),
    "sutskever2014": Architecture(sutskever2014, _sutskever_encode, _sutskever_decode_step, autoregressive=True),
}


def _output_layer() -> keras.Layer:
    return layers.Dense(ALPHABET_SIZE, activation="softmax", name="characters")


def _run_encoder(network: keras.Model, tokens: tf.Tensor) -> tuple[tf.Tensor, States]:
    """Tokens [B, 7] -> the encoder's last output and states, float32 [B, 128] each. The loop is unrolled."""
    cell = network.get_layer("encoder").cell
    projections = cell.kernel + cells.input_bias(cell)  # (V, G): the input projection of each character
    states = cells.initial_states(cell)
    for token in tf.unstack(tokens, axis=1):
        output, states = cells.step(cell, tf.gather(projections, token), states)
    return output, states
