"""Training: optimizer, schedule, checkpoints, progress. The hyper-parameters are in recipe.py."""

import fcntl
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from pydantic import TypeAdapter
from tqdm import tqdm

from training import TrainingError
from training.examples import batches, epoch_queries, keys, queries_of
from training.metadata import Epoch, write_atomically
from training.networks import ARCHITECTURES
from training.recipe import WARM_UP, Recipe, read_recipe
from training.tasks import Task, find_task
from training.tasks.task import Texts, Tokens

EPOCH_LIST = TypeAdapter(list[Epoch])

Probabilities = npt.NDArray[np.float32]


def fit(recipe: Recipe, folder: Path, tensorboard: bool = False) -> None:
    """Train by `recipe`, from the last checkpoint in `folder` if one exists. Each epoch ends with a checkpoint.

    With `tensorboard`, a log is written to `folder/tensorboard`. Raises TrainingError if the task does not exist, has
    too few queries, or does not fit the architecture, and if `folder` contains a training by another recipe.
    """
    task = find_task(recipe.task)
    steps = steps_per_epoch(recipe)
    network = new_network(recipe, task, recipe.epochs * steps)  # raises before the folder is claimed
    with _claim_folder(folder, recipe):
        if checkpoint_file(folder).exists():
            _restore(network, read_checkpoint(folder))
        epochs = read_epochs(folder, finished_epochs(recipe, network))
        if len(epochs) == recipe.epochs:
            print(f"the training in {folder} is finished: export it, add --epochs, or train into another folder")
            return
        # Off a terminal only the lines of the epochs are printed.
        bar = tqdm(total=recipe.epochs * steps, unit="step", desc=recipe.architecture, disable=None)
        bar.update(int(network.optimizer.iterations))
        callbacks = _callbacks(network, task, recipe, bar.update, folder / "tensorboard" if tensorboard else None)
        try:
            with bar:
                _train(recipe, network, epochs, folder, bar.write, callbacks)
        except KeyboardInterrupt as interrupt:
            raise TrainingError(
                f"interrupted after epoch {len(epochs)} of {recipe.epochs}: the same command goes on"
            ) from interrupt


def steps_per_epoch(recipe: Recipe) -> int:
    """Return the number of batches in an epoch. Raises TrainingError if it is zero."""
    examples = recipe.examples if recipe.fresh else len(epoch_queries(find_task(recipe.task), recipe, 0))
    if examples < recipe.batch_size:
        raise TrainingError(
            f"an epoch of the task {recipe.task} has {examples} examples, fewer than the batch size of "
            f"{recipe.batch_size}: choose a smaller --batch-size"
        )
    return examples // recipe.batch_size


def _train(
    recipe: Recipe,
    network: keras.Model,
    epochs: list[Epoch],
    folder: Path,
    write: Callable[[str], object],
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Train all epochs behind `epochs`, save and append each, and write a line about it."""
    write("compiling the first step: it takes up to a minute")
    task, stepwise = find_task(recipe.task), Stepwise(network, recipe.architecture)
    first = len(epochs)
    for epoch in range(first, recipe.epochs):
        if recipe.fresh or epoch == first:  # else they are those of the epoch before
            queries = epoch_queries(task, recipe, epoch)
            inputs, answers = encode(task, queries, recipe.reverse), task.tokenize_answers(task.answers(queries))
        fitted = stepwise.fit(
            batches(task, inputs, answers, recipe, epoch),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
        result = Epoch(**{name: values[0] for name, values in fitted.history.items()})
        write(
            f"epoch {epoch + 1}/{recipe.epochs}: loss {result.loss:.6f}, "
            f"validation exact-match {result.validation_exact_match:.3%}"
        )
        _save(network, [*epochs, result], folder)
        epochs.append(result)


class Stepwise(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A compiled network in its second form, one character at a time, for training. It is faster than layer by
    layer: the input that is the same at each step is multiplied once, and the zeros of the start are not.

    The weights and the optimizer are those of the network. (Queries, int32 [B, Q], previous characters, int32 [B, T])
    -> logarithms of the probabilities, float32 [B, T, V].
    """

    def __init__(self, network: keras.Model, architecture: str) -> None:
        super().__init__()
        self._network, self._architecture = network, ARCHITECTURES[architecture]
        # XLA is faster, and deterministic to the bit on one machine, which a test checks. TensorFlow's
        # enable_op_determinism would disable XLA.
        self.compile(
            optimizer=network.optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
        )

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Run all steps with the right previous characters (teacher forcing)."""
        query, previous = inputs
        states, steps = self._architecture.encode(self._network, query), []
        for character in tf.unstack(previous, axis=1):
            probabilities, states = self._architecture.decode_step(self._network, states, character)
            steps.append(probabilities)
        return tf.math.log(tf.stack(steps, axis=1) + 1e-30)  # the gradient of a wrong answer at 0 would be infinite


def new_network(recipe: Recipe, task: Task, total_steps: int) -> keras.Model:
    """Build the network, with initial weights by the recipe's seed, and its optimizer."""
    keras.utils.set_random_seed(recipe.seed)
    network = ARCHITECTURES[recipe.architecture].build(task, recipe.cell, recipe.units)
    warm_up = int(WARM_UP * total_steps)
    rate: Any = recipe.learning_rate
    if recipe.decay:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, total_steps - warm_up, warmup_target=recipe.learning_rate, warmup_steps=warm_up
        )
    network.compile(optimizer=keras.optimizers.Adam(rate, global_clipnorm=recipe.clip_norm))
    return network


def _restore(network: keras.Model, saved: keras.Model) -> None:
    """Copy the weights and the state of the optimizer. The network keeps its schedule, which may have more steps."""
    network.optimizer.build(network.trainable_variables)
    own, stored = ([*each.weights, *each.optimizer.variables] for each in (network, saved))
    for variable, value in zip(own, stored, strict=True):
        variable.assign(value)


def encode(task: Task, queries: Texts, reverse: bool = True) -> Tokens:
    """Bytes [B] -> uint8 [B, Q], as a network reads them: padded, and then reversed.

    The encoder reads the first characters last, so that they are close to the first characters of the answer. Source:
    the tutorial, after Sutskever et al. 2014, section 3.3.
    """
    tokens = task.tokenize_queries(queries)
    return tokens[:, ::-1] if reverse else tokens


def predict(network: keras.Model, task: Task, queries: Texts, reverse: bool = True) -> Probabilities:
    """Bytes [B] -> probabilities float32 [B, T, V], by the Keras network.

    An autoregressive network is run T times, with its own previous characters as input (free running).
    """
    run, depth = partial(network.predict, batch_size=1000, verbose=0), len(task.alphabet)
    query, length = tf.one_hot(encode(task, queries, reverse), depth), network.output_shape[1]  # (B, Q, V)
    if len(network.inputs) == 1:
        return np.asarray(run(query))
    chosen = np.full([len(queries), length + 1], task.end_token)  # (B, 1 + T): the end is before the first character
    for position in range(length):
        probabilities = np.asarray(run([query, tf.one_hot(chosen[:, :-1], depth)]))  # (B, T, V)
        chosen[:, position + 1] = probabilities[:, position].argmax(-1)
    return probabilities


def measure(network: keras.Model, task: Task, queries: Texts, reverse: bool) -> tuple[npt.NDArray[np.bool_], float]:
    """Bytes [B] -> whether the answers of the Keras network are right, bool [B], and the share of right characters."""
    right = task.tokenize_answers(task.answers(queries))
    answered = task.tokenize_answers(answers(task, predict(network, task, queries, reverse)))  # (B, T) each
    return (answered == right).all(axis=1), float((answered == right).mean())


def answers(task: Task, probabilities: Probabilities) -> Texts:
    """Float32 [B, T, V] -> bytes [B]: the most probable characters, up to the first end."""
    return task.detokenize(probabilities.argmax(-1).astype(np.uint8))


def checkpoint_file(folder: Path) -> Path:
    """Return the path of the last checkpoint: the Keras network with its optimizer."""
    return folder / "network.keras"


def read_checkpoint(folder: Path) -> keras.Model:
    """Load the last checkpoint. Raises TrainingError if no epoch is finished, or the file is damaged."""
    file = checkpoint_file(folder)
    if not file.exists():
        raise TrainingError(f"{folder} has no finished epoch: run `{read_recipe(folder).command}` to its end")
    try:
        return keras.saving.load_model(file)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise TrainingError(f"{file} cannot be read: train into another folder") from error


def finished_epochs(recipe: Recipe, network: keras.Model) -> int:
    """Return the number of epochs that the network's optimizer has completed."""
    return int(network.optimizer.iterations) // steps_per_epoch(recipe)


def read_epochs(folder: Path, finished: int) -> list[Epoch]:
    """Read the results of the first `finished` epochs. Raises TrainingError if the file is damaged, or lacks one."""
    file = folder / "epochs.json"
    try:
        epochs = EPOCH_LIST.validate_json(file.read_bytes()) if finished else []
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file} is missing or damaged: train into another folder") from error
    if len(epochs) < finished:
        raise TrainingError(f"{file} has fewer epochs than the checkpoint: train into another folder")
    return epochs[:finished]


def _callbacks(
    network: keras.Model, task: Task, recipe: Recipe, advance: Callable[[], object], tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    queries = queries_of(task, keys(task, "validation"))
    started = 0.0

    def step_ended(batch: int, logs: object) -> None:  # noqa: ARG001  Keras names it
        nonlocal started
        if batch == 0:  # the first one of all is compiled
            started = process_time()
        advance()

    def epoch_ended(epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG001
        steps = steps_per_epoch(recipe)
        logs["core_seconds"] = round((process_time() - started) * steps / max(steps - 1, 1), 3)
        exact, characters = measure(network, task, queries, recipe.reverse)
        logs |= {"validation_exact_match": float(exact.mean()), "validation_characters": characters}

    ours = keras.callbacks.LambdaCallback(on_train_batch_end=step_ended, on_epoch_end=epoch_ended)
    return [ours] if tensorboard is None else [ours, keras.callbacks.TensorBoard(tensorboard, histogram_freq=1)]


@contextmanager
def _claim_folder(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Keep other trainings out of `folder` by a lock, which ends with the process at the latest. Write the recipe of a
    new training, or compare it with the recipe of the training in `folder`, which it can extend."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"another process trains in {folder}: wait for it, or use another folder") from error
        if (folder / "recipe.json").exists():
            existing = read_recipe(folder)
            _require_same(existing, recipe, folder)
            if recipe.epochs > existing.epochs:
                both = recipe.model_copy(update={"command": f"{existing.command} && {recipe.command}"})
                write_atomically(folder / "recipe.json", both.model_dump_json(indent=2) + "\n")
        elif checkpoint_file(folder).exists():
            raise TrainingError(f"{folder} contains a checkpoint without recipe.json: use another folder, or remove it")
        else:
            write_atomically(folder / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
        yield


def _require_same(existing: Recipe, recipe: Recipe, folder: Path) -> None:
    may_differ = {"command", "git_commit", "epochs"}
    if existing.model_dump(exclude=may_differ) != recipe.model_dump(exclude=may_differ):
        raise TrainingError(
            f"{folder} contains another training (`{existing.command}`): use another folder, or remove it"
        )
    if recipe.epochs < existing.epochs:
        raise TrainingError(
            f"{folder} contains a training of {existing.epochs} epochs: ask for more, or train into another folder"
        )


def _save(network: keras.Model, epochs: list[Epoch], folder: Path) -> None:
    """Write the epochs before the checkpoint: `read_epochs` drops an epoch that the checkpoint does not have."""
    write_atomically(folder / "epochs.json", EPOCH_LIST.dump_json(epochs).decode())
    unfinished = folder / "unfinished.keras"
    try:
        network.save(unfinished)
        unfinished.replace(checkpoint_file(folder))
    finally:
        unfinished.unlink(missing_ok=True)  # of a full disk
