"""The loop: optimizer, schedule, checkpoints, progress.

Expected: 60 epochs of all train pairs with seed 1 leave 2 of 1,000,000 queries wrong, both held out.
"""

import subprocess
import zipfile
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from pydantic import BaseModel, ConfigDict
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
    command: str
    git_commit: str

    @property
    def steps_per_epoch(self) -> int:
        """What does not fill a batch is left out."""
        return self.examples // BATCH_SIZE


def checkpoint_of(folder: Path) -> Path:
    """The Keras network, optimizer included, of the last finished epoch."""
    return folder / "network.keras"


def read_checkpoint(folder: Path) -> keras.Model:
    """Raises TrainingError where no epoch has been finished, or the file is damaged."""
    if not checkpoint_of(folder).exists():
        raise TrainingError(f"{folder} has no finished epoch: run `{read_recipe(folder).command}` to its end")
    try:
        return keras.saving.load_model(checkpoint_of(folder))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{checkpoint_of(folder)} cannot be read; train again into another folder") from error


def read_recipe(folder: Path) -> Recipe:
    """Raises TrainingError where no training has begun, or the file is damaged."""
    try:
        return Recipe.model_validate_json((folder / "recipe.json").read_bytes())
    except ValueError as error:
        raise TrainingError(f"{folder / 'recipe.json'} is damaged: train again into another folder") from error
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


def fit(recipe: Recipe, folder: Path) -> None:
    """Train to the end of `recipe`, from the last checkpoint in `folder` if there is one; each epoch ends in one.

    Raises TrainingError where `folder` holds the training of another recipe.
    """
    _claim(folder, recipe)
    queries, truth = task.domain()
    query_tokens, answer_tokens = task.query_tokens(queries), task.answer_tokens(truth)
    split = examples.split(queries)
    train = np.sort(split.train[: recipe.examples])  # as the shipped weights had it: the order of the domain

    network = read_checkpoint(folder) if checkpoint_of(folder).exists() else _start(recipe)
    done = int(network.optimizer.iterations)
    if done == recipe.epochs * recipe.steps_per_epoch:
        print(f"{folder} has come to its end: export it, or train into another folder")
        return
    with tqdm(total=recipe.epochs * recipe.steps_per_epoch, initial=done, unit="step", desc=recipe.network) as bar:
        progress = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: bar.update())
        for epoch in range(done // recipe.steps_per_epoch, recipe.epochs):
            batches = examples.batches(query_tokens[train], answer_tokens[train], BATCH_SIZE, recipe.seed, epoch)
            history = network.fit(batches, shuffle=False, verbose=0, callbacks=[progress])
            exact = exact_match(network, query_tokens[split.validation], truth[split.validation])
            loss = history.history["loss"][0]
            bar.write(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.6f}, validation exact-match {exact:.3%}")
            _save(network, folder)


def exact_match(network: keras.Model, queries: task.Tokens, truth: task.Texts) -> float:
    """The share of queries, uint8 tokens [B, 7], whose truth, bytes [B], is answered in every character."""
    return float((answers(predict(network, queries)) == truth).mean())


def answers(probabilities: Probabilities) -> task.Texts:
    """Float32 [B, 4, 12] -> bytes [B]: the most probable characters, up to the first pad."""
    return task.spell(probabilities.argmax(-1).astype(np.uint8))


def predict(network: keras.Model, queries: task.Tokens) -> Probabilities:
    """Tokens uint8 [B, 7] -> probabilities float32 [B, 4, 12], by the Keras network."""
    one_hot = tf.one_hot(queries, len(task.ALPHABET))
    return np.asarray(network.predict(one_hot, batch_size=1000, verbose=0))


def _start(recipe: Recipe) -> keras.Model:
    keras.utils.set_random_seed(recipe.seed)
    network = NETWORKS[recipe.network]()
    total_steps = recipe.epochs * recipe.steps_per_epoch
    warm_up = int(WARM_UP * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total_steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    # XLA is faster, and on one machine is deterministic to the bit (a test holds it to that); TensorFlow's own
    # enable_op_determinism would switch it off.
    network.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM),
        loss="categorical_crossentropy",
        jit_compile=True,
    )
    return network


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write the recipe of a new training, or see that a begun one has the same."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.json"
    if not file.exists():
        unfinished = folder / "unfinished.json"
        unfinished.write_text(recipe.model_dump_json(indent=2) + "\n")
        unfinished.replace(file)
        return
    begun, decides = read_recipe(folder), {"network", "seed", "epochs", "examples"}
    if begun.model_dump(include=decides) != recipe.model_dump(include=decides):
        raise TrainingError(f"{folder} holds another training ({begun.command}): name another folder, or remove it")


def _save(network: keras.Model, folder: Path) -> None:
    unfinished = folder / "unfinished.keras"
    network.save(unfinished)
    unfinished.replace(checkpoint_of(folder))
