"""The command line."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from training import TrainingError

# Before TensorFlow is imported. oneDNN, unless it is off, announces itself on stderr whatever the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# What each network can be made of, that of its source first.
CELLS_OF = {
    "repeat_vector": ["lstm", "gru", "simple_rnn"],
    "simple_rnn_classifier": ["simple_rnn"],
    "cho2014": ["gru"],
    "sutskever2014": ["lstm"],
}
examples_option = click.option(
    "--examples", type=click.IntRange(1024, 890_000), default=890_000, help="How many of the train pairs to use."
)


class Folder(click.Path):
    """A folder; no name at all is not the current one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As `click.Path` does. Raises click.BadParameter."""
        return super().convert(value, param, ctx) if value else self.fail("name a folder", param, ctx)


folder = Folder(file_okay=False, path_type=Path)


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train a network, export it as an artifact, and measure the artifact."""


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--network", type=click.Choice(list(CELLS_OF)), default="repeat_vector", help="Which network.")
@click.option("--cell", type=click.Choice(CELLS_OF["repeat_vector"]), help="By default that of the network's source.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=60,
    help="Passes over the train pairs; short queries are in each many times.",
)
@examples_option
@click.option("--seed", type=click.IntRange(0), default=1, help="Decides the first weights and the order.")
@click.option("--tensorboard", is_flag=True, help="Write a log for TensorBoard into CHECKPOINTS/tensorboard.")
def train(
    checkpoints: Path, network: str, cell: str | None, epochs: int, examples: int, seed: int, tensorboard: bool
) -> None:
    """Train into the folder CHECKPOINTS, or go on from where a training in it was broken off."""
    if cell is not None and cell not in CELLS_OF[network]:
        raise click.BadParameter(f"{network} is made of {', '.join(CELLS_OF[network])}", param_hint="--cell")
    from training import fit

    recipe = fit.todays_recipe(network, cell or CELLS_OF[network][0], seed, epochs, examples, command())
    fit.fit(recipe, checkpoints, tensorboard)


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--artifacts", type=folder, default="model_artifacts", help="Where versions are kept.")
@click.option("--name", required=True, help="The model that it is a version of.")
@click.option("--version", type=click.IntRange(1), help="By default the next one.")
def export(checkpoints: Path, artifacts: Path, name: str, version: int | None) -> None:
    """Export the network trained in CHECKPOINTS as a version that can be served."""
    from training import export

    click.echo(export.export(checkpoints, artifacts, name, version))


@cli.command()
@click.argument("artifact", type=folder)
def evaluate(artifact: Path) -> None:
    """Answer all 1,000,000 queries by the exported ARTIFACT, and write the count into its metadata."""
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
    click.echo(f"LiteRT: {evidence.lite_differs:,} other answers")


@cli.command()
@click.argument("artifact", type=folder)
@click.argument("checkpoints", type=folder)
@click.option("--epochs", type=click.IntRange(1), default=12, help="Of each training.")
@examples_option
def compare(artifact: Path, checkpoints: Path, epochs: int, examples: int) -> None:
    """Train the network of ARTIFACT in other ways, and write what each gave into the metadata of ARTIFACT."""
    from training import compare

    for tried in compare.compare(artifact, checkpoints, epochs, examples, command()):
        click.echo(
            f"{tried.name}: train {tried.train.wrong:,} wrong of {tried.train.queries:,}, "
            f"validation {tried.validation.wrong:,} of {tried.validation.queries:,}, smallest margin {tried.margin}"
        )


@cli.command()
@click.argument("artifact", type=folder)
def report(artifact: Path) -> None:
    """Write the model card of the evaluated ARTIFACT, with its pictures."""
    from training import report

    click.echo(report.report(artifact))


def command() -> str:
    """What was typed."""
    return shlex.join(["python", "-m", "training", *sys.argv[1:]])


def main() -> None:
    """Run the command line: what was asked for and cannot be done is one line on stderr."""
    try:
        cli(prog_name="python -m training")
    except (TrainingError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
