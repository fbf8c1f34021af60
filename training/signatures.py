"""Keras network -> the signatures of its SavedModel."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from training import decoding, task
from training.cells import States
from training.networks import ARCHITECTURES
from training.recipe import HIDDEN_UNITS


class Spelling(NamedTuple):
    """How queries come and answers go."""

    query: tf.TensorSpec
    tokens: Callable[[tf.Tensor], tf.Tensor]  # queries -> int32 [B, 7], reversed
    spell: Callable[[tf.Tensor], tf.Tensor]  # int32 [..., T] -> answers


def signatures_of(network: keras.Model) -> dict[str, Any]:
    """Concrete functions by name. Queries and answers are strings [B], or uint8 [B, 7] and [B, T], padded with spaces,
    where the name says bytes: LiteRT has no strings. T is the length of an answer, V the alphabet, S the state.

    `serving_default`, `serving_bytes`: query -> answer, probabilities [B, T, V], confidence [B]
    `encode`, `encode_bytes`: query -> state [B, S], with which `decode_step` starts
    `decode_step`: state, previous int32 [B] -> probabilities [B, V], the next state
    `k_best`, `k_best_bytes`: query, k int32 -> answers [B, k], log_probabilities [B, k], as `decoding.k_best` has them
    """
    architecture = ARCHITECTURES[network.name]
    encode, step = partial(architecture.encode, network), partial(architecture.decode_step, network)
    length, nothing = network.output_shape[1], tf.zeros([1, task.QUERY_LENGTH], tf.int32)
    sizes = [HIDDEN_UNITS if state is None else state.shape[-1] for state in encode(nothing)]
    state_spec = tf.TensorSpec([None, sum(sizes)], tf.float32, "state")
    previous_spec, k_spec = tf.TensorSpec([None], tf.int32, "previous"), tf.TensorSpec([], tf.int32, "k")

    def answer(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return decoding.greedy(step, encode(tokens), length, task.PAD)

    def joined_step(state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities, states = step(tf.split(state, sizes, axis=-1), previous)
        return probabilities, _joined(states, sizes)

    def decode_step(state: tf.Tensor, previous: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities, state = joined_step(state, previous)
        return {"probabilities": probabilities, "state": state}

    def spelled(spelling: Spelling, answer: Callable[[tf.Tensor], Any]) -> list[Any]:
        def serving(query: tf.Tensor) -> dict[str, tf.Tensor]:
            characters, probabilities, confidence = answer(spelling.tokens(query))
            return {"answer": spelling.spell(characters), "probabilities": probabilities, "confidence": confidence}

        def state_of(query: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"state": _joined(encode(spelling.tokens(query)), sizes)}

        def k_best(query: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
            answers, totals = decoding.k_best(joined_step, state_of(query)["state"], k, length, task.PAD)
            return {"answers": spelling.spell(answers), "log_probabilities": totals}

        return [
            tf.function(serving).get_concrete_function(spelling.query),
            tf.function(state_of).get_concrete_function(spelling.query),
            tf.function(k_best).get_concrete_function(spelling.query, k_spec),
        ]

    # Compiled for each batch size when it is first called; the compiling survives saving and loading.
    of_text = spelled(TEXT, tf.function(answer, jit_compile=True))
    of_bytes = spelled(BYTES, answer)
    return {
        **dict(zip(["serving_default", "encode", "k_best"], of_text, strict=True)),
        **dict(zip(["serving_bytes", "encode_bytes", "k_best_bytes"], of_bytes, strict=True)),
        "decode_step": tf.function(decode_step).get_concrete_function(state_spec, previous_spec),
    }


def _joined(states: States, sizes: list[int]) -> tf.Tensor:
    """[B, ·] each -> [B, S]."""
    batch = tf.shape(states[0])[0]
    return tf.concat(
        [tf.zeros([batch, size]) if state is None else state for state, size in zip(states, sizes, strict=True)], -1
    )


def _text_tokens(query: tf.Tensor) -> tf.Tensor:
    """Strings [B] -> tokens int32 [B, 7], reversed. One byte more than fits is read, to see that there is none."""
    spelling = tf.io.decode_raw(query, tf.uint8, fixed_length=task.QUERY_LENGTH + 1)  # (B, 8): bytes
    table = task.token_of_byte()
    table[0] = task.PAD  # decode_raw pads with zero bytes
    tokens = tf.gather(table, tf.cast(spelling, tf.int32))
    spelled = tf.reduce_all(tokens >= 0) & tf.reduce_all(spelling[:, task.QUERY_LENGTH] == 0)
    rule = f"a query has at most {task.QUERY_LENGTH} characters, all of {task.ALPHABET!r}, like {task.EXAMPLE!r}"
    with tf.control_dependencies([tf.debugging.Assert(spelled, [rule])]):
        return tf.reverse(tokens[:, : task.QUERY_LENGTH], axis=[1])


def _spell_text(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [..., T] -> strings [...]."""
    alphabet = tf.constant(["" if character == " " else character for character in task.ALPHABET])
    return tf.strings.reduce_join(tf.gather(alphabet, tokens), axis=-1)


def _byte_tokens(query: tf.Tensor) -> tf.Tensor:
    """Bytes uint8 [B, 7] -> tokens int32 [B, 7], reversed."""
    return tf.reverse(tf.gather(task.token_of_byte(), tf.cast(query, tf.int32)), axis=[1])


def _spell_bytes(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [..., T] -> bytes uint8 [..., T]."""
    return tf.gather(tf.constant(list(task.ALPHABET.encode()), tf.uint8), tokens)


TEXT = Spelling(tf.TensorSpec([None], tf.string, "query"), _text_tokens, _spell_text)
BYTES = Spelling(tf.TensorSpec([None, task.QUERY_LENGTH], tf.uint8, "query"), _byte_tokens, _spell_bytes)
