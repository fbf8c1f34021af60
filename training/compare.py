"""Ablations: train the default recipe again with one hyper-parameter changed."""

from pathlib import Path
from typing import Any

import numpy as np

from training import TrainingError, evaluate, examples, fit, metadata
from training.recipe import Recipe, default_recipe
from training.tasks import Task, find_task

ABLATIONS: dict[str, dict[str, Any]] = {  # the changed fields of the recipe, by the name of the ablation
    "default recipe": {},
    "no oversampling": {"oversample_short": False},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "label smoothing 0.01": {"label_smoothing": 0.01},
    "seed 2": {"seed": 2},
}


def compare(
    artifact: Path, task: Task | None, folder: Path, epochs: int, train_pairs: int | None, batch_size: int, command: str
) -> list[metadata.Ablation]:
    """Train each of `ABLATIONS` in a subfolder of `folder`, and write the results into the artifact's `metadata.json`.

    Each network is trained on `train_pairs` pairs and measured on all train and validation pairs. The held-out pairs
    are not used, so that they cannot influence the choice of a recipe. `task` is by default the artifact's.

    Raises TrainingError if `artifact` is incomplete or changed or was trained elsewhere, or if `folder` contains other
    trainings.
    """
    contents = metadata.read(artifact)
    if contents.provenance is None:
        raise TrainingError(f"{artifact} was trained elsewhere: it has no recipe to compare")
    task = task or find_task(contents.task.name)
    base = default_recipe(
        task=task.name,
        architecture=contents.architecture,
        cell=contents.provenance.cell,
        seed=contents.provenance.seed,
        epochs=epochs,
        examples=train_pairs or len(examples.split(task).train),
        batch_size=batch_size,
        command=command,
    )
    results = []
    for name, changes in ABLATIONS.items():
        recipe = base.model_copy(update=changes)
        checkpoints = folder / name.replace(" ", "-")
        fit.fit(recipe, checkpoints)
        results.append(_measure(name, recipe, task, checkpoints))
    # Read again: the trainings take hours, and another command may have changed the file.
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"ablations": results}))
    return results


def _measure(name: str, recipe: Recipe, task: Task, checkpoints: Path) -> metadata.Ablation:
    parts, network = examples.split(task), fit.read_checkpoint(checkpoints)
    train_answers = fit.answers(task, fit.predict(network, task, parts.train))
    probabilities = fit.predict(network, task, parts.validation)
    answers = fit.answers(task, probabilities)
    return metadata.Ablation(
        name=name,
        epochs=recipe.epochs,
        train=evaluate.measure(train_answers == task.answers(parts.train)),
        validation=evaluate.measure(answers == task.answers(parts.validation)),
        margin=round(float(np.min(evaluate.margins(answers, probabilities))), 4),
    )
