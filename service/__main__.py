"""The command line: a client of a running service."""

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Unpack

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from service.client import (
    DEFAULT_URL,
    Character,
    Client,
    ClientError,
    Explanation,
    HTTPStatusError,
    ModelSelector,
    Prediction,
    PredictOptions,
)

COMPLETE_VARIABLE = "_ADDER_COMPLETE"  # the environment variable with which a shell requests completions
# click's completion script for each shell, and the end of the line in it that runs the command.
SHELLS: dict[str, tuple[type[ShellComplete], str]] = {
    "bash": (BashComplete, "bash_complete $1"),
    "zsh": (ZshComplete, "zsh_complete adder"),
    "fish": (FishComplete, "-t) adder"),
}


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete --model and --version with the models of the service; return nothing if it does not respond."""
    url, model = context.params.get("url") or DEFAULT_URL, context.params.get("model")
    try:
        with Client(url, connect_seconds=0.5, answer_seconds=0.5, retries=0) as client:
            entries = client.models()
    except ClientError:
        return []
    if parameter.name == "model":
        values = [entry.name for entry in entries]
    else:
        values = [str(entry.version) for entry in entries if entry.name == (model or entries[0].name)]
    return [value for value in dict.fromkeys(values) if value.startswith(incomplete)]


url_option = click.option(
    "--url", envvar="ADDER_URL", show_envvar=True, default=DEFAULT_URL, show_default=True, help="URL of the service."
)
model_option = click.option("--model", shell_complete=_complete, help="Name of the model; by default the service's.")
version_option = click.option(
    "--version", type=click.IntRange(0), shell_complete=_complete, help="Version of the model; by default the newest."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Query a running service."""


@cli.command()
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True)
@url_option
@model_option
@version_option
@click.option("--characters", is_flag=True, help="Print each character's probability and runners-up too.")
@click.option("--alternatives", type=click.IntRange(1, 10), help="Print this many of the most probable answers too.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Print 'abstained' below this confidence.")
@click.option("--stream", is_flag=True, help="Print each character as soon as the model has decoded it.")
def ask(queries: tuple[str, ...], url: str, stream: bool, **options: Unpack[PredictOptions]) -> None:
    """Print the answer to each QUERY, one per line; '-' reads queries from standard input, one per line.

    The line of a refused query is empty; the reason is printed to standard error, and the exit status is 1.
    """
    if stream and (options["alternatives"] is not None or options["min_confidence"] is not None):
        raise click.UsageError("--stream supports neither --alternatives nor --min-confidence: leave it out")
    refused = False
    with Client(url) as client:
        if stream:
            errors = (_print_stream(client, query, **options) for query in _read(queries))
        else:
            errors = (_print_answer(answer) for answer in client.predict_many(_read(queries), **options))
        for error in errors:
            if error is not None:
                click.echo()
                _print_error(error)
                refused = True
    sys.exit(refused)


@cli.command()
@click.argument("query")
@url_option
@model_option
@version_option
def explain(query: str, url: str, **selector: Unpack[ModelSelector]) -> None:
    """Print how much each character of QUERY matters to each character of its answer.

    Each line hides one character of the query from the model; each column shows by how much the probability of one
    character of the answer then falls.
    """
    with Client(url) as client:
        _print_table(client.explain(query, **selector))


@cli.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print a script that gives SHELL the command 'adder', which is this command line, with completion.

    \b
    bash, zsh:  eval "$(python -m service completion bash)"
    fish:       python -m service completion fish | source
    """
    root = Path(__file__).parent.parent
    command = f"PYTHONPATH={shlex.quote(str(root))} {shlex.quote(sys.executable)} -m service"
    kind, call = SHELLS[shell]
    # click's scripts run the command by `env`, which finds no shell functions, and zsh's requires an executable file.
    script = kind(cli, {}, "adder", COMPLETE_VARIABLE).source().replace(call, f"{call.rsplit(' ', 1)[0]} {command}")
    script = script.replace("(( ! $+commands[adder] )) && return 1", "")
    define = f"function adder; {command} $argv; end" if shell == "fish" else f'adder() {{ {command} "$@"; }}'
    click.echo(f"{define}\n{script}", nl=False)


def _read(queries: Iterable[str]) -> Iterator[str]:
    for query in queries:
        if query == "-" and sys.stdin is not None:  # None if the shell has closed it
            yield from (line.decode(errors="replace").rstrip("\r\n") for line in sys.stdin.buffer)
        else:
            yield query


def _print_answer(answer: Prediction | HTTPStatusError) -> HTTPStatusError | None:
    """Print a prediction; return an error."""
    if isinstance(answer, HTTPStatusError):
        return answer
    click.echo("abstained" if answer.abstained else answer.answer)
    for character in answer.characters or ():
        _print_character(character)
    for alternative in answer.alternatives or ():
        click.echo(f"  {alternative.answer:4} {alternative.probability:9.4%}")
    return None


def _print_stream(client: Client, query: str, **options: Unpack[PredictOptions]) -> HTTPStatusError | None:
    """Print an answer while it is decoded; return an error."""
    try:
        for item in client.stream(query, model=options["model"], version=options["version"]):
            if isinstance(item, Prediction):
                click.echo(item.answer if options["characters"] else "")
            elif options["characters"]:
                _print_character(item)
            else:
                click.echo(item.character, nl=False)
    except HTTPStatusError as error:
        return error
    return None


def _print_character(character: Character) -> None:
    others = "".join(f"   {_name(other.character)} {other.probability:.4%}" for other in character.runners_up)
    click.echo(f"  {_name(character.character):4} {character.probability:9.4%}{others}")


def _print_table(explanation: Explanation) -> None:
    click.echo("  " + "".join(f"{_name(character):>7}" for character in explanation.characters))
    for hidden, falls in zip(explanation.hidden, explanation.matrix, strict=True):
        click.echo(f"{hidden} " + "".join(f"{fall:7.2f}" for fall in falls))


def _name(character: str) -> str:
    return character or "end"


def _print_error(error: Exception) -> None:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)


if __name__ == "__main__":
    try:
        cli(complete_var=COMPLETE_VARIABLE)
    except (ClientError, OSError) as error:
        _print_error(error)
        sys.exit(1)
