"""The signatures of a SavedModel, made from a Keras network.

B is the batch, T the length of an answer, V the alphabet, S the decoder state.

| signature | inputs | outputs |
| --- | --- | --- |
| serving_default | query string [B] | answer string [B], probabilities float32 [B, T, V], confidence float32 [B] |
| encode | query string [B] | state float32 [B, S] |
| k_best | query string [B], k int32 [] | answers string [B, k], log_probabilities float32 [B, k] |
| decode_step | state float32 [B, S], previous int32 [B] | probabilities float32 [B, V], state float32 [B, S] |

`serving_bytes`, `encode_bytes` and `k_best_bytes` have queries as uint8 [B, 7] and answers as uint8 [..., T], padded on
the right with spaces: LiteRT has no strings.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from training import decoding, task
from training.cells import States
from training.networks import ARCHITECTURES
from training.recipe import HIDDEN_UNITS

Answer = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # characters [B, T], probabilities [B, T, V], confidence [B]


def signatures_of(network: keras.Model) -> dict[str, Any]:
    """Return the concrete functions of all signatures, by name."""
    model = TokenModel(network)
    # XLA compiles for each batch size when it is first called, also after the SavedModel is loaded.
    text = FormatSignatures(model, TEXT, tf.function(model.answer, jit_compile=True))
    padded = FormatSignatures(model, BYTES, model.answer)
    state = tf.TensorSpec([None, sum(model.state_sizes)], tf.float32, "state")
    previous = tf.TensorSpec([None], tf.int32, "previous")
    k = tf.TensorSpec([], tf.int32, "k")
    return {
        "serving_default": _trace(text.serving, TEXT.query),
        "encode": _trace(text.encode, TEXT.query),
        "k_best": _trace(text.k_best, TEXT.query, k),
        "serving_bytes": _trace(padded.serving, BYTES.query),
        "encode_bytes": _trace(padded.encode, BYTES.query),
        "k_best_bytes": _trace(padded.k_best, BYTES.query, k),
        "decode_step": _trace(model.decode_step, state, previous),
    }


class TokenModel:
    """A network on tokens, int32 [B, 7] and [B, T], with the decoder's states joined to one tensor."""

    def __init__(self, network: keras.Model) -> None:
        architecture = ARCHITECTURES[network.name]
        self._encode = partial(architecture.encode, network)
        self._decode_step = partial(architecture.decode_step, network)
        self._length = network.output_shape[1]
        states = self._encode(tf.zeros([1, task.QUERY_LENGTH], tf.int32))
        self.state_sizes = [HIDDEN_UNITS if state is None else state.shape[-1] for state in states]

    def answer(self, tokens: tf.Tensor) -> Answer:
        """Decode greedily."""
        return decoding.greedy(self._decode_step, self._encode(tokens), self._length, task.PAD)

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

        return decoding.k_best(step, self.encode(tokens), k, self._length, task.PAD)

    def _join(self, states: States) -> tf.Tensor:
        """[B, ·] each -> [B, S], with zeros for None."""
        batch = tf.shape(states[0])[0]
        sized = zip(states, self.state_sizes, strict=True)
        return tf.concat([tf.zeros([batch, size]) if state is None else state for state, size in sized], -1)


class TextFormat(NamedTuple):
    """A representation of queries and answers."""

    query: tf.TensorSpec
    tokenize: Callable[[tf.Tensor], tf.Tensor]  # queries -> int32 [B, 7], reversed
    detokenize: Callable[[tf.Tensor], tf.Tensor]  # int32 [..., T] -> answers


class FormatSignatures:
    """The functions of a TokenModel in one text format. `answer` is the model's, or a compiled form of it."""

    def __init__(self, model: TokenModel, text_format: TextFormat, answer: Callable[[tf.Tensor], Answer]) -> None:
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


def _tokenize_text(query: tf.Tensor) -> tf.Tensor:
    """Strings [B] -> tokens int32 [B, 7], reversed. Reads one byte more than the maximum, to detect longer queries."""
    text = tf.io.decode_raw(query, tf.uint8, fixed_length=task.QUERY_LENGTH + 1)  # (B, 8): bytes
    table = task.token_of_byte()
    table[0] = task.PAD  # decode_raw pads with zero bytes
    tokens = tf.gather(table, tf.cast(text, tf.int32))
    valid = tf.reduce_all(tokens >= 0) & tf.reduce_all(text[:, task.QUERY_LENGTH] == 0)
    rule = f"a query has at most {task.QUERY_LENGTH} characters, all of {task.ALPHABET!r}, like {task.EXAMPLE!r}"
    with tf.control_dependencies([tf.debugging.Assert(valid, [rule])]):
        return tf.reverse(tokens[:, : task.QUERY_LENGTH], axis=[1])


def _detokenize_text(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [..., T] -> strings [...]."""
    alphabet = tf.constant(["" if character == " " else character for character in task.ALPHABET])
    return tf.strings.reduce_join(tf.gather(alphabet, tokens), axis=-1)


def _tokenize_bytes(query: tf.Tensor) -> tf.Tensor:
    """Bytes uint8 [B, 7] -> tokens int32 [B, 7], reversed."""
    return tf.reverse(tf.gather(task.token_of_byte(), tf.cast(query, tf.int32)), axis=[1])


def _detokenize_bytes(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [..., T] -> bytes uint8 [..., T]."""
    return tf.gather(tf.constant(list(task.ALPHABET.encode()), tf.uint8), tokens)


TEXT = TextFormat(tf.TensorSpec([None], tf.string, "query"), _tokenize_text, _detokenize_text)
BYTES = TextFormat(tf.TensorSpec([None, task.QUERY_LENGTH], tf.uint8, "query"), _tokenize_bytes, _detokenize_bytes)
