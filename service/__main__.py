"""The command line: a client of a running service."""

import os
import re
import shlex
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
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
    InvalidURL,
    ModelSelector,
    Prediction,
    PredictOptions,
    TransportError,
)
from service.errors import ModelUnavailable
from service.models.serving import edit_serving, read_serving
from service.settings import Settings

COMPLETE_VARIABLE = "_ADDER_COMPLETE"  # the environment variable with which a shell requests completions
# click's completion script for each shell, and the end of the line in it that runs the command.
SHELLS: dict[str, tuple[type[ShellComplete], str]] = {
    "bash": (BashComplete, "bash_complete $1"),
    "zsh": (ZshComplete, "zsh_complete adder"),
    "fish": (FishComplete, "-t) adder"),
}


SIGNED = re.compile("-[^-a-zA-Z]")  # the start of a query: all names of options begin with a letter
MARK = "\0"  # before such a query, so that click takes it for no option; no argument of a process has this character


class QueryCommand(click.Command):
    """A command whose queries may begin with a sign. A word such as -x or --x remains an option, known or not."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Mark the words that begin with a sign, except values of options."""
        options = [option for option in self.params if isinstance(option, click.Option) and not option.is_flag]
        valued = {name for option in options for name in option.opts}
        marked = [
            MARK + word if SIGNED.match(word) and before not in valued else word
            for before, word in pairwise(["", *words])
        ]
        try:
            return super().parse_args(context, marked)
        except click.UsageError as error:
            raise click.UsageError(error.format_message().replace(MARK, ""), context) from error


def _query(word: str) -> str:
    return word.removeprefix(MARK)


def _default_url() -> str:
    port = os.environ.get("ADDER_PORT", "")
    # Kubernetes sets ADDER_PORT=tcp://10.0.0.1:8000 where a Service is named adder: this is no port.
    return f"http://127.0.0.1:{port}" if port.isascii() and port.isdecimal() else DEFAULT_URL


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete --model, --version and --label from the models of the service; return nothing if it does not respond."""
    url, model = context.params.get("url") or _default_url(), context.params.get("model")
    try:
        with Client(url, connect_seconds=0.5, answer_seconds=0.5, retries=0) as client:
            entries = client.models()
    except ClientError:
        return []
    chosen = [entry for entry in entries if entry.name == (model or entries[0].name)]
    match parameter.name:
        case "model":
            values = [entry.name for entry in entries]
        case "version":
            values = [str(entry.version) for entry in chosen]
        case _:
            values = [label for entry in chosen for label in entry.labels]
    return [value for value in dict.fromkeys(values) if value.startswith(incomplete)]


url_option = click.option(
    "--url",
    envvar="ADDER_URL",
    show_envvar=True,
    default=_default_url,
    show_default=f"{DEFAULT_URL}, or ADDER_PORT in place of 8000",
    help="URL of the service.",
)
model_option = click.option("--model", shell_complete=_complete, help="Name of the model; by default the service's.")
version_option = click.option(
    "--version",
    type=click.IntRange(0),
    shell_complete=_complete,
    help="Version of the model; by default its default.",
)
label_option = click.option("--label", shell_complete=_complete, help="Label of the version, in place of its number.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Query a running service."""


@cli.command(cls=QueryCommand)
@click.argument("queries", metavar="QUERY...", type=_query, nargs=-1, required=True)
@url_option
@model_option
@version_option
@label_option
@click.option("--characters", is_flag=True, help="Print each character's probability and runners-up too.")
@click.option("--alternatives", type=click.IntRange(1, 10), help="Print this many of the most probable answers too.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Print 'abstained' below this confidence.")
@click.option("--stream", is_flag=True, help="Print each character as soon as the model has decoded it.")
def ask(queries: tuple[str, ...], url: str, stream: bool, **options: Unpack[PredictOptions]) -> None:
    """Print the answer to each QUERY, one per line; '-' reads queries from standard input, one per line.

    If the service refuses each QUERY and accepts all together, with spaces between, they are one query.

    The line of a refused query is empty; the reason is printed to standard error, and the exit status is 1.
    """
    if stream and (options["alternatives"] is not None or options["min_confidence"] is not None):
        raise click.UsageError("--stream supports neither --alternatives nor --min-confidence: leave it out")
    refused = False
    with Client(url) as client:
        selector = ModelSelector(model=options["model"], version=options["version"], label=options["label"])
        read = _read(_joined(client, queries, **selector))
        if stream:
            errors = (_print_stream(client, query, **options) for query in read)
        else:
            errors = (_print_answer(answer) for answer in client.predict_many(read, **options))
        for error in errors:
            if error is not None:
                click.echo()
                _print_error(error)
                refused = True
    sys.exit(refused)


@cli.command(cls=QueryCommand)
@click.argument("query", type=_query)
@url_option
@model_option
@version_option
@label_option
def explain(query: str, url: str, **selector: Unpack[ModelSelector]) -> None:
    """Print how much each character of QUERY matters to each character of its answer.

    Each line hides one character of the query from the model; each column shows by how much the probability of one
    character of the answer then falls.
    """
    with Client(url) as client:
        _print_table(client.explain(query, **selector))


@cli.group()
def models() -> None:
    """Show the versions of the models, and choose by serving.json which of them answer."""


artifacts_option = click.option(
    "--artifacts",
    envvar="ADDER_ARTIFACTS",
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Settings.model_fields["artifacts"].default,
    show_default=True,
    help="Folder of the models.",
)


@models.command()
@url_option
def status(url: str) -> None:
    """Print each version that the service answers by, with its state, its labels and the reason."""
    with Client(url) as client:
        for entry in client.models():
            names = [*(["default"] if entry.is_default else []), *entry.labels]
            reason = f": {entry.reason}" if entry.reason else ""
            click.echo(" ".join([entry.name, str(entry.version), entry.state, *names]) + reason)


@models.command()
@click.argument("model")
@click.argument("label")
@click.argument("version", type=click.IntRange(0))
@artifacts_option
def label(model: str, label: str, version: int, artifacts: Path) -> None:
    """Give VERSION of MODEL the LABEL; the version that had it loses it. The label 'default' makes it the default."""
    folder = artifacts / model
    if label == "default":
        edit_serving(folder, default=version)
    else:
        edit_serving(folder, labels=read_serving(folder).labels | {label: version})
    click.echo(f"{model}: {label} is version {version}")


@models.command()
@click.argument("model")
@url_option
@artifacts_option
def rollback(model: str, url: str, artifacts: Path) -> None:
    """Make the version of MODEL before the default the default."""
    with Client(url) as client:
        entries = [entry for entry in client.models() if entry.name == model]
    default = next((entry.version for entry in entries if entry.is_default), -1)
    before = max((entry.version for entry in entries if entry.version < default), default=None)
    if before is None:
        raise click.ClickException(f"{url} serves no version of {model} before {max(default, 0)}")
    edit_serving(artifacts / model, default=before)
    click.echo(f"{model}: default is version {before}, and was {default}")


@cli.command(name="replay")
@click.argument("log", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="adder", show_default=True, help="Model whose queries are asked again.")
@click.option("--version", type=click.IntRange(0), required=True, help="Version that is asked.")
@click.option("--url", help="URL of a service that is asked; without it the version's folder is loaded.")
@artifacts_option
def replay_log(log: Path, model: str, version: int, url: str | None, artifacts: Path) -> None:
    """Ask a version the queries in the folder LOG (ADDER_PREDICTION_LOG) again, and compare its answers and their time.

    The exit status is 1 if fewer answers are right than were.
    """
    # These take half a second to import, and no other command requires them.
    from service.models.artifact import Artifact
    from service.models.native_stderr import capture_stderr
    from service.replay import read_log, replay
    from service.telemetry.accuracy import right_answer_of

    logged = read_log(log, model)
    with capture_stderr():
        artifact = Artifact.load(artifacts / model / str(version))

    def ask_artifact(query: str) -> str | None:
        is_query = artifact.metadata.task.pattern.fullmatch(query)
        return artifact.engine.predict([query])[0].answer if is_query else None

    with ExitStack() as stack:
        ask = ask_artifact
        if url is not None:
            client = stack.enter_context(Client(url))

            def ask(query: str) -> str | None:
                try:
                    return client.predict(query, model=model, version=version).answer
                except HTTPStatusError:
                    return None

        bar = stack.enter_context(click.progressbar(logged, label=f"{model} version {version}", file=sys.stderr))
        compared = replay(bar, ask, right_answer_of(artifact))
    for sentence in compared.sentences():
        click.echo(sentence)
    sys.exit(compared.right_now < compared.right_before)


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


def _joined(client: Client, words: Sequence[str], **selector: Unpack[ModelSelector]) -> Sequence[str]:
    """The words of one query that the shell has split, joined again, or else the words.

    The service decides, since its tasks differ: words are joined if it refuses each of them and accepts all together.
    """
    if len(words) == 1 or "-" in words:
        return words
    for answer in client.predict_many(words, **selector):
        if not isinstance(answer, HTTPStatusError):
            return words
    joined = " ".join(words)
    [answer] = client.predict_many([joined], **selector)
    return words if isinstance(answer, HTTPStatusError) else [joined]


def _read(queries: Iterable[str]) -> Iterator[str]:
    for query in queries:
        if query == "-" and sys.stdin is not None:  # None if the shell has closed it
            yield from _lines(sys.stdin.buffer)
        else:
            yield query


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file in UTF-8, without a byte order mark. Raises UnicodeError if the file looks like UTF-16."""
    for number, line in enumerate(file):
        if number == 0:
            if line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in line:
                raise UnicodeError("standard input looks like UTF-16 and not UTF-8: convert it, as by iconv -f UTF-16")
            line = line.removeprefix(BOM_UTF8)
        yield line.decode(errors="replace").rstrip("\r\n")


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
        for item in client.stream(query, model=options["model"], version=options["version"], label=options["label"]):
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
    unserved = isinstance(error, HTTPStatusError) and error.type == "/problems/not-found"  # a path in the URL
    is_url = unserved or isinstance(error, InvalidURL | TransportError)
    hint = " (--url or ADDER_URL names another URL)" if is_url else ""
    click.echo(f"error: {' '.join(str(error).split())}{hint}", err=True)


if __name__ == "__main__":
    try:
        cli(complete_var=COMPLETE_VARIABLE)
    except (ClientError, ModelUnavailable, OSError, UnicodeError) as error:
        _print_error(error)
        sys.exit(1)
