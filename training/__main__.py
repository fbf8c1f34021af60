"""The command line."""

import os
import shlex
import sys
from pathlib import Path

import click

# Before TensorFlow is imported: its start-up remarks would stand between the lines of progress.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

folder = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train a network, export it as an artifact, and measure the artifact."""


@cli.command()
@click.argument("checkpoints", type=folder)
@click.option("--network", type=click.Choice(["repeat_vector"]), default="repeat_vector")
@click.option("--epochs", type=click.IntRange(1), default=60)
@click.option("--examples", type=click.IntRange(1024, 890_000), default=890_000, help="How many of the train pairs.")
@click.option("--seed", type=click.IntRange(0), default=1)
def train(checkpoints: Path, network: str, epochs: int, examples: int, seed: int) -> None:
    """Train into the folder CHECKPOINTS, or go on from where a training in it was broken off."""
    from training import fit

    command = shlex.join(["python", "-m", "training", *sys.argv[1:]])
    recipe = fit.Recipe(
        network=network, seed=seed, epochs=epochs, examples=examples, command=command, git_commit=fit.git_commit()
    )
    fit.fit(recipe, checkpoints)


if __name__ == "__main__":
    cli(prog_name="python -m training")
