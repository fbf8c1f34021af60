"""Ablations: train the default recipe again with one hyper-parameter changed."""

from pathlib import Path
from typing import Any

import numpy as np

from training import evaluate, examples, fit, metadata, task
from training.networks import ARCHITECTURES
from training.recipe import Recipe, default_recipe

ABLATIONS: dict[str, dict[str, Any]] = {  # the changed fields of the recipe, by the name of the ablation
    "default recipe": {},
    "no oversampling": {"oversample_short": False},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "label smoothing 0.01": {"label_smoothing": 0.01},
    "seed 2": {"seed": 2},
}


def compare(artifact: Path, folder: Path, epochs: int, train_pairs: int, command: str) -> list[metadata.Ablation]:
    """Train each of `ABLATIONS` in a subfolder of `folder`, and write the results into the artifact's `metadata.json`.

    Each network is trained on `train_pairs` pairs and measured on all train and validation pairs. The held-out pairs
    are not used, so that they cannot influence the choice of a recipe.

    Raises TrainingError if `artifact` is incomplete or changed, or if `folder` contains other trainings.
    """
    contents = metadata.read(artifact)
    cell, seed = contents.provenance.cell, contents.provenance.seed
    results = []
    for name, changes in ABLATIONS.items():
        recipe = default_recipe(contents.architecture, cell, seed, epochs, train_pairs, command)
        recipe = recipe.model_copy(update=changes)
        checkpoints = folder / name.replace(" ", "-")
        fit.fit(recipe, checkpoints)
        results.append(_measure(name, recipe, checkpoints))
    # Read again: the trainings take hours, and another command may have changed the file.
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"ablations": results}))
    return results


def _measure(name: str, recipe: Recipe, checkpoints: Path) -> metadata.Ablation:
    queries, targets, split = task.queries(), ARCHITECTURES[recipe.architecture].targets(), examples.split()
    network = fit.read_checkpoint(checkpoints)
    train_answers = fit.answers(fit.predict(network, task.tokenize_queries(queries[split.train])))
    probabilities = fit.predict(network, task.tokenize_queries(queries[split.validation]))
    answers = fit.answers(probabilities)
    return metadata.Ablation(
        name=name,
        epochs=recipe.epochs,
        train=evaluate.measure(train_answers == targets[split.train]),
        validation=evaluate.measure(answers == targets[split.validation]),
        margin=round(float(np.min(evaluate.margins(answers, probabilities))), 4),
    )
