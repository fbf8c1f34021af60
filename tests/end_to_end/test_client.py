"""The client library and the command line against a real service."""

import io
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from service.client import Character, Client, HTTPStatusError, Prediction
from tests.conftest import ROOT
from tests.end_to_end.conftest import Service, free_port

COMMAND = [sys.executable, "-m", "service"]
PORT = free_port()  # nothing listens on it


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def test_every_option_of_a_prediction(client: Client) -> None:
    answer = client.predict("12 + 5", characters=True, alternatives=3, min_confidence=0.5)
    assert (answer.query, answer.answer, answer.abstained) == ("12+5", "17", False)
    assert answer.characters is not None
    assert [character.character for character in answer.characters] == ["1", "7", ""]
    assert answer.alternatives is not None
    assert answer.alternatives[0].answer == "17"
    assert answer.confidence == pytest.approx(answer.alternatives[0].probability, abs=1e-4)
    assert (answer.model.name, len(answer.model.sha256)) == ("adder", 64)


def test_a_model_and_a_version_are_selected(client: Client) -> None:
    assert client.predict("123+456", model="last-digit").answer == "9"
    assert client.predict("123+456", version=1).model.version == 1


def test_a_batch_is_answered_or_refused_with_every_error(client: Client) -> None:
    assert [answer.answer for answer in client.predict_batch(["1+2", "30+4"], characters=True)] == ["3", "34"]
    with pytest.raises(HTTPStatusError) as refused:
        client.predict_batch(["1-2", "30+4", "01+2"])
    assert [error.pointer for error in refused.value.errors] == ["#/queries/0", "#/queries/2"]


def test_many_queries(client: Client) -> None:
    queries = [f"{number % 1000}+{number // 7}" for number in range(5000)]
    for query, answer in zip(queries, client.predict_many(queries, characters=True), strict=True):
        assert isinstance(answer, Prediction)
        assert (answer.query, answer.answer) == (query, str(sum(map(int, query.split("+")))))


def test_a_stream_gives_the_same_as_a_prediction(client: Client) -> None:
    *characters, last = client.stream("123+456")
    answer = client.predict("123+456", characters=True)
    assert isinstance(last, Prediction)
    assert (last.answer, last.model) == (answer.answer, answer.model)
    assert answer.characters is not None
    for streamed, character in zip(characters, answer.characters, strict=True):
        assert isinstance(streamed, Character)
        assert streamed.character == character.character
        assert streamed.probability == pytest.approx(character.probability, abs=1e-4)


def test_an_explanation(client: Client) -> None:
    explanation = client.explain("12+5")
    assert (explanation.hidden, explanation.characters) == (list("12+5"), ["1", "7", ""])
    assert [len(row) for row in explanation.matrix] == [3, 3, 3, 3]


def test_the_models(client: Client) -> None:
    entries = client.models()
    assert {"adder", "last-digit"} <= {entry.name for entry in entries}
    for entry in entries:
        assert client.predict(entry.query_example, model=entry.name, version=entry.version).model.sha256 == entry.sha256


def test_the_time_limit_of_the_client_reaches_the_service(service: Service) -> None:
    with Client(service.url, answer_seconds=0.00001) as client, pytest.raises(HTTPStatusError) as refused:
        client.predict_batch(["123+456"] * 1000)
    assert refused.value.status == 504


class Ended(NamedTuple):
    """What a run of the command line left."""

    stdout: bytes
    stderr: bytes
    returncode: int


Run = Callable[..., Ended]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `python -m service` in this process, since a process of its own takes half a second to import."""

    def run_module(url: str, *arguments: str | bytes, stdin: bytes = b"") -> Ended:
        monkeypatch.setenv("ADDER_URL", url)
        monkeypatch.setattr(sys, "argv", ["service", *map(os.fsdecode, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("service", run_name="__main__", alter_sys=True)
        assert isinstance(ended.value.code, int)
        return Ended(*capfdbinary.readouterr(), ended.value.code)

    return run_module


@pytest.mark.parametrize(
    ("arguments", "stdin", "printed"),
    [
        (["123+456"], b"", b"579\n"),
        (["1+2", "30 + 4", "--model", "adder"], b"", b"3\n34\n"),
        (["1+2", "-"], b"2+2\r\n3+3", b"3\n4\n6\n"),
        (["123+456", "--model", "last-digit"], b"", b"9\n"),
        (["0+0", "--version", "1", "--min-confidence", "0.9"], b"", b"abstained\n"),
        (["123+456", "1+2", "--stream"], b"", b"579\n3\n"),
        (["12", "+", "30"], b"", b"42\n"),
        (["12", "+30", "--stream"], b"", b"42\n"),
        (["-"], b"\xef\xbb\xbf1+2\r\n3+3\r\n", b"3\n6\n"),
    ],
)
def test_answers_are_printed_one_a_line(
    service: Service, run: Run, arguments: list[str], stdin: bytes, printed: bytes
) -> None:
    done = run(service.url, "ask", *arguments, stdin=stdin)
    assert (done.stdout, done.stderr, done.returncode) == (printed, b"", 0)


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_characters_are_printed_with_their_runners_up(service: Service, run: Run, stream: list[str]) -> None:
    printed = run(service.url, "ask", "12+5", "--characters", *stream).stdout.decode().splitlines()
    assert "17" in printed
    assert [line.split()[0] for line in printed if line != "17"] == ["1", "7", "end"]
    assert all(line.count("%") == 4 for line in printed if line != "17")


def test_alternatives_are_printed_best_first(service: Service, run: Run) -> None:
    first, *others = run(service.url, "ask", "0+0", "--version", "1", "--alternatives", "3").stdout.split()
    assert first == others[0] == b"8"
    assert len(others) == 6


def test_an_explanation_is_printed_as_a_table(service: Service, run: Run) -> None:
    head, *rows = run(service.url, "explain", "12+5").stdout.decode().splitlines()
    assert head.split() == ["1", "7", "end"]
    assert [row.split()[0] for row in rows] == ["1", "2", "+", "5"]


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("bad", ["1-1", b"\xff+1", "1+1\n2"])
def test_a_bad_query_is_reported_and_the_rest_are_answered(
    service: Service, run: Run, bad: str | bytes, stream: list[str]
) -> None:
    done = run(service.url, "ask", bad, "123+456", *stream)
    assert (done.stdout, done.returncode) == (b"\n579\n", 1)
    assert done.stderr.startswith(b"error: #/query: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_words_that_are_no_query_together_stay_apart(service: Service, run: Run, stream: list[str]) -> None:
    done = run(service.url, "ask", "12", "-30", *stream)
    assert (done.stdout, done.returncode) == (b"\n\n", 1)
    assert done.stderr.count(b"\n") == 2


@pytest.mark.parametrize(
    "arguments",
    [["ask", "-3+5"], ["ask", "-3+5", "--version", "2"], ["ask", "--stream", "--", "-3+5"], ["explain", "-3+5"]],
)
def test_a_query_may_begin_with_a_sign(service: Service, run: Run, arguments: list[str]) -> None:
    done = run(service.url, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: #/query: ")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_reported_in_a_line(service: Service, run: Run, codec: str) -> None:
    done = run(service.url, "ask", "-", stdin="1+2\r\n3+4\r\n".encode(codec))
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr.startswith(b"error: standard input looks like UTF-16")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"http://127.0.0.1:{PORT}", f"no response from http://127.0.0.1:{PORT}: "),
        (f"127.0.0.1:{PORT}", f"no response from http://127.0.0.1:{PORT}: "),
        ("http://x.invalid", "no response from http://x.invalid: "),
        ("http://[", "'http://[' is not the URL of a service"),
    ],
)
@pytest.mark.parametrize("command", ["ask", "explain"])
def test_an_unreachable_service_is_reported_in_a_line(run: Run, url: str, error: str, command: str) -> None:
    done = run(url, command, "1+1")
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr.startswith(f"error: {error}".encode())
    assert done.stderr.endswith(b" (--url or ADDER_URL names another URL)\n")
    assert done.stderr.count(b"\n") == 1


def test_a_path_that_is_not_served_is_reported_in_a_line(service: Service, run: Run) -> None:
    done = run(f"{service.url}/predict", "ask", "1+1")
    assert done.stderr.startswith(b"error: POST /predict/predict/batch is not served")
    assert done.stderr.endswith(b" (--url or ADDER_URL names another URL)\n")


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"ADDER_PORT": "18600"}, "http://127.0.0.1:18600"),
        ({"ADDER_PORT": "18600", "ADDER_URL": "adder:1"}, "adder:1"),
        ({"ADDER_PORT": "18600", "ADDER_URL": ""}, "http://127.0.0.1:18600"),
        ({"ADDER_PORT": ""}, "http://127.0.0.1:8000"),
        ({"ADDER_PORT": "tcp://10.0.0.1:8000"}, "http://127.0.0.1:8000"),
        ({"ADDER_PORT": "²"}, "http://127.0.0.1:8000"),
    ],
)
@pytest.mark.parametrize("command", ["ask", "explain"])
def test_the_url_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, command: str
) -> None:
    for name in ("ADDER_URL", "ADDER_PORT"):
        monkeypatch.setenv(name, variables[name]) if name in variables else monkeypatch.delenv(name, raising=False)
    cli = runpy.run_module("service", run_name="imported")["cli"]
    with cli.commands[command].make_context(command, ["1+1"]) as context:
        assert context.params["url"] == url


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["ask", "1+1", "--alternatives", "11"],
        ["ask", "1+1", "--min-confidence", "2"],
        ["ask", "1+1", "--version", "one"],
        ["ask", "1+1", "--stream", "--alternatives", "2"],
        ["ask", "1+1", "--verison", "2"],
        ["ask", "-3+5", "-x"],
        ["explain", "-3+5", "-4"],
        ["explain", "1+1", "2+2"],
        ["completion", "csh"],
    ],
)
def test_bad_arguments_print_the_usage(service: Service, run: Run, arguments: list[str]) -> None:
    done = run(service.url, *arguments)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert b"Usage: " in done.stderr
    assert b"\0" not in done.stderr


def test_a_closed_pipe_ends_the_command_line(service: Service) -> None:
    script = f"yes 1+1 | {shlex.join(COMMAND)} ask - --url {service.url} | head -1"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True)
    assert (done.stdout, done.stderr) == (b"2\n", b"")


def test_an_interrupt_ends_the_command_line(service: Service) -> None:
    command = [*COMMAND, "ask", "-", "--url", service.url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as asking:
        assert asking.stdin is not None
        assert asking.stdout is not None
        asking.stdin.write(b"1+1\n" * 10_000)
        asking.stdin.flush()
        assert asking.stdout.readline() == b"2\n"
        asking.send_signal(signal.SIGINT)
        _, stderr = asking.communicate(timeout=20)
    assert asking.returncode == 1
    assert b"Traceback" not in stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("adder ''", {"ask", "explain", "models", "replay", "completion"}),
        ("adder ask --al", {"--alternatives"}),
        ("adder ask --model l", {"last-digit"}),
        ("adder explain --version ''", {"1", "2"}),
        ("adder ask --model cho2014 --version ''", {"1"}),
        (f"adder ask --url http://127.0.0.1:{PORT} --model ''", set()),
    ],
)
def test_bash_completes(service: Service, run: Run, words: str, completed: set[str]) -> None:
    script = run(service.url, "completion", "bash").stdout.decode() + (
        f"cd /; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        'eval "$(complete -p adder | sed -E "s/.*-F (\\S+).*/\\1/") adder"; echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"ADDER_URL": service.url}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert (set(done.stdout.split()), done.stderr) == (completed, "")


def test_the_shell_function_runs_the_command_line(service: Service, run: Run) -> None:
    script = run(service.url, "completion", "bash").stdout.decode() + f"cd /; adder ask 1+2 --url {service.url}"
    assert subprocess.check_output(["bash", "-c", script]) == b"3\n"
