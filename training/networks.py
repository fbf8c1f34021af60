"""The architectures: a function that builds each one, and a table of them by name.

Each architecture has two forms over the same layers: the Keras network, which is trained, and `encode` with
`decode_step`, which answer one character at a time. Tokens are int32, one-hot inputs and probabilities float32. B is
the batch, Q the length of a query, T the length of an answer, V the alphabet, H the hidden units, G the gates of a cell
(see cells.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from training import TrainingError, cells
from training.cells import States
from training.tasks import Task

RECURRENT_LAYERS = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}


Encode = Callable[[keras.Model, tf.Tensor], States]
DecodeStep = Callable[[keras.Model, States, tf.Tensor], tuple[tf.Tensor, States]]


class Architecture(NamedTuple):
    """An architecture in its two forms.

    `build(task, cell, units)` returns the Keras network: one-hot queries [B, Q, V] -> probabilities [B, T, V]. An
    autoregressive network has a second input for teacher forcing: the previous characters, one-hot [B, T, V]. Raises
    TrainingError if the network cannot learn the task.
    `encode(network, tokens)`: tokens [B, Q] -> the decoder's states; the first is not None.
    `decode_step(network, states, previous)`: the states, and the previous character, int32 [B] (the end at the start)
    -> probabilities [B, V] and the next states.
    """

    build: Callable[[Task, str, int], keras.Model]
    encode: Encode
    decode_step: DecodeStep
    autoregressive: bool = False


def repeat_vector(task: Task, cell: str, units: int) -> keras.Model:
    """Encoder-decoder whose decoder reads the context vector, the same at every step.

    Source: the second script of the Keras tutorial on return_sequences, RepeatVector and TimeDistributed. The example
    examples/nlp/addition_rnn of keras-io is the same architecture without the TimeDistributed wrapper, which a Dense
    layer does not need.
    """
    return keras.Sequential(
        [
            _query_input(task),  # (B, Q, V)
            RECURRENT_LAYERS[cell](units, name="encoder"),  # (B, H): the context vector
            layers.RepeatVector(task.answer_length),  # (B, T, H)
            RECURRENT_LAYERS[cell](units, return_sequences=True, name="decoder"),  # (B, T, H)
            layers.TimeDistributed(_output_layer(task), name="characters"),  # (B, T, V)
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


def simple_rnn_classifier(task: Task, cell: str, units: int) -> keras.Model:
    """Encoder with one output character, computed from its last state.

    Source: the first script of the Keras tutorial on return_sequences, RepeatVector and TimeDistributed.
    """
    if task.answer_length != 1:
        raise TrainingError(
            f"simple_rnn_classifier answers with one character, and the task {task.name} has answers of up to "
            f"{task.answer_length}: choose another network or task"
        )
    return keras.Sequential(
        [
            _query_input(task),  # (B, Q, V)
            RECURRENT_LAYERS[cell](units, name="encoder"),  # (B, H)
            _output_layer(task),  # (B, V)
            layers.Reshape((1, len(task.alphabet))),  # (B, 1, V): an answer of one character
        ],
        name="simple_rnn_classifier",
    )


def _classifier_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    return [_run_encoder(network, tokens)[0]]


def _classifier_decode_step(network: keras.Model, states: States, _previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    return network.get_layer("characters")(states[0]), states


def cho2014(task: Task, _cell: str, units: int) -> keras.Model:
    """GRU encoder-decoder whose decoder starts from the context vector, and reads it with the previous character at
    every step.

    Source: Cho et al. 2014, arXiv 1406.1078, section 2.2 and appendix. A tanh layer of the context vector gives the
    decoder's initial state. Each character is computed from the decoder's state, the context vector and the previous
    character. Two layers of the paper are left out: the tanh layer between the encoder's last state and the context
    vector, and the maxout layer before the softmax.
    """
    query = _query_input(task)  # (B, Q, V)
    previous = layers.Input((task.answer_length, len(task.alphabet)), name="previous")  # (B, T, V)
    context = layers.GRU(units, reset_after=False, name="encoder")(query)  # (B, H)
    start = layers.Dense(units, activation="tanh", name="start")(context)  # (B, H)
    repeated = layers.RepeatVector(task.answer_length)(context)  # (B, T, H)
    inputs = layers.Concatenate()([previous, repeated])  # (B, T, V + H)
    decoder = layers.GRU(units, reset_after=False, return_sequences=True, name="decoder")
    states = decoder(inputs, initial_state=start)  # (B, T, H)
    features = layers.Concatenate()([states, inputs])  # (B, T, H + V + H)
    characters = layers.TimeDistributed(_output_layer(task), name="characters")(features)  # (B, T, V)
    return keras.Model([query, previous], characters, name="cho2014")


def _cho_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    context, _ = _run_encoder(network, tokens)
    cell, characters = network.get_layer("decoder").cell, network.get_layer("characters").layer
    alphabet_size, units = characters.units, cell.units
    return [
        context @ cell.kernel[alphabet_size:] + cells.input_bias(cell),
        context @ characters.kernel[units + alphabet_size :] + characters.bias,
        network.get_layer("start")(context),
    ]


def _cho_decode_step(network: keras.Model, states: States, previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    context_projection, context_logits, *states = states
    cell, characters = network.get_layer("decoder").cell, network.get_layer("characters").layer
    alphabet_size, units = characters.units, cell.units
    input_projection = context_projection + tf.gather(cell.kernel[:alphabet_size], previous)
    output, states = cells.step(cell, input_projection, states)
    output_kernel, previous_kernel, _ = tf.split(tf.convert_to_tensor(characters.kernel), [units, alphabet_size, units])
    logits = context_logits + output @ output_kernel + tf.gather(previous_kernel, previous)  # (B, V)
    return tf.nn.softmax(logits), [context_projection, context_logits, *states]


def sutskever2014(task: Task, _cell: str, units: int) -> keras.Model:
    """LSTM encoder-decoder whose decoder starts from the encoder's last state, and reads the previous character.

    Source: Sutskever et al. 2014, arXiv 1409.3215, section 2. The query is reversed, and one symbol, here the pad, both
    starts and ends an answer. The paper has four layers of LSTM, this network one.
    """
    query = _query_input(task)  # (B, Q, V)
    previous = layers.Input((task.answer_length, len(task.alphabet)), name="previous")  # (B, T, V)
    _, *state = layers.LSTM(units, return_state=True, name="encoder")(query)  # (B, H) twice
    decoder = layers.LSTM(units, return_sequences=True, name="decoder")
    states = decoder(previous, initial_state=state)  # (B, T, H)
    characters = layers.TimeDistributed(_output_layer(task), name="characters")(states)  # (B, T, V)
    return keras.Model([query, previous], characters, name="sutskever2014")


def _sutskever_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    return _run_encoder(network, tokens)[1]


def _sutskever_decode_step(network: keras.Model, states: States, previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    cell = network.get_layer("decoder").cell
    output, states = cells.step(cell, tf.gather(cell.kernel + cells.input_bias(cell), previous), states)
    return network.get_layer("characters").layer(output), states


def _whole_encode(network: keras.Model, tokens: tf.Tensor) -> States:
    """Run the whole network: the state is all probabilities that are still to be returned, [B, T V]."""
    probabilities = network(tf.one_hot(tokens, network.output_shape[-1]))
    return [tf.reshape(probabilities, [-1, network.output_shape[1] * network.output_shape[2]])]


def _whole_decode_step(network: keras.Model, states: States, _previous: tf.Tensor) -> tuple[tf.Tensor, States]:
    remaining, size = tf.convert_to_tensor(states[0]), network.output_shape[-1]
    return remaining[:, :size], [tf.concat([remaining[:, size:], remaining[:, :size]], axis=1)]


ARCHITECTURES = {
    "repeat_vector": Architecture(repeat_vector, _repeat_vector_encode, _repeat_vector_decode_step),
    "simple_rnn_classifier": Architecture(simple_rnn_classifier, _classifier_encode, _classifier_decode_step),
    "cho2014": Architecture(cho2014, _cho_encode, _cho_decode_step, autoregressive=True),
    "sutskever2014": Architecture(sutskever2014, _sutskever_encode, _sutskever_decode_step, autoregressive=True),
}

# Of a network that was built elsewhere: nothing is known but its inputs and outputs.
OTHER = "other"


def steps_of(architecture: str) -> tuple[Encode, DecodeStep]:
    """Return `encode` and `decode_step` of an architecture by its name."""
    if architecture == OTHER:
        return _whole_encode, _whole_decode_step
    return ARCHITECTURES[architecture].encode, ARCHITECTURES[architecture].decode_step


def _query_input(task: Task) -> keras.KerasTensor:
    return layers.Input((task.query_length, len(task.alphabet)), name="query")


def _output_layer(task: Task) -> keras.Layer:
    return layers.Dense(len(task.alphabet), activation="softmax", name="characters")


def _run_encoder(network: keras.Model, tokens: tf.Tensor) -> tuple[tf.Tensor, States]:
    """Tokens [B, Q] -> the encoder's last output and states, float32 [B, H] each. The loop is unrolled."""
    cell = network.get_layer("encoder").cell
    projections = cell.kernel + cells.input_bias(cell)  # (V, G): the input projection of each character
    states = cells.initial_states(cell)
    for token in tf.unstack(tokens, axis=1):
        output, states = cells.step(cell, tf.gather(projections, token), states)
    return output, states
