"""The command line of the package."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from training import TrainingError
from training.recipe import CELLS, EPOCHS, SEED, default_recipe

# Set before TensorFlow is imported. oneDNN prints a notice to stderr at every log level unless it is disabled.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

examples_option = click.option(
    "--examples", type=click.IntRange(1024, 890_000), default=890_000, help="Number of train pairs to use."
)


class Folder(click.Path):
    """The path of a folder. Rejects the empty string, which pathlib reads as the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as `click.Path` does. Raises click.BadParameter."""
        return super().convert(value, param, ctx) if value else self.fail("a folder name is required", param, ctx)


folder = Folder(file_okay=False, path_type=Path)


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train a network, export it as an artifact, and measure the artifact's accuracy."""


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--network", type=click.Choice(list(CELLS)), default="repeat_vector", help="Architecture to train.")
@click.option(
    "--cell", type=click.Choice(CELLS["repeat_vector"]), help="Recurrent cell; by default that of the network's source."
)
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, help="Number of epochs.")
@examples_option
@click.option("--seed", type=click.IntRange(0), default=SEED, help="Seed of the initial weights and the example order.")
@click.option("--tensorboard", is_flag=True, help="Write a TensorBoard log to CHECKPOINTS/tensorboard.")
def train(
    checkpoints: Path, network: str, cell: str | None, epochs: int, examples: int, seed: int, tensorboard: bool
) -> None:
    """Train a network with checkpoints in the folder CHECKPOINTS, or resume the training in it."""
    if cell is not None and cell not in CELLS[network]:
        raise click.BadParameter(f"{network} supports {', '.join(CELLS[network])}", param_hint="--cell")
    from training import fit

    recipe = default_recipe(network, cell or CELLS[network][0], seed, epochs, examples, typed_command())
    fit.fit(recipe, checkpoints, tensorboard)


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--artifacts", type=folder, default="model_artifacts", help="Folder of all artifacts.")
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", type=click.IntRange(1), help="Version of the model; by default the next one.")
def export(checkpoints: Path, artifacts: Path, name: str, version: int | None) -> None:
    """Export the trained network in CHECKPOINTS as a version of a model, and print its folder."""
    from training import export

    click.echo(export.export(checkpoints, artifacts, name, version))


@cli.command()
@click.argument("artifact", type=folder)
def evaluate(artifact: Path) -> None:
    """Run ARTIFACT on all 1,000,000 queries, and write the evidence of its accuracy into its metadata."""
    from training import evaluate

    evidence = evaluate.evaluate(artifact)
    click.echo(f"{evidence.domain.wrong:,} wrong of {evidence.domain.queries:,}")
    for name, part in [("train", evidence.train), ("validation", evidence.validation), ("held-out", evidence.held_out)]:
        click.echo(f"{name}: {part.wrong:,} wrong of {part.queries:,}, exact-match accuracy {part.exact_match:.4%}")
    for length, part in evidence.by_operand_length.items():
        click.echo(f"digits {length}: {part.wrong:,} wrong of {part.queries:,}")
    for carries, part in evidence.by_carries.items():
        click.echo(f"carries {carries}: {part.wrong:,} wrong of {part.queries:,}")
    click.echo(f"expected calibration error: {evidence.calibration_error}")
    click.echo(f"smallest margin: {evidence.margin.smallest} at {evidence.margin.query}")
    click.echo(f"LiteRT mismatches: {evidence.litert_mismatches:,}")


@cli.command()
@click.argument("artifact", type=folder)
@click.argument("checkpoints", type=folder)
@click.option("--epochs", type=click.IntRange(1), default=12, help="Number of epochs of each training.")
@examples_option
def compare(artifact: Path, checkpoints: Path, epochs: int, examples: int) -> None:
    """Run the ablations of ARTIFACT's recipe, and write their results into its metadata."""
    from training import compare

    for ablation in compare.compare(artifact, checkpoints, epochs, examples, typed_command()):
        train, validation = ablation.train, ablation.validation
        click.echo(
            f"{ablation.name}: train {train.wrong:,} wrong of {train.queries:,}, "
            f"validation {validation.wrong:,} of {validation.queries:,}, smallest margin {ablation.margin}"
        )


@cli.command()
@click.argument("artifact", type=folder)
def report(artifact: Path) -> None:
    """Write the model card of the evaluated ARTIFACT and its pictures, and print the card's path."""
    from training import report

    click.echo(report.report(artifact))


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
