"""What other recipes give: today's recipe, trained again and again, each time with one thing changed."""

from pathlib import Path
from typing import Any

import numpy as np

from training import evaluate, examples, fit, metadata, task
from training.networks import NETWORKS

TRIALS: dict[str, dict[str, Any]] = {
    "nothing changed": {},
    "every query once an epoch": {"short_more_often": False},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "label smoothing 0.01": {"label_smoothing": 0.01},
    "seed 2": {"seed": 2},
}


def compare(artifact: Path, folder: Path, epochs: int, pairs: int, command: str) -> list[metadata.Tried]:
    """Train each of `TRIALS` in a folder of its own in `folder`, and write into the artifact's `metadata.json` what
    each gave on all train and validation pairs, whichever `pairs` of them it was shown. The held-out pairs have no part
    in it.

    Raises TrainingError where `artifact` is not a whole artifact, or `folder` holds other trainings.
    """
    described = metadata.read(artifact)
    made = described.made
    tried = []
    for name, changed in TRIALS.items():
        recipe = fit.todays_recipe(described.network, made.cell, made.seed, epochs, pairs, command)
        recipe = recipe.model_copy(update=changed)
        checkpoints = folder / name.replace(" ", "-")
        fit.fit(recipe, checkpoints)
        tried.append(_measure(name, recipe, checkpoints))
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"tried": tried}))
    return tried


def _measure(name: str, recipe: fit.Recipe, checkpoints: Path) -> metadata.Tried:
    queries, truth, split = task.queries(), NETWORKS[recipe.network].truth(), examples.split()
    network = fit.read_checkpoint(checkpoints)
    train = fit.answers(fit.predict(network, task.query_tokens(queries[split.train])))
    probabilities = fit.predict(network, task.query_tokens(queries[split.validation]))
    answers = fit.answers(probabilities)
    return metadata.Tried(
        name=name,
        epochs=recipe.epochs,
        train=evaluate.part(train == truth[split.train]),
        validation=evaluate.part(answers == truth[split.validation]),
        margin=round(float(np.min(evaluate.margins(answers, probabilities))), 4),
    )
