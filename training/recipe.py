"""The hyper-parameters of a training, and the file that records them.

Imports no TensorFlow: the command line reads the defaults from here for `--help`.
adder/2 and the versions before it were trained by an earlier recipe, of 60 epochs in batches of 1024.
"""

import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

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
EPOCHS = 24
BATCH_SIZE = 512  # 1834 steps in an epoch of all train pairs of three-digit addition
LEARNING_RATE = 1e-2  # ten times Adam's default; stable because of warm-up and clipping
WARM_UP = 0.05  # share of all steps
CLIP_NORM = 1.0  # of the gradient of all weights together
SEED = 1  # of the initial weights and of the order of the examples


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


class Recipe(BaseModel):
    """The inputs that determine the weights on one machine, and the origin of the training: its command and commit.

    `examples` is the number of train queries of which none mirrors
    another; with `both_orders`, the mirrors are shown too. If `fresh`, each epoch draws as many new ones instead.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    task: str
    architecture: str = "repeat_vector"
    cell: str = "lstm"
    units: int = HIDDEN_UNITS
    reverse: bool = True
    seed: int = SEED
    epochs: int = EPOCHS
    examples: int
    fresh: bool = False
    both_orders: bool = True
    oversample_short: bool = True
    batch_size: int = BATCH_SIZE
    learning_rate: float = LEARNING_RATE
    decay: bool = True
    clip_norm: float | None = CLIP_NORM
    command: str
    git_commit: str = Field(default_factory=_git_commit)


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
