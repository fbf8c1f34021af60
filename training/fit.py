"""The loop: optimizer, schedule, checkpoints, progress.

Expected: repeat_vector, seed 1, 60 epochs: no wrong answer in 1,000,000 (model_artifacts/adder/2).
"""

import subprocess
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, TypeAdapter
from tqdm import tqdm

from training import TrainingError, examples, task
from training.metadata import Epoch, replace
from training.networks import NETWORKS

BATCH_SIZE = 1024  # 917 steps an epoch of all train pairs
LEARNING_RATE = 1e-2  # ten times Adam's default: the warm-up before and the clipping make it safe
WARM_UP = 0.05  # of all steps, from a rate of none; a cosine takes it back to none over the rest
CLIP_NORM = 1.0  # of the gradient as a whole

Probabilities = npt.NDArray[np.float32]


class Recipe(BaseModel):
    """All that decides a network's weights on one machine, and where the code and the command came from."""

    model_config = ConfigDict(strict=True, extra="forbid")

    network: str
    seed: int
    epochs: int
    examples: int
    cell: str
    short_more_often: bool
    weight_decay: float
    label_smoothing: float
    command: str
    git_commit: str


EPOCHS = TypeAdapter(list[Epoch])


def todays_recipe(network: str, cell: str, seed: int, epochs: int, examples: int, command: str) -> Recipe:
    """That by which the shipped networks are trained, at the commit of this checkout."""
    return Recipe(
        network=network,
        cell=cell,
        seed=seed,
        epochs=epochs,
        examples=examples,
        short_more_often=True,
        weight_decay=0.0,
        label_smoothing=0.0,
        command=command,
        git_commit=git_commit(),
    )


def checkpoint_of(folder: Path) -> Path:
    """The Keras network, optimizer included, of the last finished epoch."""
    return folder / "network.keras"


def read_epochs(folder: Path, finished: int) -> list[Epoch]:
    """What each of the finished epochs ended with. Raises TrainingError where the file is damaged, or lacks one."""
    file = folder / "epochs.json"
    try:
        epochs = EPOCHS.validate_json(file.read_bytes()) if finished else []
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file} is missing or damaged: train again into another folder") from error
    if len(epochs) < finished:
        raise TrainingError(f"{file} lacks epochs that the checkpoint has: train again into another folder")
    return epochs[:finished]


def finished_epochs(recipe: Recipe, network: keras.Model) -> int:
    """How many epochs of `recipe` the optimizer of `network` has behind it."""
    return int(network.optimizer.iterations) // (
        len(examples.shown(recipe.examples, recipe.short_more_often)) // BATCH_SIZE
    )


def read_checkpoint(folder: Path) -> keras.Model:
    """Raises TrainingError where no epoch has been finished, or the file is damaged."""
    if not checkpoint_of(folder).exists():
        raise TrainingError(f"{folder} has no finished epoch: run `{read_recipe(folder).command}` to its end")
    try:
        return keras.saving.load_model(checkpoint_of(folder))
    except (OSError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise TrainingError(f"{checkpoint_of(folder)} cannot be read; train again into another folder") from error


def read_recipe(folder: Path) -> Recipe:
    """Raises TrainingError where no training has begun, or the file is damaged."""
    try:
        return Recipe.model_validate_json((folder / "recipe.json").read_bytes())
    except ValueError as error:
        raise TrainingError(
            f"{folder / 'recipe.json'} is damaged, or of another version: train again into another folder"
        ) from error
    except OSError as error:
        raise TrainingError(f"{folder} holds no training: run `python -m training train {folder}` first") from error


def git_commit() -> str:
    """The commit of this checkout, "-dirty" behind it where files differ; "unknown" outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607  git is found on the PATH
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def fit(recipe: Recipe, folder: Path, tensorboard: bool = False) -> None:
    """Train to the end of `recipe`, from the last checkpoint in `folder` if there is one; each epoch ends in one.

    With `tensorboard`, `folder/tensorboard` gets a log. Raises TrainingError where `folder` holds the training of
    another recipe.
    """
    _claim(folder, recipe)
    architecture, shown = NETWORKS[recipe.network], examples.shown(recipe.examples, recipe.short_more_often)
    total_steps = recipe.epochs * (len(shown) // BATCH_SIZE)
    network = read_checkpoint(folder) if checkpoint_of(folder).exists() else _start(recipe, total_steps)
    epochs = read_epochs(folder, finished_epochs(recipe, network))
    if len(epochs) == recipe.epochs:
        print(f"{folder} has come to its end: export it, or train into another folder")
        return
    queries, answers = task.query_tokens(task.queries()), task.tokens(architecture.truth(), network.output_shape[1])
    with tqdm(total=total_steps, initial=int(network.optimizer.iterations), unit="step", desc=recipe.network) as bar:
        callbacks = _callbacks(
            network, architecture.truth(), bar.update, folder / "tensorboard" if tensorboard else None
        )
        for epoch in range(len(epochs), recipe.epochs):
            batches = examples.batches(
                queries[shown], answers[shown], architecture.feeds_back, BATCH_SIZE, recipe.seed, epoch
            )
            fitted = network.fit(
                batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0, callbacks=callbacks
            )
            ended = Epoch(**{name: values[0] for name, values in fitted.history.items()})
            bar.write(
                f"epoch {epoch + 1}/{recipe.epochs}: loss {ended.loss:.6f}, "
                f"validation exact-match {ended.validation_exact_match:.3%}"
            )
            epochs.append(ended)
            _save(network, epochs, folder)


def exact_match(network: keras.Model, queries: task.Tokens, truth: task.Texts) -> float:
    """The share of queries, uint8 tokens [B, 7], whose truth, bytes [B], is answered in every character."""
    return float((answers(predict(network, queries)) == truth).mean())


def answers(probabilities: Probabilities) -> task.Texts:
    """Float32 [B, T, V] -> bytes [B]: the most probable characters, up to the first pad."""
    return task.spell(probabilities.argmax(-1).astype(np.uint8))


def predict(network: keras.Model, queries: task.Tokens) -> Probabilities:
    """Tokens uint8 [B, 7] -> probabilities float32 [B, T, V], by the Keras network.

    One that feeds back is run T times, each time on one character more of its own: free running.
    """
    ask = partial(network.predict, batch_size=1000, verbose=0)
    query, length = tf.one_hot(queries, len(task.ALPHABET)), network.output_shape[1]
    if len(network.inputs) == 1:
        return np.asarray(ask(query))
    chosen = np.full([len(queries), length + 1], task.PAD)  # one pad stands before the first character
    for position in range(length):
        probabilities = np.asarray(ask([query, tf.one_hot(chosen[:, :-1], len(task.ALPHABET))]))
        chosen[:, position + 1] = probabilities[:, position].argmax(-1)
    return probabilities


def _callbacks(
    network: keras.Model, truth: task.Texts, advance: Callable[[], object], tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    validation = examples.split().validation
    queries, right = task.query_tokens(task.queries()[validation]), truth[validation]
    measure = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: advance(),
        on_epoch_end=lambda _, logs: logs.update(validation_exact_match=exact_match(network, queries, right)),
    )
    return [measure] if tensorboard is None else [measure, keras.callbacks.TensorBoard(tensorboard, histogram_freq=1)]


def _start(recipe: Recipe, total_steps: int) -> keras.Model:
    keras.utils.set_random_seed(recipe.seed)
    network = NETWORKS[recipe.network].build(recipe.cell)
    warm_up = int(WARM_UP * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total_steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    # XLA is faster, and on one machine is deterministic to the bit (a test holds it to that); TensorFlow's own
    # enable_op_determinism would switch it off.
    network.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM, weight_decay=recipe.weight_decay or None),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        jit_compile=True,
    )
    return network


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write the recipe of a new training, or see that a begun one has the same."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "recipe.json").exists():
        if checkpoint_of(folder).exists():
            raise TrainingError(f"{folder} holds a training without its recipe.json: name another folder, or remove it")
        replace(folder / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
        return
    begun, origin = read_recipe(folder), {"command", "git_commit"}
    if begun.model_dump(exclude=origin) != recipe.model_dump(exclude=origin):
        raise TrainingError(f"{folder} holds another training ({begun.command}): name another folder, or remove it")


def _save(network: keras.Model, epochs: list[Epoch], folder: Path) -> None:
    """The epochs first: `read_epochs` drops those that the checkpoint does not have."""
    replace(folder / "epochs.json", EPOCHS.dump_json(epochs).decode())
    unfinished = folder / "unfinished.keras"
    network.save(unfinished)
    unfinished.replace(checkpoint_of(folder))
