"""One time step of Keras's recurrent cells, with the product of input and kernel computed by the caller.

The arithmetic is that of Keras's implementation 2. It is split because inference can skip most of the input product: a
one-hot input selects a row of the kernel, an input that is the same at every step is multiplied once, and an initial
state of zeros is not multiplied. B is the batch, H the hidden units, G the gates together (4 H for an LSTM, 3 H for a
GRU, H for a SimpleRNN).
"""

import keras
import tensorflow as tf
from keras import layers

States = list[tf.Tensor | None]  # float32 [B, ·] each; None means zeros


def initial_states(cell: keras.Layer) -> States:
    """Return the cell's initial states, all zeros."""
    return [None] * len(tf.nest.flatten(cell.state_size))


def input_bias(cell: keras.Layer) -> tf.Tensor:
    """Return the bias of the input projection: float32 [G]. A GRU with `reset_after` has a second, recurrent bias."""
    bias = tf.convert_to_tensor(cell.bias)
    return bias if bias.shape.rank == 1 else bias[0]


def step(cell: keras.Layer, input_projection: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    """Compute one time step.

    `input_projection`: input times kernel plus `input_bias`, float32 [B, G]. Returns the output, float32 [B, H], and
    the next states.
    """
    return STEPS[type(cell)](cell, input_projection, states)


def _lstm(cell: keras.Layer, input_projection: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    hidden, carry = states
    gates = input_projection if hidden is None else input_projection + hidden @ cell.recurrent_kernel  # (B, 4 H)
    input_gate, forget_gate, candidate, output_gate = tf.split(gates, 4, axis=-1)  # (B, H) each
    next_carry = tf.sigmoid(input_gate) * tf.tanh(candidate)
    if carry is not None:
        next_carry += tf.sigmoid(forget_gate) * carry
    output = tf.sigmoid(output_gate) * tf.tanh(next_carry)
    return output, [output, next_carry]


def _gru(cell: keras.Layer, input_projection: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    units = cell.units
    hidden = tf.zeros_like(input_projection[:, :units]) if states[0] is None else states[0]
    gates, candidate = tf.split(input_projection, [2 * units, units], axis=-1)  # (B, 2 H), (B, H)
    kernel, candidate_kernel = tf.split(tf.convert_to_tensor(cell.recurrent_kernel), [2 * units, units], axis=-1)
    bias = tf.zeros(3 * units) if not cell.reset_after else tf.convert_to_tensor(cell.bias)[1]
    update_gate, reset_gate = tf.split(tf.sigmoid(gates + hidden @ kernel + bias[: 2 * units]), 2, axis=-1)
    if cell.reset_after:
        recurrent_candidate = reset_gate * (hidden @ candidate_kernel + bias[2 * units :])
    else:
        recurrent_candidate = (reset_gate * hidden) @ candidate_kernel
    output = update_gate * hidden + (1 - update_gate) * tf.tanh(candidate + recurrent_candidate)
    return output, [output]


def _simple_rnn(cell: keras.Layer, input_projection: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    [hidden] = states
    output = tf.tanh(input_projection if hidden is None else input_projection + hidden @ cell.recurrent_kernel)
    return output, [output]


STEPS = {layers.LSTMCell: _lstm, layers.GRUCell: _gru, layers.SimpleRNNCell: _simple_rnn}
