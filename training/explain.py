"""Explains the layers of the Keras tutorial by running them on one query: shapes, and the numbers that they give.

Source: the tutorial on return_sequences, RepeatVector and TimeDistributed, which leaves open what Dense does without
TimeDistributed. The layers are untrained and small, so that their numbers fit on a screen: H hidden units, V characters
in the alphabet, Q in a query, T in an answer.
"""

from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from training import fit
from training.tasks import find_task

UNITS = 4  # H
SEED = 1

Array = npt.NDArray[np.float32]


def explain(layer: str) -> str:
    """Explain a layer by its name in LAYERS. Returns lines of text."""
    keras.utils.set_random_seed(SEED)
    return "\n".join(LAYERS[layer]())


def _query() -> tuple[str, Array]:
    """The example of the task and its one-hot characters, float32 [1, Q, V], reversed as the networks read them."""
    task = find_task("addition")
    tokens = fit.encode(task, np.array([task.example.encode()]))
    return task.example, np.eye(len(task.alphabet), dtype=np.float32)[tokens]


def _run(layer: keras.layers.Layer, inputs: Array) -> Array:
    return np.asarray(layer(inputs))


def _encoded() -> tuple[str, Array, Array, Array]:
    """The query, its characters, their context vector float32 [1, H], and that for each step: float32 [1, T, H]."""
    query, characters = _query()
    context = _run(layers.LSTM(UNITS), characters)
    repeated = _run(layers.RepeatVector(find_task("addition").answer_length), context)
    return query, characters, context, repeated


def _return_sequences() -> list[str]:
    query, characters = _query()
    whole = layers.LSTM(UNITS, return_sequences=True)
    states = _run(whole, characters)
    last = layers.LSTM(UNITS)
    last.build(characters.shape)
    last.set_weights(whole.get_weights())
    return [
        f"{query}, reversed, one-hot {_shape(characters)}",
        "",
        f"LSTM({UNITS})                        -> {_shape(_run(last, characters))}: the output of the last step",
        *_rows(_run(last, characters), [query[0]]),
        "",
        f"LSTM({UNITS}, return_sequences=True) -> {_shape(states)}: the output of each step",
        *_rows(states[0], query[::-1]),
        "",
        "The weights are the same, and so is the last row. An encoder hands on the last output alone, its summary of",
        "the query; a decoder needs the output of each step, to write a character from each.",
    ]


def _repeat_vector() -> list[str]:
    query, characters, context, repeated = _encoded()
    length = repeated.shape[1]
    return [
        f"{query}, reversed, one-hot {_shape(characters)}",
        "",
        f"LSTM({UNITS})         -> {_shape(context)}: the context vector",
        *_rows(context, ["context"]),
        "",
        f"RepeatVector({length}) -> {_shape(repeated)}: the context vector at each step of the answer",
        *_rows(repeated[0], [f"step {step}" for step in range(length)]),
        "",
        "The rows are equal: RepeatVector has no weights, and copies. The decoder is a recurrent layer, and reads a",
        "sequence: this makes one, as long as the answer, of the one vector that the encoder gives.",
    ]


def _time_distributed() -> list[str]:
    query, _, _, repeated = _encoded()
    sequence = _run(layers.LSTM(UNITS, return_sequences=True), repeated)  # what a decoder gives: (1, T, H)
    (_, length, units), size = sequence.shape, 3
    steps = [f"step {step}" for step in range(length)]
    dense, full = layers.Dense(size), layers.Dense(length * size)

    def connected(inputs: Array) -> Array:
        return _run(full, _run(layers.Flatten(), inputs)).reshape(1, length, size)

    alone = _run(dense, sequence)
    distributed = _run(layers.TimeDistributed(dense), sequence)  # the same layer, and so the same weights
    difference = np.abs(alone - distributed).max()
    changed = sequence.copy()
    changed[0, 0] += 1  # the first step alone
    by_dense = _steps_that_differ(alone, _run(dense, changed))
    by_full = _steps_that_differ(connected(sequence), connected(changed))
    return [
        f"the decoder's output for {query}                {_shape(sequence)}",
        "",
        f"Dense({size})                                    -> {_shape(alone)}, {_weights(dense)}",
        *_rows(alone[0], steps),
        "",
        f"TimeDistributed(Dense({size})), the same weights -> {_shape(distributed)}, {_weights(dense)}",
        *_rows(distributed[0], steps),
        "",
        f"The greatest difference is {difference:.1e}: rounding. Dense multiplies the last axis alone with its",
        f"weights, [{units}, {size}], whatever stands before that axis. On a sequence it does at each step what",
        "TimeDistributed says.",
        "",
        f"Flatten, Dense({length * size})                          -> {_shape(connected(sequence))}, {_weights(full)}",
        "This would connect each step with each. If the first step of the decoder changes alone, the outputs of Dense",
        f"change at {by_dense} of {length} steps, and those of the full connection at {by_full} of {length}.",
    ]


LAYERS: dict[str, Callable[[], list[str]]] = {
    "return_sequences": _return_sequences,
    "repeat_vector": _repeat_vector,
    "time_distributed": _time_distributed,
}


def _shape(array: Array) -> str:
    return str(list(array.shape))


def _rows(rows: Array, names: str | list[str]) -> list[str]:
    """A line for each row, with its name."""
    width = max(map(len, names))
    return [
        f"  {name:<{width}}  " + "  ".join(f"{value:6.3f}" for value in row)
        for name, row in zip(names, rows, strict=True)
    ]


def _weights(layer: keras.layers.Layer) -> str:
    return f"{layer.count_params()} weights"


def _steps_that_differ(before: Array, after: Array) -> int:
    """The number of steps, of [1, T, ...], whose outputs differ."""
    return int((np.abs(before - after).max(-1) > 0).sum())
