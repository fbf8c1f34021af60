"""The loop: optimizer, schedule, checkpoints, progress."""

import subprocess
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, TypeAdapter
from tqdm import tqdm

from training import TrainingError, examples, task
from training.networks import NETWORKS

BATCH_SIZE = 1024  # 869 steps an epoch of all train pairs
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
    command: str
    git_commit: str


class Epoch(BaseModel):
    """What an epoch ended with."""

    model_config = ConfigDict(strict=True, extra="forbid")

    loss: float
    validation_exact_match: float


HISTORY = TypeAdapter(list[Epoch])


def checkpoint_of(folder: Path) -> Path:
    """The Keras network, optimizer included, of the last finished epoch."""
    return folder / "network.keras"


def read_history(folder: Path) -> list[Epoch]:
    """What each epoch so far ended with."""
    file = folder / "epochs.json"
    return HISTORY.validate_json(file.read_bytes()) if file.exists() else []


def read_checkpoint(folder: Path) -> keras.Model:
    """Raises TrainingError where no epoch has been finished, or the file is damaged."""
    try:
        return keras.saving.load_model(checkpoint_of(folder))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{checkpoint_of(folder)} cannot be read; train again into another folder") from error


def read_recipe(folder: Path) -> Recipe:
    """Raises TrainingError where no training has begun."""
    try:
        return Recipe.model_validate_json((folder / "recipe.json").read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder} holds no training: run `python -m training train {folder}` first") from error


def git_commit() -> str:
    """The commit of this checkout, "-dirty" behind it where files differ from it; "unknown" outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607  git is found on the PATH
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def fit(recipe: Recipe, folder: Path) -> keras.Model:
    """Train to the end of `recipe`, from the last checkpoint in `folder` if there is one; each epoch ends in one.

    Raises TrainingError where `folder` holds the training of another recipe.
    """
    _claim(folder, recipe)
    architecture = NETWORKS[recipe.network]
    queries, answers = task.queries(), architecture.answers()
    split = examples.split(queries)
    shown = examples.shown(split, queries, recipe.examples)

    network = _resume(folder) or _start(recipe, len(shown) // BATCH_SIZE)
    query_tokens = task.query_tokens(queries)
    answer_tokens = task.tokens(answers, network.output_shape[1])
    steps, done = len(shown) // BATCH_SIZE, int(network.optimizer.iterations)
    epochs = read_history(folder)[: done // steps]
    with tqdm(total=recipe.epochs * steps, initial=done, unit="step", desc=recipe.network) as bar:
        progress = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: bar.update())
        for epoch in range(len(epochs), recipe.epochs):
            batches = examples.batches(
                query_tokens[shown], answer_tokens[shown], architecture.feeds_back, BATCH_SIZE, recipe.seed, epoch
            )
            loss = network.fit(batches, shuffle=False, verbose=0, callbacks=[progress]).history["loss"][0]
            exact = exact_match(network, query_tokens[split.validation], answers[split.validation])
            bar.write(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.6f}, validation exact-match {exact:.3%}")
            epochs.append(Epoch(loss=loss, validation_exact_match=exact))
            _save(network, epochs, folder)
    return network


def exact_match(network: keras.Model, queries: task.Tokens, answers: task.Texts) -> float:
    """The share of queries, tokens [B, 7], that are answered with every character right."""
    return float((task.spell(predict(network, queries).argmax(-1).astype(np.uint8)) == answers).mean())


def predict(network: keras.Model, queries: task.Tokens) -> Probabilities:
    """Tokens [B, 7] -> probabilities float32 [B, T, V], by the Keras network.

    One that feeds back is run T times, each time on one character more of its own: free running.
    """
    depth, inputs = len(task.ALPHABET), [tf.one_hot(queries, len(task.ALPHABET))]
    length = network.output_shape[1]
    if len(network.inputs) == 1:
        return np.asarray(network.predict(inputs[0], batch_size=1000, verbose=0))
    chosen = np.full([len(queries), length], task.PAD)
    for position in range(length):
        before = tf.one_hot(np.insert(chosen[:, :-1], 0, task.PAD, axis=1), depth)
        probabilities = np.asarray(network.predict([*inputs, before], batch_size=1000, verbose=0))
        chosen[:, position] = probabilities[:, position].argmax(-1)
    return probabilities


def _start(recipe: Recipe, steps_an_epoch: int) -> keras.Model:
    keras.utils.set_random_seed(recipe.seed)
    network = NETWORKS[recipe.network].build(recipe.cell)
    steps = recipe.epochs * steps_an_epoch
    warm_up = int(WARM_UP * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    # XLA halves the time, and on one machine is deterministic to the bit (a test holds it to that); TensorFlow's own
    # enable_op_determinism would switch it off.
    network.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM),
        loss="categorical_crossentropy",
        jit_compile=True,
    )
    return network


def _resume(folder: Path) -> keras.Model | None:
    return read_checkpoint(folder) if checkpoint_of(folder).exists() else None


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write the recipe of a new training, or see that a begun one has the same."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.json"
    if not file.exists():
        file.write_text(recipe.model_dump_json(indent=2) + "\n")
        return
    begun, decides = read_recipe(folder), {"network", "cell", "seed", "epochs", "examples"}
    if begun.model_dump(include=decides) != recipe.model_dump(include=decides):
        raise TrainingError(f"{folder} holds another training ({begun.command}): name another folder, or remove it")


def _save(network: keras.Model, epochs: list[Epoch], folder: Path) -> None:
    """The epochs first: `fit` drops those that the checkpoint does not have."""
    (folder / "epochs.json").write_bytes(HISTORY.dump_json(epochs))
    unfinished = folder / "unfinished.keras"
    network.save(unfinished)
    unfinished.replace(checkpoint_of(folder))
