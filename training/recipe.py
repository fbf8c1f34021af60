"""The hyper-parameters of a training, and the file that records them.

Imports no TensorFlow: the command line reads the defaults from here for `--help`.
Expected result of the defaults: 0 wrong answers in 1,000,000 queries (model_artifacts/adder/2).
"""

import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from training import TrainingError

# Architecture: the cells that each one supports. The first is the cell of its source, and the default.
CELLS = {
    "repeat_vector": ["lstm", "gru", "simple_rnn"],
    "simple_rnn_classifier": ["simple_rnn"],
    "cho2014": ["gru"],
    "sutskever2014": ["lstm"],
}
HIDDEN_UNITS = 128  # as in the tutorial

# Optimisation: Adam, with linear warm-up and cosine decay to zero.
EPOCHS = 60  # 80 minutes on two cores with other load
BATCH_SIZE = 1024  # 917 steps in an epoch of all train pairs of three-digit addition
LEARNING_RATE = 1e-2  # ten times Adam's default; stable because of warm-up and clipping
WARM_UP = 0.05  # share of all steps
CLIP_NORM = 1.0  # of the gradient of all weights together
WEIGHT_DECAY = 0.0  # 0.001 gives more wrong answers: see the ablations of adder/2
LABEL_SMOOTHING = 0.0  # 0.01 gives more wrong answers: see the ablations of adder/2
SEED = 1  # of the initial weights and of the order of the examples


class Recipe(BaseModel):
    """The inputs that determine the weights on one machine, and the origin of the training: its command and commit."""

    model_config = ConfigDict(strict=True, extra="forbid")

    task: str
    architecture: str
    cell: str
    seed: int
    epochs: int
    examples: int
    batch_size: int
    oversample_short: bool
    weight_decay: float
    label_smoothing: float
    command: str
    git_commit: str


def default_recipe(
    *, task: str, architecture: str, cell: str, seed: int, epochs: int, examples: int, batch_size: int, command: str
) -> Recipe:
    """Return the recipe of the committed models, at the commit of this checkout."""
    return Recipe(
        task=task,
        architecture=architecture,
        cell=cell,
        seed=seed,
        epochs=epochs,
        examples=examples,
        batch_size=batch_size,
        oversample_short=True,
        weight_decay=WEIGHT_DECAY,
        label_smoothing=LABEL_SMOOTHING,
        command=command,
        git_commit=_git_commit(),
    )


def read_recipe(folder: Path) -> Recipe:
    """Read `recipe.json`. Raises TrainingError if the folder contains no training, or the file is damaged."""
    file = folder / "recipe.json"
    try:
        return Recipe.model_validate_json(file.read_bytes())
    except ValueError as error:
        raise TrainingError(
            f"{file} is damaged, or written by another version of this package: train into another folder"
        ) from error
    except OSError as error:
        raise TrainingError(f"{folder} contains no training: run `python -m training train {folder}` first") from error


def _git_commit() -> str:
    """The commit of this checkout, with the suffix "-dirty" if files differ from it; "unknown" outside of git."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607  git is on the PATH
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
