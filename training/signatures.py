"""The signatures of a SavedModel, made from a Keras network.

B is the batch, Q the length of a query, T that of an answer, V the alphabet, S the decoder state.

| signature | inputs | outputs |
| --- | --- | --- |
| serving_default | query string [B] | answer string [B], probabilities float32 [B, T, V], confidence float32 [B] |
| encode | query string [B] | state float32 [B, S] |
| k_best | query string [B], k int32 [] | answers string [B, k], log_probabilities float32 [B, k] |
| decode_step | state float32 [B, S], previous int32 [B] | probabilities float32 [B, V], state float32 [B, S] |

`serving_bytes`, `encode_bytes` and `k_best_bytes` have queries as uint8 [B, Q] and answers as uint8 [..., T], padded on
the right with the end of an answer: LiteRT has no strings.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from training import decoding
from training.cells import States
from training.networks import OTHER, steps_of
from training.tasks import Task

Answer = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # characters [B, T], probabilities [B, T, V], confidence [B]


def signatures_of(network: keras.Model, architecture: str, task: Task, reverse_queries: bool) -> dict[str, Any]:
    """Return the concrete functions of all signatures, by name. With `reverse_queries` the network reads the padding
    first, and the first character of a query last."""
    model = TokenModel(network, architecture, task)
    # XLA compiles for each batch size when it is first called, also after the SavedModel is loaded. It may not know all
    # operations of a network that was built elsewhere.
    answer = model.answer if architecture == OTHER else tf.function(model.answer, jit_compile=True)
    text_format, byte_format = TextFormat(task, reverse_queries), ByteFormat(task, reverse_queries)
    text, padded = FormatSignatures(model, text_format, answer), FormatSignatures(model, byte_format, model.answer)
    state = tf.TensorSpec([None, sum(model.state_sizes)], tf.float32, "state")
    previous = tf.TensorSpec([None], tf.int32, "previous")
    k = tf.TensorSpec([], tf.int32, "k")
    return {
        "serving_default": _trace(text.serving, text_format.query),
        "encode": _trace(text.encode, text_format.query),
        "k_best": _trace(text.k_best, text_format.query, k),
        "serving_bytes": _trace(padded.serving, byte_format.query),
        "encode_bytes": _trace(padded.encode, byte_format.query),
        "k_best_bytes": _trace(padded.k_best, byte_format.query, k),
        "decode_step": _trace(model.decode_step, state, previous),
    }


class TokenModel:
    """A network on tokens, int32 [B, Q] and [B, T], with the decoder's states joined to one tensor."""

    def __init__(self, network: keras.Model, architecture: str, task: Task) -> None:
        encode, decode_step = steps_of(architecture)
        self._encode, self._decode_step = partial(encode, network), partial(decode_step, network)
        self._length, self._end = task.answer_length, task.end_token
        # The states after a step have their sizes; before it some are None.
        _, states = self._decode_step(self._encode(tf.zeros([1, task.query_length], tf.int32)), tf.zeros([1], tf.int32))
        self.state_sizes: list[int] = [tf.convert_to_tensor(state).shape[-1] for state in states]

    def answer(self, tokens: tf.Tensor) -> Answer:
        """Decode greedily."""
        return decoding.greedy(self._decode_step, self._encode(tokens), self._length, self._end)

    def encode(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return the initial state, [B, S]."""
        return self._join(self._encode(tokens))

    def decode_step(self, state: tf.Tensor, previous: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the probabilities, [B, V], and the next state, [B, S]."""
        probabilities, states = self._decode_step(tf.split(state, self.state_sizes, axis=-1), previous)
        return {"probabilities": probabilities, "state": self._join(states)}

    def k_best(self, tokens: tf.Tensor, k: tf.Tensor) -> decoding.Hypotheses:
        """Decode by beam search."""

        def step(state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = self.decode_step(state, previous)
            return outputs["probabilities"], outputs["state"]

        return decoding.k_best(step, self.encode(tokens), k, self._length, self._end)

    def _join(self, states: States) -> tf.Tensor:
        """[B, ·] each -> [B, S], with zeros for None."""
        batch = tf.shape(states[0])[0]
        sized = zip(states, self.state_sizes, strict=True)
        return tf.concat([tf.zeros([batch, size]) if state is None else state for state, size in sized], -1)


class Format(ABC):
    """A representation of queries and answers. `query` describes queries."""

    query: tf.TensorSpec

    def __init__(self, task: Task, reverse_queries: bool) -> None:
        self._task, self._reverse_queries = task, reverse_queries

    def tokenize(self, query: tf.Tensor) -> tf.Tensor:
        """Queries -> int32 [B, Q], padded on the right, and then reversed if the network reads them so."""
        tokens = self._tokenize(query)
        return tf.reverse(tokens, axis=[1]) if self._reverse_queries else tokens

    @abstractmethod
    def _tokenize(self, query: tf.Tensor) -> tf.Tensor: ...

    @abstractmethod
    def detokenize(self, tokens: tf.Tensor) -> tf.Tensor:
        """Int32 [..., T] -> answers."""


class TextFormat(Format):
    """Strings: [B] and [...]."""

    query = tf.TensorSpec([None], tf.string, "query")

    def _tokenize(self, query: tf.Tensor) -> tf.Tensor:
        task, length = self._task, self._task.query_length
        # One byte more than the maximum, to detect longer queries.
        text = tf.io.decode_raw(query, tf.uint8, fixed_length=length + 1)  # (B, Q + 1): bytes
        table = task.token_of_byte.copy()
        table[0] = task.end_token  # decode_raw pads with zero bytes
        tokens = tf.gather(table, tf.cast(text, tf.int32))
        valid = tf.reduce_all(tokens >= 0) & tf.reduce_all(text[:, length] == 0)
        rule = f"a query has at most {length} characters, all of {task.alphabet!r}, like {task.example!r}"
        with tf.control_dependencies([tf.debugging.Assert(valid, [rule])]):
            return tf.identity(tokens[:, :length])

    def detokenize(self, tokens: tf.Tensor) -> tf.Tensor:
        """Int32 [..., T] -> strings [...]."""
        characters = ["" if character == self._task.end else character for character in self._task.alphabet]
        return tf.strings.reduce_join(tf.gather(tf.constant(characters), tokens), axis=-1)


class ByteFormat(Format):
    """Bytes, uint8: [B, Q] and [..., T]."""

    def __init__(self, task: Task, reverse_queries: bool) -> None:
        super().__init__(task, reverse_queries)
        self.query = tf.TensorSpec([None, task.query_length], tf.uint8, "query")

    def _tokenize(self, query: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._task.token_of_byte, tf.cast(query, tf.int32))

    def detokenize(self, tokens: tf.Tensor) -> tf.Tensor:
        """Int32 [..., T] -> uint8 [..., T]."""
        return tf.gather(tf.constant(list(self._task.alphabet.encode()), tf.uint8), tokens)


class FormatSignatures:
    """The functions of a TokenModel in one text format. `answer` is the model's, or a compiled form of it."""

    def __init__(self, model: TokenModel, text_format: Format, answer: Callable[[tf.Tensor], Answer]) -> None:
        self._model, self._format, self._answer = model, text_format, answer

    def serving(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer each query."""
        characters, probabilities, confidence = self._answer(self._format.tokenize(query))
        answer = self._format.detokenize(characters)
        return {"answer": answer, "probabilities": probabilities, "confidence": confidence}

    def encode(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the state from which `decode_step` starts."""
        return {"state": self._model.encode(self._format.tokenize(query))}

    def k_best(self, query: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the k most probable answers to each query, as `decoding.k_best` does."""
        characters, scores = self._model.k_best(self._format.tokenize(query), k)
        return {"answers": self._format.detokenize(characters), "log_probabilities": scores}


def _trace(function: Callable[..., dict[str, tf.Tensor]], *inputs: tf.TensorSpec) -> Any:
    return tf.function(function).get_concrete_function(*inputs)
