"""The comparisons of the study: the recipe of this package against others. Each training ends as a line of JSON."""

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
from pydantic import BaseModel, ConfigDict, ValidationError

from training import TrainingError, fit, metadata
from training.evaluate import measure
from training.examples import keys, queries_of
from training.metadata import Epoch
from training.recipe import Recipe
from training.study.comparisons import settings
from training.tasks import find_task

HELD_OUT = 50_000  # keys at most, asked in both orders


class Line(BaseModel):
    """The result of one training.

    `weights` is their number. `held_out` is the accuracy on held-out queries, and `characters` the share of right
    characters there; the end of an answer and what follows it count. `epochs` has both on the validation queries.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    recipe: Recipe
    weights: int
    epochs: list[Epoch]
    held_out: metadata.Part
    characters: float


def compare(comparisons: list[str], results: Path, folder: Path, ray_address: str | None = None) -> None:
    """Train what the comparisons require and `results` does not have yet, and append a line for each training.

    The checkpoints are in subfolders of `folder`: a training that was broken off goes on. With `ray_address`, the
    trainings are tasks of that Ray cluster. Raises TrainingError if `results` is damaged, or Ray is missing.
    """
    done = {identity(line.recipe) for line in read_lines(results)}
    wanted = {
        identity(recipe): recipe
        for comparison in comparisons
        for recipes in settings(comparison).values()
        for recipe in recipes
    }
    missing = [recipe for found, recipe in wanted.items() if found not in done]
    results.parent.mkdir(parents=True, exist_ok=True)
    print(f"{len(wanted) - len(missing)} of {len(wanted)} trainings are in {results}")
    lines = _on_ray(missing, folder, ray_address) if ray_address else (run(recipe, folder) for recipe in missing)
    for number, line in enumerate(lines, len(wanted) - len(missing) + 1):
        with results.open("a") as file:
            file.write(line.model_dump_json() + "\n")
        print(f"{number} of {len(wanted)}: {line.held_out.exact_match:.2%} of held-out answers are right", flush=True)


def run(recipe: Recipe, folder: Path) -> Line:
    """Train by the recipe in a subfolder of `folder`, or go on there, and measure the network."""
    task = find_task(recipe.task)
    checkpoints = folder / metadata.sha256(identity(recipe).encode())[:16]
    fit.fit(recipe, checkpoints)
    network = fit.read_checkpoint(checkpoints)
    queries = queries_of(task, keys(task, "held_out", HELD_OUT))
    exact, characters = fit.measure(network, task, queries, recipe.reverse)
    keras.utils.clear_session()
    return Line(
        recipe=recipe,
        weights=network.count_params(),
        epochs=fit.read_epochs(checkpoints, recipe.epochs),
        held_out=measure(exact),
        characters=round(characters, 6),
    )


def _on_ray(recipes: list[Recipe], folder: Path, address: str) -> Iterator[Line]:
    """Yield the lines in the order in which the cluster ends the trainings."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise TrainingError("Ray is missing: install training/requirements-ray.txt") from error
    ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}})
    train = ray.remote(lambda recipe: run(Recipe.model_validate_json(recipe), folder).model_dump_json())
    running = [train.remote(recipe.model_dump_json()) for recipe in recipes]
    while running:
        [ended], running = ray.wait(running)
        yield Line.model_validate_json(ray.get(ended))


def identity(recipe: Recipe) -> str:
    """Return what two trainings have in common if they give the same weights on one machine."""
    return recipe.model_dump_json(exclude={"command", "git_commit"})


def read_lines(results: Path) -> list[Line]:
    """Read the lines of a study; none if there is no file. The rest of a line whose writing was broken off is removed.

    Raises TrainingError if another line is damaged.
    """
    text = results.read_text() if results.exists() else ""
    whole, newline, rest = text.rpartition("\n")
    if rest:
        print(f"{results} ends with half a line, of a training that was broken off: it is removed", file=sys.stderr)
        metadata.write_atomically(results, whole + newline)
    lines = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            lines.append(Line.model_validate_json(line))
        except ValidationError as error:
            raise TrainingError(f"{results} is damaged in line {number}: remove the line, to train again") from error
    return lines
