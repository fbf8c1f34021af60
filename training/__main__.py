"""The command line of the package."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any, TypedDict, Unpack

import click
from click.core import ParameterSource

from training import TrainingError
from training.recipe import BATCH_SIZE, CELLS, EPOCHS, SEED, Recipe, read_recipe
from training.study.comparisons import COMPARISONS
from training.tasks import Task, find_task
from training.tasks.addition import addition

# Set before TensorFlow is imported. oneDNN prints a notice to stderr at every log level unless it is disabled.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever keras.json says: the export requires it


class Folder(click.Path):
    """The path of a folder. Rejects the empty string, which pathlib reads as the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as `click.Path` does. Raises click.BadParameter."""
        return super().convert(value, param, ctx) if value else self.fail("a folder name is required", param, ctx)


class TaskName(click.ParamType[Task]):
    """The name of a task in training/tasks."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Task:
        """Find the task. Raises click.BadParameter."""
        try:
            return find_task(value)
        except TrainingError as error:
            self.fail(str(error), param, ctx)


folder = Folder(file_okay=False, path_type=Path)
task_option = click.option(
    "--task", type=TaskName(), show_default="the artifact's", help="Task of the artifact, by its name."
)


EXPLAINED = ("return_sequences", "repeat_vector", "time_distributed")  # the keys of training.explain.LAYERS
# By the option, the field of the recipe.
RECIPE_FIELDS = {name: name for name in ("task", "cell", "epochs", "examples", "batch_size", "seed")}
RECIPE_FIELDS["network"] = "architecture"


class TrainOptions(TypedDict):
    """The options of `train` that are fields of the recipe."""

    seed: int
    epochs: int
    batch_size: int


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train a network, export it as an artifact, and measure the artifact's accuracy."""


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--task", type=TaskName(), default="addition", help="Task to learn: a name from training/tasks.")
@click.option(
    "--digits", type=click.IntRange(2, 5), help="Learn to add numbers with up to so many digits. Instead of --task."
)
@click.option("--network", type=click.Choice(list(CELLS)), default="repeat_vector", help="Architecture to train.")
@click.option(
    "--cell", type=click.Choice(CELLS["repeat_vector"]), help="Recurrent cell; by default that of the network's source."
)
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, help="Number of epochs.")
@click.option(
    "--examples",
    type=click.IntRange(1),
    show_default="all; if there are too many, as many new ones in each epoch",
    help="Number of train pairs, each shown in both orders.",
)
@click.option("--batch-size", type=click.IntRange(1), default=BATCH_SIZE, help="Number of queries in a step.")
@click.option("--seed", type=click.IntRange(0), default=SEED, help="Seed of the initial weights and the example order.")
@click.option("--tensorboard", is_flag=True, help="Write a TensorBoard log to CHECKPOINTS/tensorboard.")
@click.pass_context
def train(
    context: click.Context,
    checkpoints: Path,
    task: Task,
    digits: int | None,
    network: str,
    cell: str | None,
    examples: int | None,
    tensorboard: bool,
    **options: Unpack[TrainOptions],
) -> None:
    """Train a network with checkpoints in the folder CHECKPOINTS, or resume the training in it.

    A training in CHECKPOINTS is resumed with its own options. With more --epochs it is extended, also behind its end:
    the learning rate goes on as in a training of so many epochs.
    """
    if digits is not None:
        if context.get_parameter_source("task") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--digits names a task: give it without --task")
        context.params["task"] = task = find_task(addition(digits).name)
        context.set_parameter_source("task", ParameterSource.COMMANDLINE)
    is_resumed = (checkpoints / "recipe.json").exists()
    if not is_resumed and cell is not None and cell not in CELLS[network]:
        raise click.BadParameter(f"{network} supports {', '.join(CELLS[network])}", param_hint="--cell")
    _import_fast_tensorflow()
    if is_resumed:
        from training import fit

        recipe, typed = read_recipe(checkpoints), _typed_fields(context)
        if typed:
            recipe = recipe.model_copy(update=typed | {"command": typed_command()})
        fit.fit(recipe, checkpoints, tensorboard)
        return
    from training import fit
    from training.examples import DRAWN, keys

    available = DRAWN["train"] if task.queries is None else len(keys(task, "train"))
    if examples is not None and examples > available:
        raise click.BadParameter(f"the task {task.name} has {available:,} train pairs", param_hint="--examples")
    recipe = Recipe(
        task=task.name,
        architecture=network,
        cell=cell or CELLS[network][0],
        examples=examples or available,
        fresh=task.queries is None and examples is None,
        command=typed_command(),
        **options,
    )
    fit.fit(recipe, checkpoints, tensorboard)


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--artifacts", type=folder, default="model_artifacts", help="Folder of all artifacts.")
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", type=click.IntRange(1), help="Version of the model; by default the next one.")
def export(checkpoints: Path, artifacts: Path, name: str, version: int | None) -> None:
    """Export the trained network in CHECKPOINTS as a version of a model, and print its folder."""
    from training import export

    click.echo(export.export_training(checkpoints, artifacts, name, version))


@cli.command()
@click.argument("artifact", type=folder)
@task_option
@click.option("--whole", is_flag=True, help="Ask all queries also if they are too many to hold; can be broken off.")
def evaluate(artifact: Path, task: Task | None, whole: bool) -> None:
    """Run ARTIFACT on all queries of its task, and write the evidence of its accuracy into its metadata.

    If these are too many to hold, as those of four digits, a sample is asked. Break --whole off with Ctrl-C: the same
    command goes on.
    """
    from training import evaluate

    evidence = (evaluate.evaluate_whole if whole else evaluate.evaluate)(artifact, task)
    click.echo(f"{evidence.domain.wrong:,} wrong of {evidence.domain.queries:,}{' in a sample' * evidence.is_sample}")
    for name, part in [("train", evidence.train), ("validation", evidence.validation), ("held-out", evidence.held_out)]:
        click.echo(f"{name}: {part.wrong:,} wrong of {part.queries:,}, exact-match accuracy {part.exact_match:.4%}")
    for name, groups in evidence.groups.items():
        for group, part in groups.items():
            click.echo(f"{name} {group}: {part.wrong:,} wrong of {part.queries:,}")
    click.echo(f"expected calibration error: {evidence.calibration_error}")
    click.echo(f"smallest margin: {evidence.margin.smallest} at {evidence.margin.query}")
    if evidence.litert_mismatches is not None:
        click.echo(f"LiteRT mismatches: {evidence.litert_mismatches:,}")


results_option = click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default="training/study/results.jsonl",
    help="File of all results, a line for each training.",
)


@cli.command()
@click.option(
    "--against",
    type=click.Choice(COMPARISONS),
    multiple=True,
    show_default="all, one after the other",
    help="Comparison to run. May be repeated.",
)
@results_option
@click.option("--checkpoints", type=folder, default=".checkpoints/study", help="Folder of the trainings' checkpoints.")
@click.option("--ray", "ray_address", metavar="ADDRESS", help="Run the trainings on this Ray cluster.")
def compare(against: tuple[str, ...], results: Path, checkpoints: Path, ray_address: str | None) -> None:
    """Train by our recipe and by others, and append a line to the results for each training.

    What is in the results is not trained again, and a training that was broken off goes on.
    """
    _import_fast_tensorflow()
    from training.study import compare

    compare.compare(list(against or COMPARISONS), results, checkpoints, ray_address)


@cli.command()
@results_option
@click.option("--artifact", type=folder, default="model_artifacts/adder/2", help="Version whose states are drawn.")
def study(results: Path, artifact: Path) -> None:
    """Write STUDY.md and its pictures beside the results, and print its path."""
    from training.study.write import write_study

    click.echo(write_study(results, artifact))


@cli.command()
@click.argument("artifact", type=folder)
@task_option
def report(artifact: Path, task: Task | None) -> None:
    """Write the model card of the evaluated ARTIFACT and its pictures, and print the card's path."""
    from training import report

    click.echo(report.report(artifact, task))


@cli.command()
@click.argument("layer", type=click.Choice(EXPLAINED))
def explain(layer: str) -> None:
    """Explain a layer of the Keras tutorial by running it on a query."""
    from training import explain

    click.echo(explain.explain(layer))


def _import_fast_tensorflow() -> None:
    """Import TensorFlow with oneDNN, which trains faster, and without its notice on stderr."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    stderr = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _typed_fields(context: click.Context) -> dict[str, Any]:
    """The fields of the recipe that the user typed."""
    typed = {
        field: context.params[option]
        for option, field in RECIPE_FIELDS.items()
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE
    }
    return typed | ({"task": typed["task"].name} if "task" in typed else {})


def typed_command() -> str:
    """Return the command line as the user typed it."""
    return shlex.join(["python", "-m", "training", *sys.argv[1:]])


def main() -> None:
    """Run the command line. A TrainingError or OSError is printed to stderr as one line, with exit code 1."""
    try:
        cli(prog_name="python -m training")
    except (TrainingError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
