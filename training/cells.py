"""One step of Keras's recurrent cells, in two parts: what the input adds, and what the state makes of it.

The sum is Keras's own (its implementation 2), in the order that leaves least to compute when a query is answered: a
one-hot input looks up a row of the kernel, what is read again at every step is multiplied once, and a state of zeros is
not multiplied at all.
"""

import keras
import tensorflow as tf
from keras import layers

States = list[tf.Tensor | None]  # float32 [B, ·] each; None is zeros


def zeros(cell: keras.Layer) -> States:
    """The states that the cell starts with."""
    return [None] * len(tf.nest.flatten(cell.state_size))


def input_bias(cell: keras.Layer) -> tf.Tensor:
    """What is added to the product of the input and the cell's kernel: [G]. A GRU may have a second bias, which is the
    state's."""
    bias = tf.convert_to_tensor(cell.bias)
    return bias if bias.shape.rank == 1 else bias[0]


def step(cell: keras.Layer, read: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    """`read`: the input times the kernel, and the input's bias, [B, G] -> the output [B, H] and the next states."""
    return STEPS[type(cell)](cell, read, states)


def _lstm(cell: keras.Layer, read: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    hidden, carry = states
    gates = read if hidden is None else read + hidden @ cell.recurrent_kernel
    written, kept, candidate, shown = tf.split(gates, 4, axis=-1)
    next_carry = tf.sigmoid(written) * tf.tanh(candidate)
    if carry is not None:
        next_carry += tf.sigmoid(kept) * carry
    output = tf.sigmoid(shown) * tf.tanh(next_carry)
    return output, [output, next_carry]


def _gru(cell: keras.Layer, read: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    units = cell.units
    hidden = tf.zeros_like(read[:, :units]) if states[0] is None else states[0]
    gates, candidate = tf.split(read, [2 * units, units], axis=-1)
    kernel, candidate_kernel = tf.split(tf.convert_to_tensor(cell.recurrent_kernel), [2 * units, units], axis=-1)
    bias = tf.zeros(3 * units) if not cell.reset_after else tf.convert_to_tensor(cell.bias)[1]
    update, reset = tf.split(tf.sigmoid(gates + hidden @ kernel + bias[: 2 * units]), 2, axis=-1)
    if cell.reset_after:
        recalled = reset * (hidden @ candidate_kernel + bias[2 * units :])
    else:
        recalled = (reset * hidden) @ candidate_kernel
    output = update * hidden + (1 - update) * tf.tanh(candidate + recalled)
    return output, [output]


def _simple_rnn(cell: keras.Layer, read: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
    [hidden] = states
    output = tf.tanh(read if hidden is None else read + hidden @ cell.recurrent_kernel)
    return output, [output]


STEPS = {layers.LSTMCell: _lstm, layers.GRUCell: _gru, layers.SimpleRNNCell: _simple_rnn}
