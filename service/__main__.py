"""The command line: asks a running service."""

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Unpack

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from service.client.client import URL, Choice, Client, ClientError, HTTPStatusError, Options
from service.client.types import Character, Explanation, Prediction

COMPLETE = "_ADDER_COMPLETE"  # the variable by which a shell asks for completions
SHELLS: dict[str, tuple[type[ShellComplete], str]] = {  # and how click's script for each runs this command line
    "bash": (BashComplete, "bash_complete $1"),
    "zsh": (ZshComplete, "zsh_complete adder"),
    "fish": (FishComplete, "-t) adder"),
}


def _served(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What --model and --version can be completed with: what the service has, where one answers at once."""
    url, model = context.params.get("url") or URL, context.params.get("model")
    try:
        with Client(url, connect_seconds=0.5, answer_seconds=0.5, retries=0) as client:
            entries = client.models()
    except ClientError:
        return []
    if parameter.name == "model":
        known = [entry.name for entry in entries]
    else:
        known = [str(entry.version) for entry in entries if entry.name == (model or entries[0].name)]
    return [each for each in dict.fromkeys(known) if each.startswith(incomplete)]


url_option = click.option(
    "--url", envvar="ADDER_URL", show_envvar=True, default=URL, show_default=True, help="Where the service is."
)
model_option = click.option("--model", shell_complete=_served, help="Which model is asked; by default the first.")
version_option = click.option(
    "--version", type=click.IntRange(0), shell_complete=_served, help="Which version of it; by default the newest."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Ask a running service."""


@cli.command()
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True)
@url_option
@model_option
@version_option
@click.option("--characters", is_flag=True, help="Also each character's probability, and its runners-up.")
@click.option("--alternatives", type=click.IntRange(1, 10), help="Also so many of the most probable answers.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Print 'abstained' for an answer that has less.")
@click.option("--stream", is_flag=True, help="Print each character as soon as the network has written it.")
def ask(queries: tuple[str, ...], url: str, stream: bool, **options: Unpack[Options]) -> None:
    """Print the answer to each QUERY, one a line; '-' is for the queries on standard input, one a line.

    The line of a query that is refused is empty; the reason goes to standard error, and the exit status is 1.
    """
    if stream and (options["alternatives"] is not None or options["min_confidence"] is not None):
        raise click.UsageError("--stream knows neither --alternatives nor --min-confidence: leave it out")
    refused = False
    with Client(url) as client:
        if stream:
            answers = (_print_stream(client, query, **options) for query in _read(queries))
        else:
            answers = (_print(answer) for answer in client.predict_many(_read(queries), **options))
        for problem in answers:
            if problem is not None:
                click.echo()
                _print_error(problem)
                refused = True
    sys.exit(refused)


@cli.command()
@click.argument("query")
@url_option
@model_option
@version_option
def explain(query: str, url: str, **choice: Unpack[Choice]) -> None:
    """Print which character of QUERY matters to which of its answer.

    Each line hides one of the query's characters from the network; each column shows by how much the probability of one
    of the answer's then falls.
    """
    with Client(url) as client:
        _print_table(client.explain(query, **choice))


@cli.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print what gives SHELL the command 'adder', which is this command line, and completes it.

    \b
    bash, zsh:  eval "$(python -m service completion bash)"
    fish:       python -m service completion fish | source
    """
    root = Path(__file__).parent.parent
    command = f"PYTHONPATH={shlex.quote(str(root))} {shlex.quote(sys.executable)} -m service"
    kind, call = SHELLS[shell]
    # By `env`, which finds no functions, these scripts run what they complete; zsh's does nothing unless it is a file.
    script = kind(cli, {}, "adder", COMPLETE).source().replace(call, f"{call.rsplit(' ', 1)[0]} {command}")
    script = script.replace("(( ! $+commands[adder] )) && return 1", "")
    define = f"function adder; {command} $argv; end" if shell == "fish" else f'adder() {{ {command} "$@"; }}'
    click.echo(f"{define}\n{script}", nl=False)


def _read(queries: Iterable[str]) -> Iterator[str]:
    for query in queries:
        if query == "-" and sys.stdin is not None:  # closed by the shell
            yield from (line.decode(errors="replace").rstrip("\r\n") for line in sys.stdin.buffer)
        else:
            yield query


def _print(answer: Prediction | HTTPStatusError) -> HTTPStatusError | None:
    """Or give back what is no answer."""
    if isinstance(answer, HTTPStatusError):
        return answer
    click.echo("abstained" if answer.abstained else answer.answer)
    for character in answer.characters or ():
        _print_character(character)
    for alternative in answer.alternatives or ():
        click.echo(f"  {alternative.answer:4} {alternative.probability:9.4%}")
    return None


def _print_stream(client: Client, query: str, **options: Unpack[Options]) -> HTTPStatusError | None:
    """The same while the answer comes."""
    try:
        for item in client.stream(query, model=options["model"], version=options["version"]):
            if isinstance(item, Prediction):
                click.echo(item.answer if options["characters"] else "")
            elif options["characters"]:
                _print_character(item)
            else:
                click.echo(item.character.strip(), nl=False)
    except HTTPStatusError as refused:
        return refused
    return None


def _print_character(character: Character) -> None:
    others = "".join(f"   {_name(other.character)} {other.probability:.4%}" for other in character.runners_up)
    click.echo(f"  {_name(character.character):4} {character.probability:9.4%}{others}")


def _print_table(explanation: Explanation) -> None:
    click.echo("  " + "".join(f"{_name(character):>7}" for character in explanation.characters))
    for hidden, falls in zip(explanation.hidden, explanation.matrix, strict=True):
        click.echo(f"{hidden} " + "".join(f"{fall:7.2f}" for fall in falls))


def _name(character: str) -> str:
    return "end" if character == " " else character


def _print_error(error: Exception) -> None:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)


if __name__ == "__main__":
    try:
        cli(complete_var=COMPLETE)
    except (ClientError, OSError) as error:
        _print_error(error)
        sys.exit(1)
