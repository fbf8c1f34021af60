"""Export: Keras network -> artifact (SavedModel, LiteRT files, samples, metadata, checksums)."""

import json
import re
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from training import TrainingError, fit, warmup
from training.engines import SIGNATURES, Engine, Floats, LiteRTEngine, SavedModelEngine, has_litert_files
from training.examples import keys, queries_of
from training.metadata import NAME_PATTERN, Epoch, Golden, Metadata, Provenance, describe, write
from training.networks import OTHER
from training.recipe import Recipe, read_recipe
from training.signatures import signatures_of
from training.tasks import Task, find_task
from training.tasks.task import Texts

# LiteRT multiplies seven rows at a time on a processor with AVX-512. Batches above 56 are no faster per query.
BATCH_SIZES = [1, 7, 14, 28, 56]
SAMPLES_FILE = "samples.ndjson"
SAMPLES = 2000
GOLDEN = 32

# The comparison of the exported forms with the Keras network.
TOLERANCE = 1e-5  # between two computations of the same probability
CHECK_QUERIES = 10_000
K_BEST_QUERIES = 1000
K = 11  # one more than the service offers
SCORE_GAP = 1e-3  # log-probabilities that differ by more have the same order in every form

Predicted = tuple[Texts, Floats]  # answers and probabilities, or log-probabilities


def export_training(checkpoints: Path, artifacts: Path, name: str, version: int | None) -> Path:
    """Export the network of the last checkpoint as `artifacts/name/version`, by default the next version.

    Raises TrainingError as `export` does, and if the training is unfinished.
    """
    _require_name(name)
    recipe = read_recipe(checkpoints)
    task, network = find_task(recipe.task), fit.read_checkpoint(checkpoints)
    finished = fit.finished_epochs(recipe, network)
    if finished < recipe.epochs:
        raise TrainingError(
            f"the training in {checkpoints} is at epoch {finished} of {recipe.epochs}: resume it by `{recipe.command}`"
        )
    epochs = fit.read_epochs(checkpoints, finished)
    if version is None:
        version = max(_versions(artifacts / name), default=0) + 1
    folder = artifacts / name / str(version)
    return _Export(network, recipe.architecture, task, folder, recipe.reverse).write(recipe, epochs)


def export(network: keras.Model, task: Task, folder: Path, *, reverse_queries: bool = False) -> Path:
    """Export a Keras network that was trained elsewhere as the version `folder`: `<artifacts>/<name>/<version>`.

    The network has one input, one-hot queries of `task`, float32 [B, Q, V], padded on the right with the end of an
    answer, and then reversed with `reverse_queries`. It has one output, the probabilities of the answer's characters,
    float32 [B, T, V]. Its layers can be of any kind, except those that Keras cannot trace (Lambda layers cannot be
    loaded again). Without LiteRT files, which LiteRT's converter refuses for some layers, the service runs the
    SavedModel by TensorFlow.

    The version appears in one step, when it is complete. Raises TrainingError, and leaves no files, if the network does
    not fit the task, the name is invalid, the version exists, or `check` fails.
    """
    _require_fit(network, task, reverse_queries)
    return _Export(network, OTHER, task, folder, reverse_queries).write(None, [])


class _Export:
    """A network on its way to an artifact."""

    def __init__(
        self, network: keras.Model, architecture: str, task: Task, folder: Path, reverse_queries: bool
    ) -> None:
        self._network, self._architecture, self._task = network, architecture, task
        self._folder, self._reverse_queries = folder, reverse_queries

    def write(self, recipe: Recipe | None, epochs: list[Epoch]) -> Path:
        """Write the artifact into a hidden folder beside it, check it and rename it. Raises TrainingError."""
        artifact = _require_new_version(self._folder)
        unfinished = artifact.with_name(f".{artifact.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            save(self._network, self._architecture, self._task, self._reverse_queries, unfinished)
            engines: dict[str, Engine] = {"the SavedModel": SavedModelEngine(unfinished, self._task)}
            if has_litert_files(unfinished):
                engines["LiteRT"] = LiteRTEngine(unfinished, self._task)
            _report("comparing the engines with the network")
            check(self._network, self._task, self._reverse_queries, engines)
            write_samples(self._task, unfinished)
            metadata = self._metadata(recipe, epochs, engines["the SavedModel"])
            warmup.write(unfinished, metadata)
            write(unfinished, metadata)
            unfinished.rename(artifact)
        except tf.errors.OpError as error:
            raise TrainingError(f"{artifact} cannot be written: {error.message}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return artifact

    def _metadata(self, recipe: Recipe | None, epochs: list[Epoch], engine: Engine) -> Metadata:
        task = self._task
        some = np.random.default_rng(1).choice(many_queries(task), GOLDEN - 1, replace=False)
        queries = np.array([task.example.encode(), *some])
        answers = engine.predict(queries).answers
        return Metadata(
            name=self._folder.absolute().parent.name,
            version=int(self._folder.name),
            architecture=self._architecture,
            task=describe(task),
            batch_sizes=BATCH_SIZES,
            provenance=None if recipe is None else _provenance(recipe),
            golden=[
                Golden(query=query.decode(), answer=answer.decode())
                for query, answer in zip(queries, answers, strict=True)
            ],
            epochs=epochs,
            ablations=[],
            evidence=None,
        )


def save(network: keras.Model, architecture: str, task: Task, reverse_queries: bool, folder: Path) -> None:
    """Write a SavedModel with all signatures and without the optimizer, and the LiteRT files made from it.

    If LiteRT cannot run the layers of a network that was trained elsewhere, print it to stderr and write no LiteRT
    files. Raises TrainingError if the network is one of ours.
    """
    _report("tracing the signatures of the SavedModel")
    holder = tf.Module()
    holder.weights = [weight.value for weight in network.weights]
    tf.saved_model.save(holder, str(folder), signatures=signatures_of(network, architecture, task, reverse_queries))
    _report("converting the SavedModel to LiteRT")
    try:
        for file, names in SIGNATURES.items():
            converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=names)
            (folder / file).write_bytes(converter.convert())
        _run_litert(LiteRTEngine(folder, task), np.array([task.example.encode()] * 2))
    except Exception as error:  # the converter has an exception of its own, and raises others
        if architecture != OTHER:
            raise TrainingError(f"LiteRT cannot run the network: {str(error).splitlines()[0]}") from error
        for file in SIGNATURES:
            (folder / file).unlink(missing_ok=True)
        print(
            "LiteRT cannot run the layers of this network: the version has no LiteRT files, and the service runs its "
            "SavedModel",
            file=sys.stderr,
        )


def _report(stage: str) -> None:
    """Print what takes the next seconds to stderr: the command prints the artifact to stdout."""
    print(f"{stage} ...", file=sys.stderr, flush=True)


def _run_litert(engine: LiteRTEngine, queries: Texts) -> None:
    """Run everything once: some layers are converted to operations that fail. Raises LiteRT's errors."""
    engine.predict(queries)
    engine.decode(queries)
    engine.k_best(queries, K)


def check(network: keras.Model, task: Task, reverse_queries: bool, engines: dict[str, Engine]) -> None:
    """Compare the engines of an artifact, by name and the reference first, with the Keras network.

    The answers must be equal, and the probabilities within TOLERANCE, of:
    - the reference and the Keras network,
    - each engine's step-by-step decoding, and the reference,
    - each engine in each batch size, and the reference in one batch,
    - the k best answers of each engine and of the reference.

    Raises TrainingError at the first difference.
    """
    queries = many_queries(task)
    queries = np.random.default_rng(0).choice(queries, min(CHECK_QUERIES, len(queries)), replace=False)
    (name, reference), *others = engines.items()
    expected = reference.predict(queries)[:2]
    probabilities = fit.predict(network, task, queries, reverse_queries)
    _require_equal("the Keras network", (fit.answers(task, probabilities), probabilities), name, expected)
    for form, engine in engines.items():
        steps = engine.decode(queries)
        _require_equal(f"step-by-step decoding by {form}", (fit.answers(task, steps), steps), name, expected)
        for size in BATCH_SIZES:
            batches = min(len(queries) // size, 100)
            outputs = [engine.predict(batch)[:2] for batch in np.split(queries[: batches * size], batches)]
            answers, probabilities = (np.concatenate(column) for column in zip(*outputs, strict=True))
            some = (expected[0][: len(answers)], expected[1][: len(answers)])
            _require_equal(f"{form} in batches of {size}", (answers, probabilities), name, some)
    for form, engine in others:
        best = (each.k_best(queries[:K_BEST_QUERIES], K) for each in (engine, reference))
        _require_equal_k_best(f"the k best by {form}", next(best), name, next(best))


def write_samples(task: Task, folder: Path) -> None:
    """Write SAMPLES_FILE: up to SAMPLES held-out queries with their correct answers, as lines of JSON."""
    queries = keys(task, "held_out", SAMPLES)
    pairs = zip(queries.tolist(), task.answers(queries).tolist(), strict=True)
    lines = [json.dumps({"query": query.decode(), "answer": answer.decode()}) + "\n" for query, answer in pairs]
    (folder / SAMPLES_FILE).write_text("".join(lines))


def _require_fit(network: keras.Model, task: Task, reverse_queries: bool) -> None:
    """Raise TrainingError, with the reason, if a network does not have the inputs and outputs of the task."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise TrainingError(
            f"the network has {len(network.inputs)} inputs and {len(network.outputs)} outputs: "
            "one input of one-hot queries and one output of probabilities are required"
        )
    size = len(task.alphabet)
    for what, found, length in [
        ("input", network.input_shape, task.query_length),
        ("output", network.output_shape, task.answer_length),
    ]:
        if tuple(found[1:]) != (length, size):
            raise TrainingError(
                f"the {what} of the network has the shape {found}: the task {task.name} requires "
                f"(None, {length}, {size}), which is its length of a {'query' if what == 'input' else 'answer'} "
                "and the size of its alphabet"
            )
    probabilities = fit.predict(network, task, many_queries(task)[:100], reverse_queries)
    if not (np.abs(probabilities.sum(-1) - 1) < 1e-3).all() or (probabilities < 0).any():  # also if one is NaN
        raise TrainingError("the output of the network is not probabilities that sum to 1: end it with a softmax")


def _require_name(name: str) -> None:
    """Raise TrainingError if the name of a model is invalid."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise TrainingError(
            f"the model name {name!r} is invalid: use letters, digits and . _ - and start with a letter or digit"
        )


def _require_new_version(folder: Path) -> Path:
    """Return the folder. Raises TrainingError if it is no version of a model, or exists."""
    _require_name(folder.absolute().parent.name)
    version = folder.name
    if not re.fullmatch("[1-9][0-9]*", version):
        raise TrainingError(f"the version {version!r} is invalid: it is a number from 1 on")
    if int(version) in _versions(folder.parent):
        raise TrainingError(f"{folder} already exists: choose another version")
    return folder


def _versions(model: Path) -> list[int]:
    return [int(folder.name) for folder in model.glob("*") if folder.name.isascii() and folder.name.isdigit()]


def many_queries(task: Task) -> Texts:
    """Return all queries of a task, or the validation queries if all are too many: bytes [N]."""
    return queries_of(task, keys(task, "validation")) if task.queries is None else task.queries()


def _require_equal_k_best(form: str, found: Predicted, other_form: str, expected: Predicted) -> None:
    """Compare all probabilities, and the answers whose scores differ by more than SCORE_GAP from their neighbours'.

    Equally probable answers may be in any order, and the last may be replaced by an equally probable one.
    """
    scores = expected[1]
    with np.errstate(invalid="ignore"):  # minus infinity minus itself, if fewer than K answers exist
        gaps = np.diff(scores, axis=1, prepend=np.inf) < -SCORE_GAP  # (B, K)
    ordered = gaps[:, :-1] & gaps[:, 1:]
    one, other = ((answers[:, :-1][ordered], np.exp(scores)) for answers, scores in (found, expected))
    _require_equal(form, one, other_form, other)


def _require_equal(form: str, found: Predicted, other_form: str, expected: Predicted) -> None:
    """Raise TrainingError if answers differ, or probabilities by more than TOLERANCE."""
    differ = int((found[0] != expected[0]).sum())
    distance = float(np.abs(found[1] - expected[1]).max())
    if differ or not distance <= TOLERANCE:  # also if the distance is NaN
        raise TrainingError(
            f"export refused: {form} and {other_form} differ in {differ} of {len(found[0])} answers, "
            f"and in probability by up to {distance:.1e} (the tolerance is {TOLERANCE})"
        )


def _provenance(recipe: Recipe) -> Provenance:
    return Provenance(
        git_commit=recipe.git_commit,
        command=recipe.command,
        cell=recipe.cell,
        seed=recipe.seed,
        split_by_pair=True,
        units=recipe.units,
        libraries={"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
    )
