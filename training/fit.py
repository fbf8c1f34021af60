"""Training: optimizer, schedule, checkpoints, progress. The hyper-parameters are in recipe.py."""

import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from pydantic import TypeAdapter
from tqdm import tqdm

from training import TrainingError, examples, task
from training.metadata import Epoch, write_atomically
from training.networks import ARCHITECTURES
from training.recipe import BATCH_SIZE, CLIP_NORM, LEARNING_RATE, WARM_UP, Recipe, read_recipe

EPOCH_LIST = TypeAdapter(list[Epoch])

Probabilities = npt.NDArray[np.float32]


def fit(recipe: Recipe, folder: Path, tensorboard: bool = False) -> None:
    """Train by `recipe`, from the last checkpoint in `folder` if one exists. Each epoch ends with a checkpoint.

    With `tensorboard`, a log is written to `folder/tensorboard`. Raises TrainingError if `folder` contains a training
    by another recipe.
    """
    _claim_folder(folder, recipe)
    architecture = ARCHITECTURES[recipe.architecture]
    positions = examples.epoch_positions(recipe.examples, recipe.oversample_short)
    total_steps = recipe.epochs * (len(positions) // BATCH_SIZE)
    network = read_checkpoint(folder) if checkpoint_file(folder).exists() else new_network(recipe, total_steps)
    epochs = read_epochs(folder, finished_epochs(recipe, network))
    if len(epochs) == recipe.epochs:
        print(f"the training in {folder} is finished: export it, or train into another folder")
        return
    targets = architecture.targets()
    queries = task.tokenize_queries(task.queries())[positions]  # (N, 7)
    answers = task.tokenize(targets, network.output_shape[1])[positions]  # (N, T)
    finished_steps = int(network.optimizer.iterations)
    with tqdm(total=total_steps, initial=finished_steps, unit="step", desc=recipe.architecture) as bar:
        callbacks = _callbacks(network, targets, bar.update, folder / "tensorboard" if tensorboard else None)
        for epoch in range(len(epochs), recipe.epochs):
            batches = examples.batches(queries, answers, architecture.autoregressive, BATCH_SIZE, recipe.seed, epoch)
            fitted = network.fit(
                batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0, callbacks=callbacks
            )
            result = Epoch(**{name: values[0] for name, values in fitted.history.items()})
            bar.write(
                f"epoch {epoch + 1}/{recipe.epochs}: loss {result.loss:.6f}, "
                f"validation exact-match {result.validation_exact_match:.3%}"
            )
            epochs.append(result)
            _save(network, epochs, folder)


def new_network(recipe: Recipe, total_steps: int) -> keras.Model:
    """Build and compile the network, with initial weights by the recipe's seed."""
    keras.utils.set_random_seed(recipe.seed)
    network = ARCHITECTURES[recipe.architecture].build(recipe.cell)
    warm_up = int(WARM_UP * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total_steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    # XLA is faster, and deterministic to the bit on one machine, which a test checks. TensorFlow's
    # enable_op_determinism would disable XLA.
    network.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM, weight_decay=recipe.weight_decay or None),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        jit_compile=True,
    )
    return network


def predict(network: keras.Model, queries: task.Tokens) -> Probabilities:
    """Tokens uint8 [B, 7] -> probabilities float32 [B, T, V], by the Keras network.

    An autoregressive network is run T times, with its own previous characters as input (free running).
    """
    run = partial(network.predict, batch_size=1000, verbose=0)
    query, length = tf.one_hot(queries, len(task.ALPHABET)), network.output_shape[1]  # (B, 7, V)
    if len(network.inputs) == 1:
        return np.asarray(run(query))
    chosen = np.full([len(queries), length + 1], task.PAD)  # (B, 1 + T): a pad is before the first character
    for position in range(length):
        probabilities = np.asarray(run([query, tf.one_hot(chosen[:, :-1], len(task.ALPHABET))]))  # (B, T, V)
        chosen[:, position + 1] = probabilities[:, position].argmax(-1)
    return probabilities


def answers(probabilities: Probabilities) -> task.Texts:
    """Float32 [B, T, V] -> bytes [B]: the most probable characters, up to the first pad."""
    return task.detokenize(probabilities.argmax(-1).astype(np.uint8))


def exact_match(network: keras.Model, queries: task.Tokens, targets: task.Texts) -> float:
    """Tokens uint8 [B, 7] and bytes [B] -> the share of queries whose answer is correct in every character."""
    return float((answers(predict(network, queries)) == targets).mean())


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
    steps_per_epoch = len(examples.epoch_positions(recipe.examples, recipe.oversample_short)) // BATCH_SIZE
    return int(network.optimizer.iterations) // steps_per_epoch


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
    network: keras.Model, targets: task.Texts, advance: Callable[[], object], tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    validation = examples.split().validation
    queries, correct = task.tokenize_queries(task.queries()[validation]), targets[validation]
    measure = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: advance(),
        on_epoch_end=lambda _, logs: logs.update(validation_exact_match=exact_match(network, queries, correct)),
    )
    return [measure] if tensorboard is None else [measure, keras.callbacks.TensorBoard(tensorboard, histogram_freq=1)]


def _claim_folder(folder: Path, recipe: Recipe) -> None:
    """Write the recipe of a new training, or compare it with the recipe of the training in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "recipe.json").exists():
        if checkpoint_file(folder).exists():
            raise TrainingError(f"{folder} contains a checkpoint without recipe.json: use another folder, or remove it")
        write_atomically(folder / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
        return
    existing, origin = read_recipe(folder), {"command", "git_commit"}
    if existing.model_dump(exclude=origin) != recipe.model_dump(exclude=origin):
        raise TrainingError(
            f"{folder} contains another training (`{existing.command}`): use another folder, or remove it"
        )


def _save(network: keras.Model, epochs: list[Epoch], folder: Path) -> None:
    """Write the epochs before the checkpoint: `read_epochs` drops an epoch that the checkpoint does not have."""
    write_atomically(folder / "epochs.json", EPOCH_LIST.dump_json(epochs).decode())
    unfinished = folder / "unfinished.keras"
    network.save(unfinished)
    unfinished.replace(checkpoint_file(folder))
