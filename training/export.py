"""Export: Keras network -> artifact (SavedModel, LiteRT files, metadata, checksums)."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training import TrainingError, fit, litert, task, warmup
from training.metadata import NAME_PATTERN, Epoch, Golden, Metadata, Provenance, write
from training.recipe import Recipe, read_recipe
from training.signatures import signatures_of

# LiteRT multiplies seven rows at a time on a processor with AVX-512. Batches above 56 are no faster per query.
BATCH_SIZES = [1, 7, 14, 28, 56]

# The comparison of the exported forms with the Keras network.
TOLERANCE = 1e-5  # between two computations of the same probability
CHECK_QUERIES = 10_000
K_BEST_QUERIES = 1000
K = np.int32(11)  # one more than the service offers
SCORE_GAP = 1e-3  # log-probabilities that differ by more have the same order in every form

Signature = Callable[..., dict[str, tf.Tensor]]
Predictions = tuple[task.Texts, fit.Probabilities]  # answers, probabilities


def export(checkpoints: Path, artifacts: Path, name: str, version: int | None) -> Path:
    """Write the network of the last checkpoint as `artifacts/name/version`, by default the next version.

    The version appears in one step, when it is complete. Raises TrainingError, and leaves no files, if the name is
    invalid, the version exists, the training is unfinished, or `check` fails.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise TrainingError(
            f"the model name {name!r} is invalid: use letters, digits and . _ - and start with a letter or digit"
        )
    recipe, network = read_recipe(checkpoints), fit.read_checkpoint(checkpoints)
    finished = fit.finished_epochs(recipe, network)
    if finished < recipe.epochs:
        raise TrainingError(
            f"the training in {checkpoints} is at epoch {finished} of {recipe.epochs}: resume it by `{recipe.command}`"
        )
    epochs = fit.read_epochs(checkpoints, finished)
    folders = [folder.name for folder in (artifacts / name).glob("*")]
    versions = [int(folder) for folder in folders if folder.isascii() and folder.isdigit()]
    version = version or max(versions, default=0) + 1
    artifact = artifacts / name / str(version)
    if version in versions:
        raise TrainingError(f"{artifact} already exists: choose another version")
    unfinished = artifact.with_name(f".{version}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        save(network, unfinished)
        signatures = tf.saved_model.load(str(unfinished)).signatures
        check(network, signatures, unfinished)
        metadata = _build_metadata(recipe, epochs, name, version, signatures["serving_default"])
        warmup.write(unfinished, metadata)
        write(unfinished, metadata)
        unfinished.rename(artifact)
    except tf.errors.OpError as error:
        raise TrainingError(f"{artifact} cannot be written: {error.message}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return artifact


def save(network: keras.Model, folder: Path) -> None:
    """Write a SavedModel with all signatures and without the optimizer, and the LiteRT files made from it."""
    holder = tf.Module()
    holder.weights = [weight.value for weight in network.weights]
    tf.saved_model.save(holder, str(folder), signatures=signatures_of(network))
    for file, names in litert.SIGNATURES.items():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=names)
        (folder / file).write_bytes(converter.convert())


def check(network: keras.Model, signatures: dict[str, Signature], folder: Path) -> None:
    """Compare the SavedModel's signatures and the LiteRT files in `folder` with the Keras network.

    The answers must be equal, and the probabilities within TOLERANCE, of:
    - `serving_default` and the Keras network,
    - step-by-step decoding, by the SavedModel and by LiteRT, and `serving_default`,
    - `k_best` by LiteRT and by the SavedModel,
    - `serving_default` and LiteRT, in each batch size, and `serving_default` in one batch.

    Raises TrainingError at the first difference.
    """
    queries = np.random.default_rng(0).choice(task.queries(), CHECK_QUERIES, replace=False)
    serving = partial(_predict, signatures["serving_default"])
    expected = serving(queries)
    probabilities = fit.predict(network, task.tokenize_queries(queries))
    _require_equal("the Keras network", (fit.answers(probabilities), probabilities), expected)

    length, litert_signatures = network.output_shape[1], litert.decoding_signatures(folder)
    state = signatures["encode"](query=tf.constant(queries))["state"]
    decoded = _decode_by_steps(state, signatures["decode_step"], length)
    _require_equal("step-by-step decoding", decoded, expected)
    state = litert_signatures["encode_bytes"](query=litert.padded_bytes(queries))["state"]
    decoded = _decode_by_steps(state, litert_signatures["decode_step"], length)
    _require_equal("LiteRT's step-by-step decoding", decoded, expected)
    _require_equal_k_best(signatures["k_best"], litert_signatures["k_best_bytes"], queries[:K_BEST_QUERIES])

    for size in BATCH_SIZES:
        batches = min(len(queries) // size, 100)
        some = slice(0, batches * size)
        forms: dict[str, Callable[[task.Texts], tuple[Any, ...]]] = {
            "serving_default": serving,
            "LiteRT": litert.LiteRTModel(folder, size).predict,
        }
        for form, predict in forms.items():
            outputs = [predict(batch)[:2] for batch in np.split(queries[some], batches)]
            answers, probabilities = (np.concatenate(column) for column in zip(*outputs, strict=True))
            _require_equal(
                f"{form} in batches of {size}", (answers, probabilities), (expected[0][some], expected[1][some])
            )


def _predict(serving: Signature, queries: task.Texts) -> Predictions:
    outputs = serving(query=tf.constant(queries))
    return outputs["answer"].numpy().astype("S"), outputs["probabilities"].numpy()


def _decode_by_steps(state: Any, step: Callable[..., Any], length: int) -> Predictions:
    previous, steps = np.full(len(state), task.PAD, np.int32), []
    for _ in range(length):
        outputs = step(state=state, previous=previous)
        state, probabilities = outputs["state"], np.asarray(outputs["probabilities"])  # (B, S), (B, V)
        previous = probabilities.argmax(-1).astype(np.int32)
        steps.append(probabilities)
    stacked = np.stack(steps, axis=1)  # (B, T, V)
    return fit.answers(stacked), stacked


def _require_equal_k_best(k_best: Callable[..., Any], litert_k_best: Callable[..., Any], queries: task.Texts) -> None:
    """Compare all probabilities, and the answers whose scores differ by more than SCORE_GAP from their neighbours'.

    Equally probable answers may be in any order, and the last may be replaced by an equally probable one.
    """
    outputs = k_best(query=tf.constant(queries), k=K)
    litert_outputs = litert_k_best(query=litert.padded_bytes(queries), k=K)
    scores, litert_scores = np.asarray(outputs["log_probabilities"]), litert_outputs["log_probabilities"]
    with np.errstate(invalid="ignore"):  # minus infinity minus itself, if fewer than K answers exist
        gaps = np.diff(scores, axis=1, prepend=np.inf) < -SCORE_GAP  # (B, K)
    ordered = gaps[:, :-1] & gaps[:, 1:]
    answers = outputs["answers"].numpy().astype("S")[:, :-1][ordered]
    litert_answers = litert.strip_padding(litert_outputs["answers"])[:, :-1][ordered]
    _require_equal(
        "LiteRT's k best", (litert_answers, np.exp(litert_scores)), (answers, np.exp(scores)), "the SavedModel's"
    )


def _require_equal(form: str, one: Predictions, other: Predictions, other_form: str = "serving_default") -> None:
    """Raise TrainingError if answers differ, or probabilities by more than TOLERANCE."""
    differ = int((one[0] != other[0]).sum())
    distance = float(np.abs(one[1] - other[1]).max())
    if differ or not distance <= TOLERANCE:  # also if the distance is NaN
        raise TrainingError(
            f"export refused: {form} and {other_form} differ in {differ} of {len(one[0])} answers, "
            f"and in probability by up to {distance:.1e} (the tolerance is {TOLERANCE})"
        )


def _build_metadata(recipe: Recipe, epochs: list[Epoch], name: str, version: int, serving: Signature) -> Metadata:
    queries = np.array([task.EXAMPLE.encode(), *np.random.default_rng(1).choice(task.queries(), 31, replace=False)])
    answers, _ = _predict(serving, queries)
    return Metadata(
        name=name,
        version=version,
        architecture=recipe.architecture,
        alphabet=task.ALPHABET,
        largest_operand=task.LARGEST_OPERAND,
        query_pattern=task.QUERY_PATTERN,
        query_example=task.EXAMPLE,
        batch_sizes=BATCH_SIZES,
        provenance=Provenance(
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
        ablations=[],
        evidence=None,
    )
