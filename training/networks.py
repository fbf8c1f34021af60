"""The networks, one function each, and a plain dict of them by name."""

from collections.abc import Callable

import keras
from keras import layers

from training import task

HIDDEN_UNITS = 128


def repeat_vector() -> keras.Sequential:
    """The tutorial's encoder-decoder: float32 one-hot [B, 7, 12] -> probabilities float32 [B, 4, 12].

    From the Keras tutorial on return_sequences, RepeatVector and TimeDistributed (keras-io, examples/nlp/addition_rnn).
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
