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

from training import TrainingError, fit, lite, task, warmup
from training.metadata import NAME_PATTERN, Epoch, Golden, Made, Metadata, write
from training.signatures import signatures_of

# LiteRT multiplies seven rows at a time where the processor has AVX-512, and larger batches take no less for a query.
BATCH_SIZES = [1, 7, 14, 28, 56]
TOLERANCE = 1e-5  # between two ways to the same probability
CHECKED = 10_000
BEST_CHECKED, BEST = 1000, np.int32(11)  # queries, and answers to each: one more than a service gives
APART = 1e-3  # log-probabilities that no two ways of computing bring into another order

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
        described = _describe(recipe, epochs, name, version, signatures["serving_default"])
        warmup.write(unfinished, described)
        write(unfinished, described)
        unfinished.rename(artifact)
    except tf.errors.OpError as error:
        raise TrainingError(f"{artifact} cannot be written: {error.message}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return artifact


def save(network: keras.Model, folder: Path) -> None:
    """Write a SavedModel with its signatures, all on the same variables, and without the optimizer; and those on bytes
    once more for LiteRT, which answers in a fraction of the time."""
    holder = tf.Module()
    holder.weights = [weight.value for weight in network.weights]
    tf.saved_model.save(holder, str(folder), signatures=signatures_of(network))
    for file, names in lite.SIGNATURES.items():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=names)
        (folder / file).write_bytes(converter.convert())


def check(network: keras.Model, signatures: dict[str, Signature], folder: Path) -> None:
    """Raise TrainingError unless serving_default, encode with decode_step, and what LiteRT reads in `folder` agree with
    the Keras network, serving_default and LiteRT with themselves in every size of batch, and LiteRT's k best with the
    SavedModel's: the same answers, probabilities within TOLERANCE, for CHECKED queries, or for as many as a hundred
    batches hold."""
    queries = np.random.default_rng(0).choice(task.queries(), CHECKED, replace=False)
    serving = partial(_call, signatures["serving_default"])
    answers, probabilities = serving(queries)

    expected = fit.predict(network, task.query_tokens(queries))
    _same("the Keras network", (fit.answers(expected), expected), (answers, probabilities))
    length, by_lite, spelling = network.output_shape[1], lite.decoding_signatures(folder), lite.spelling(queries)
    state = signatures["encode"](query=tf.constant(queries))["state"]
    steps = _step_by_step(state, signatures["decode_step"], length)
    _same("decoding step by step", steps, (answers, probabilities))
    lite_state = by_lite["encode_bytes"](query=spelling)["state"]
    steps = _step_by_step(lite_state, by_lite["decode_step"], length)
    _same("decoding step by step by LiteRT", steps, (answers, probabilities))
    _same_best(signatures["k_best"], by_lite["k_best_bytes"], queries[:BEST_CHECKED])
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


def _step_by_step(state: Any, step: Callable[..., Any], length: int) -> tuple[task.Texts, fit.Probabilities]:
    previous, steps = np.full(len(state), task.PAD, np.int32), []
    for _ in range(length):
        returned = step(state=state, previous=previous)
        state, probabilities = returned["state"], np.asarray(returned["probabilities"])
        previous = probabilities.argmax(-1).astype(np.int32)
        steps.append(probabilities)
    together = np.stack(steps, axis=1)
    return fit.answers(together), together


def _same_best(of_text: Callable[..., Any], of_bytes: Callable[..., Any], queries: task.Texts) -> None:
    """Which of two answers is better may differ where they are equals, and so may which is last."""
    returned, by_lite = of_text(query=tf.constant(queries), k=BEST), of_bytes(query=lite.spelling(queries), k=BEST)
    totals, lite_totals = np.asarray(returned["log_probabilities"]), by_lite["log_probabilities"]
    with np.errstate(invalid="ignore"):  # where there are fewer answers: minus infinity
        apart = np.diff(totals, axis=1, prepend=np.inf) < -APART
    settled = apart[:, :-1] & apart[:, 1:]
    answers, lite_answers = returned["answers"].numpy().astype("S"), lite.texts(by_lite["answers"])
    best, lite_best = (answers[:, :-1][settled], np.exp(totals)), (lite_answers[:, :-1][settled], np.exp(lite_totals))
    _same("LiteRT's k best", lite_best, best, than="the SavedModel's")


def _same(
    way: str,
    one: tuple[task.Texts, fit.Probabilities],
    other: tuple[task.Texts, fit.Probabilities],
    than: str = "serving_default",
) -> None:
    differ = int((one[0] != other[0]).sum())
    distance = float(np.abs(one[1] - other[1]).max())
    if differ or not distance <= TOLERANCE:  # nor NaN
        raise TrainingError(
            f"export refused: {way} and {than} differ in {differ} of {len(one[0])} answers, "
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
