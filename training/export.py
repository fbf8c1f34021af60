"""Keras network -> SavedModel with signatures, metadata, checksums."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training import TrainingError, decoding, fit, lite, task
from training.cells import States
from training.metadata import NAME_PATTERN, Epoch, Golden, Made, Metadata, write
from training.networks import HIDDEN_UNITS, NETWORKS

# LiteRT multiplies seven rows at a time where the processor has AVX-512, and larger batches take no less for a query.
BATCH_SIZES = [1, 7, 14, 28, 56]
TOLERANCE = 1e-5  # between two ways to the same probability
CHECKED = 10_000

Signature = Callable[..., dict[str, tf.Tensor]]
Call = Callable[[task.Texts], tuple[Any, ...]]


def export(checkpoints: Path, artifacts: Path, name: str, version: int | None) -> Path:
    """Write the network of the last checkpoint as `artifacts/name/version`, by default the next version.

    Raises TrainingError where the name or version cannot be, the training has not come to its end, or `check` finds
    that the SavedModel does not do what the Keras network does. No version is left by a refused export, and nobody
    reads half of one.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise TrainingError(f"the name {name!r} is not made of letters, digits and . _ - with a letter or digit first")
    recipe, network = fit.read_recipe(checkpoints), fit.read_checkpoint(checkpoints)
    finished = fit.finished_epochs(recipe, network)
    if finished < recipe.epochs:
        raise TrainingError(f"{checkpoints} is at epoch {finished} of {recipe.epochs}: go on by `{recipe.command}`")
    epochs = fit.read_epochs(checkpoints, finished)
    folders = [folder.name for folder in (artifacts / name).glob("*")]
    versions = [int(folder) for folder in folders if folder.isascii() and folder.isdigit()]
    version = version or max(versions, default=0) + 1
    artifact = artifacts / name / str(version)
    if version in versions:
        raise TrainingError(f"{artifact} exists: name a version that does not")
    unfinished = artifact.with_name(f".{version}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        save(network, unfinished)
        signatures = tf.saved_model.load(str(unfinished)).signatures
        check(network, signatures, unfinished)
        write(unfinished, _describe(recipe, epochs, name, version, signatures["serving_default"]))
        unfinished.rename(artifact)
    except tf.errors.OpError as error:
        raise TrainingError(f"{artifact} cannot be written: {error.message}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return artifact


def save(network: keras.Model, folder: Path) -> None:
    """Write a SavedModel with its signatures, all on the same variables, and without the optimizer; and its
    `serving_bytes` once more for LiteRT, which answers it in a fraction of the time."""
    holder = tf.Module()
    holder.weights = [weight.value for weight in network.weights]
    architecture = NETWORKS[network.name]
    encode, step = partial(architecture.encode, network), partial(architecture.decode_step, network)
    length = network.output_shape[1]
    sizes = [
        HIDDEN_UNITS if state is None else state.shape[-1]
        for state in encode(tf.zeros([1, task.QUERY_LENGTH], tf.int32))
    ]

    def answer(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return decoding.greedy(step, encode(tokens), length, task.PAD)

    # Compiled for each batch size when it is first called; the compiling survives saving and loading.
    compiled = tf.function(answer, jit_compile=True)

    def state_of(query: tf.Tensor) -> tf.Tensor:
        return _joined(encode(_tokens(query)), sizes)

    def joined_step(state: tf.Tensor, previous: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities, states = step(tf.split(state, sizes, axis=-1), previous)
        return probabilities, _joined(states, sizes)

    def serving_default(query: tf.Tensor) -> dict[str, tf.Tensor]:
        characters, probabilities, confidence = compiled(_tokens(query))
        return {"answer": _spell(characters), "probabilities": probabilities, "confidence": confidence}

    def serving_bytes(query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = tf.reverse(tf.gather(task.byte_tokens(), tf.cast(query, tf.int32)), axis=[1])
        characters, probabilities, confidence = answer(tokens)
        spelling = tf.gather(tf.constant(list(task.ALPHABET.encode()), tf.uint8), characters)
        return {"answer": spelling, "probabilities": probabilities, "confidence": confidence}

    def k_best(query: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        answers, log_probabilities = decoding.k_best(joined_step, state_of(query), k, length, task.PAD)
        return {"answers": _spell(answers), "log_probabilities": log_probabilities}

    def decode_step(state: tf.Tensor, previous: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities, state = joined_step(state, previous)
        return {"probabilities": probabilities, "state": state}

    query, k = tf.TensorSpec([None], tf.string, "query"), tf.TensorSpec([], tf.int32, "k")
    state = tf.TensorSpec([None, sum(sizes)], tf.float32, "state")
    previous = tf.TensorSpec([None], tf.int32, "previous")
    spelling = tf.TensorSpec([None, task.QUERY_LENGTH], tf.uint8, "query")
    signatures = {
        "serving_default": tf.function(serving_default).get_concrete_function(query),
        "serving_bytes": tf.function(serving_bytes).get_concrete_function(spelling),
        "k_best": tf.function(k_best).get_concrete_function(query, k),
        "encode": tf.function(lambda query: {"state": state_of(query)}).get_concrete_function(query),
        "decode_step": tf.function(decode_step).get_concrete_function(state, previous),
    }
    tf.saved_model.save(holder, str(folder), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_bytes"])
    (folder / lite.FILE).write_bytes(converter.convert())


def _joined(states: States, sizes: list[int]) -> tf.Tensor:
    """[B, ·] each -> [B, S]."""
    batch = tf.shape(states[0])[0]
    return tf.concat(
        [tf.zeros([batch, size]) if state is None else state for state, size in zip(states, sizes, strict=True)], -1
    )


def check(network: keras.Model, signatures: dict[str, Signature], folder: Path) -> None:
    """Raise TrainingError unless serving_default, encode with decode_step, and what LiteRT reads in `folder` agree with
    the Keras network, and the first and the last with themselves in every size of batch: the same answers,
    probabilities within TOLERANCE, for CHECKED queries, or for as many as a hundred batches hold."""
    queries = np.random.default_rng(0).choice(task.queries(), CHECKED, replace=False)
    serving = partial(_call, signatures["serving_default"])
    answers, probabilities = serving(queries)

    expected = fit.predict(network, task.query_tokens(queries))
    _same("the Keras network", (fit.answers(expected), expected), (answers, probabilities))
    steps = _step_by_step(signatures, queries, network.output_shape[1])
    _same("decoding step by step", steps, (answers, probabilities))
    for size in BATCH_SIZES:
        few = slice(0, min(CHECKED, 100 * size) // size * size)
        ways: dict[str, Call] = {"serving_default": serving, "LiteRT": lite.Lite(folder, size)}
        for way, call in ways.items():
            batches = [call(batch) for batch in np.split(queries[few], len(queries[few]) // size)]
            together = np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])
            _same(f"{way} in batches of {size}", together, (answers[few], probabilities[few]))


def _call(serving: Signature, queries: task.Texts) -> tuple[task.Texts, fit.Probabilities]:
    returned = serving(query=tf.constant(queries))
    return returned["answer"].numpy().astype("S"), returned["probabilities"].numpy()


def _step_by_step(
    signatures: dict[str, Signature], queries: task.Texts, length: int
) -> tuple[task.Texts, fit.Probabilities]:
    state = signatures["encode"](query=tf.constant(queries))["state"]
    previous = tf.fill([len(queries)], task.PAD)
    steps = []
    for _ in range(length):
        step = signatures["decode_step"](state=state, previous=previous)
        state, previous = step["state"], tf.argmax(step["probabilities"], axis=-1, output_type=tf.int32)
        steps.append(step["probabilities"].numpy())
    probabilities = np.stack(steps, axis=1)
    return fit.answers(probabilities), probabilities


def _same(way: str, one: tuple[task.Texts, fit.Probabilities], other: tuple[task.Texts, fit.Probabilities]) -> None:
    differ = int((one[0] != other[0]).sum())
    distance = float(np.abs(one[1] - other[1]).max())
    if differ or distance > TOLERANCE:
        raise TrainingError(
            f"export refused: {way} and serving_default differ in {differ} of {len(one[0])} answers, "
            f"and in probability by up to {distance:.1e} (at most {TOLERANCE} is allowed)"
        )


def _describe(recipe: fit.Recipe, epochs: list[Epoch], name: str, version: int, serving: Signature) -> Metadata:
    queries = np.array([task.EXAMPLE.encode(), *np.random.default_rng(1).choice(task.queries(), 31, replace=False)])
    answers, _ = _call(serving, queries)
    return Metadata(
        name=name,
        version=version,
        network=recipe.network,
        alphabet=task.ALPHABET,
        largest_operand=task.LARGEST_OPERAND,
        query_pattern=task.QUERY_PATTERN,
        query_example=task.EXAMPLE,
        batch_sizes=BATCH_SIZES,
        made=Made(
            git_commit=recipe.git_commit,
            command=recipe.command,
            cell=recipe.cell,
            seed=recipe.seed,
            libraries={"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
        ),
        golden=[
            Golden(query=query.decode(), answer=answer.decode()) for query, answer in zip(queries, answers, strict=True)
        ],
        epochs=epochs,
        tried=[],
        evidence=None,
    )


def _tokens(query: tf.Tensor) -> tf.Tensor:
    """Strings [B] -> tokens int32 [B, 7], reversed. One byte more than fits is read, to see that there is none."""
    spelling = tf.io.decode_raw(query, tf.uint8, fixed_length=task.QUERY_LENGTH + 1)  # (B, 8): bytes
    table = task.byte_tokens()
    table[0] = task.PAD  # decode_raw pads with zero bytes
    tokens = tf.gather(table, tf.cast(spelling, tf.int32))
    spelled = tf.reduce_all(tokens >= 0) & tf.reduce_all(spelling[:, task.QUERY_LENGTH] == 0)
    rule = f"a query has at most {task.QUERY_LENGTH} characters, all of {task.ALPHABET!r}, like {task.EXAMPLE!r}"
    with tf.control_dependencies([tf.debugging.Assert(spelled, [rule])]):
        return tf.reverse(tokens[:, : task.QUERY_LENGTH], axis=[1])


def _spell(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [..., T] -> strings [...]."""
    alphabet = tf.constant(["" if character == " " else character for character in task.ALPHABET])
    return tf.strings.reduce_join(tf.gather(alphabet, tokens), axis=-1)
