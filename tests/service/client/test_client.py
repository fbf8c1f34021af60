"""The client before a false service."""

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest

from service.client.client import MANY_QUERIES, Client, HTTPStatusError, TransportError
from service.client.types import Alternative, Character, ModelVersion, Prediction, RunnerUp
from tests.conftest import ROOT
from tests.service.false_service import Connection, StubServer, body, document, hang_up, in_chunks

MODEL = {"name": "adder", "version": 2, "sha256": "ab"}
ANSWER = {"query": "123+456", "answer": "579", "confidence": 0.5, "model": MODEL}
PREDICTION = Prediction(
    query="123+456", answer="579", confidence=0.5, model=ModelVersion(name="adder", version=2, sha256="ab")
)
FIVE = {"character": "5", "probability": 0.9, "runners_up": [{"character": "6", "probability": 0.1}]}
FULL = {"type": "/problems/queue-full", "title": "Too many queries are waiting", "status": 503, "detail": "try again"}
INVALID = FULL | {
    "status": 422,
    "detail": "#/query: '1' is not a query",
    "errors": [{"pointer": "#/query", "detail": "'1' is not a query"}],
    "example": {"query": "123+456"},
}


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(server: StubServer) -> Iterator[Client]:
    with Client(server.url, answer_seconds=2, retries=2) as client:
        yield client


def test_a_prediction(server: StubServer, client: Client) -> None:
    server.answers = [document(ANSWER)]
    assert client.predict("123+456") == PREDICTION
    [asked] = server.asked
    assert (asked.command, asked.path, json.loads(asked.body)) == ("POST", "/predict", {"query": "123+456"})
    assert float(asked.headers["Request-Timeout"]) == 2


def test_all_that_can_be_asked_for(server: StubServer, client: Client) -> None:
    more = {"abstained": True, "characters": [FIVE], "alternatives": [{"answer": "579", "probability": 1}], "new": 1}
    server.answers = [document(ANSWER | more)]
    options: Any = {"model": "adder", "version": 2, "characters": True, "alternatives": 1, "min_confidence": 0.9}
    answer = client.predict("123+456", **options)
    assert answer.abstained
    assert answer.characters == [Character(character="5", probability=0.9, runners_up=[runner_up()])]
    assert answer.alternatives == [Alternative(answer="579", probability=1)]
    assert server.bodies() == [{"query": "123+456", **options}]


def runner_up() -> RunnerUp:
    return RunnerUp(character="6", probability=0.1)


def test_a_batch(server: StubServer, client: Client) -> None:
    bare = {name: value for name, value in ANSWER.items() if name != "model"}
    server.answers = [document({"predictions": [bare, bare], "model": MODEL})]
    assert client.predict_batch(["123+456", "123+456"], version=2) == [PREDICTION, PREDICTION]
    assert server.bodies() == [{"queries": ["123+456", "123+456"], "version": 2}]


def test_an_explanation(server: StubServer, client: Client) -> None:
    server.answers = [document(ANSWER | {"hidden": ["1"], "characters": ["5", " "], "matrix": [[0.5, -0.1]]})]
    explanation = client.explain("123+456")
    assert (explanation.hidden, explanation.characters) == (["1"], ["5", " "])
    assert explanation.matrix == [[0.5, -0.1]]


def test_the_models(server: StubServer, client: Client) -> None:
    server.answers = [
        document({"models": [MODEL | {"architecture": "lstm", "query_example": "1+1", "evidence": None}]})
    ]
    [entry] = client.models()
    assert (entry.name, entry.version, entry.query_example) == ("adder", 2, "1+1")


@pytest.mark.parametrize("failure", [hang_up, document(FULL, 503), document({}, 502)])
def test_it_asks_again(server: StubServer, client: Client, failure: Callable[[Connection], None]) -> None:
    server.answers = [failure, failure, document(ANSWER)]
    assert client.predict("123+456") == PREDICTION
    assert server.bodies() == [{"query": "123+456"}] * 3


def test_it_comes_again_when_it_is_told_to(server: StubServer, client: Client) -> None:
    server.answers = [document(FULL, 503, Retry_After=1), document(ANSWER)]
    begun = time.monotonic()
    client.predict("123+456")
    assert 1 <= time.monotonic() - begun < 2


@pytest.mark.parametrize(("status", "times"), [(503, 3), (504, 1), (422, 1), (404, 1), (500, 1)])
def test_what_is_asked_again_and_how_often(server: StubServer, client: Client, status: int, times: int) -> None:
    server.answers = [document(FULL | {"status": status}, status)]
    with pytest.raises(HTTPStatusError, match=r"^try again$") as refused:
        client.predict("123+456")
    assert refused.value.status == status
    assert len(server.asked) == times


def test_a_problem_is_an_exception_with_all_its_members(server: StubServer, client: Client) -> None:
    server.answers = [document(INVALID, 422)]
    with pytest.raises(HTTPStatusError) as refused:
        client.predict("1")
    problem = pickle.loads(pickle.dumps(refused.value))  # noqa: S301  # as it comes out of a process pool
    assert (problem.type, problem.title) == ("/problems/queue-full", "Too many queries are waiting")
    assert (problem.errors[0].pointer, problem.errors[0].detail) == ("#/query", "'1' is not a query")
    assert problem.example == {"query": "123+456"}
    assert str(problem) == problem.detail == "#/query: '1' is not a query"


@pytest.mark.parametrize(
    "answer",
    [
        body(b"<html>", Content_Type="text/html"),
        body(b"\xff"),
        document([ANSWER]),
        document({"answer": "579"}),
        document(ANSWER | {"confidence": "0.5"}),
        body(b"<html>", 500),
        document({"error": "no"}, 404),
        body(b"", 302, Location="/predict"),
        body(b"", 204),
        in_chunks(b" "),
        lambda connection: connection.begin(Content_Length=2),
        lambda connection: connection.begin(Content_Encoding="gzip", Content_Length=0),
        lambda connection: connection.wfile.write(b"SSH-2.0-x\r\n"),
    ],
)
def test_what_the_service_would_not_say(server: StubServer, answer: Callable[[Connection], None]) -> None:
    server.answers = [answer, document(ANSWER)]
    with Client(server.url, answer_seconds=0.1, retries=0) as client, pytest.raises(TransportError, match=server.url):
        client.predict("123+456")


def test_an_answer_without_end(server: StubServer) -> None:
    server.answers = [in_chunks(b" " * 2**20)]
    begun = time.monotonic()
    with Client(server.url, answer_seconds=20) as client, pytest.raises(TransportError, match="gave no end"):
        client.predict("1+1")
    assert time.monotonic() - begun < 10


def test_nobody_there() -> None:
    gone = StubServer()
    gone.server_close()
    with Client(gone.url, retries=1) as client, pytest.raises(TransportError, match=r"gave no answer: .*refused$"):
        client.predict("1+1")


def test_silence_has_a_limit(server: StubServer) -> None:
    server.answers = [lambda _: time.sleep(3)]
    begun = time.monotonic()
    with Client(server.url, answer_seconds=0.1, retries=0) as client, pytest.raises(TransportError, match="timed out"):
        client.predict("1+1")
    assert time.monotonic() - begun < 2


EVENT = b"event: character\ndata: " + json.dumps(FIVE).encode() + b"\n\n"
DONE = b"event: done\ndata: " + json.dumps(ANSWER).encode() + b"\n\n"
CHARACTER = Character(character="5", probability=0.9, runners_up=[runner_up()])


@pytest.mark.parametrize("how", ["chunked", "until the end of the connection"])
def test_characters_come_while_they_are_written(server: StubServer, client: Client, how: str) -> None:
    received = threading.Event()

    def answer(connection: Connection) -> None:
        headers = {"Transfer_Encoding": "chunked"} if how == "chunked" else {"Connection": "close"}
        connection.begin(200, **headers)
        for event in (EVENT, DONE, b""):
            connection.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if how == "chunked" else event)
            assert received.wait(5)

    server.answers = [answer]
    items = client.stream("123+456", model="adder")
    assert next(items) == CHARACTER
    received.set()
    assert list(items) == [PREDICTION]
    assert server.bodies() == [{"query": "123+456", "model": "adder"}]


def test_events_as_the_standard_has_them(server: StubServer, client: Client) -> None:
    odd = EVENT.replace(b", ", b",\ndata:").replace(b"event: ", b": hello\nid: 1\nevent:").replace(b"\n", b"\r\n")
    unknown = b"data: no name\n\nevent: news\ndata: x\n\nevent: character\n\nretry\n\n"
    server.answers = [in_chunks(odd[:30], odd[30:], unknown, DONE, b"")]
    assert list(client.stream("123+456")) == [CHARACTER, PREDICTION]


def test_a_problem_in_the_stream(server: StubServer, client: Client) -> None:
    server.answers = [in_chunks(EVENT, b"event: problem\ndata: " + json.dumps(FULL).encode() + b"\n\n", b"")]
    items = client.stream("123+456")
    assert next(items) == CHARACTER
    with pytest.raises(HTTPStatusError, match="try again"):
        next(items)


@pytest.mark.parametrize("rest", [b"", DONE[:-1], b"event: character\ndata: 5\n\n"])
def test_a_stream_that_breaks_off(server: StubServer, client: Client, rest: bytes) -> None:
    server.answers = [body(EVENT + rest)]
    items = client.stream("123+456")
    assert next(items) == CHARACTER
    with pytest.raises(TransportError):
        next(items)


def by_line(connection: Connection) -> None:
    asked = [json.loads(line) for line in connection.body.splitlines()]
    answers = [INVALID if each["query"] == "1" else ANSWER | {"query": each["query"]} for each in asked]
    body("\n".join(map(json.dumps, answers)).encode())(connection)


def test_many_queries_over_one_connection(server: StubServer, client: Client) -> None:
    server.answers = [by_line]
    queries = [f"{number}+1" for number in range(2 * MANY_QUERIES + 1)]
    assert [answer.query for answer in client.predict_many(queries) if isinstance(answer, Prediction)] == queries
    assert [asked.headers["Content-Type"] for asked in server.asked] == ["application/x-ndjson"] * 3
    assert server.connections == 1


def test_a_bad_one_of_many_is_told_in_its_place(server: StubServer, client: Client) -> None:
    server.answers = [by_line]
    first, bad, last = client.predict_many(["1+1", "1", "2+2"], characters=True, model=None)
    assert isinstance(first, Prediction)
    assert isinstance(bad, HTTPStatusError)
    assert bad.detail == INVALID["detail"]
    assert isinstance(last, Prediction)
    assert b'{"query": "1+1", "characters": true}\n' in server.asked[0].body


def test_queries_without_end(server: StubServer, client: Client) -> None:
    server.answers = [by_line]
    assert len(list(islice(client.predict_many(f"{number}+1" for number in count()), MANY_QUERIES + 1))) > MANY_QUERIES
    assert len(server.asked) == 2


@pytest.mark.parametrize("lines", [1, 3])
def test_more_or_fewer_answers_than_queries(server: StubServer, client: Client, lines: int) -> None:
    server.answers = [body((json.dumps(ANSWER).encode() + b"\n") * lines)]
    with pytest.raises(TransportError, match="2 queries"):
        list(client.predict_many(["1+1", "2+2"]))


def test_all_that_it_asks_goes_over_one_connection(server: StubServer, client: Client) -> None:
    server.answers = [document(ANSWER), document(FULL, 422), in_chunks(EVENT, DONE, b""), by_line, document(ANSWER)]
    client.predict("123+456")
    with pytest.raises(HTTPStatusError):
        client.predict("123+456")
    list(client.stream("123+456"))
    list(client.predict_many(["1+1"]))
    client.predict("123+456")
    assert server.connections == 1


def test_the_command_line_imports_little() -> None:
    heavy = "{'tensorflow', 'numpy', 'gevent', 'gunicorn', 'flask', 'ai_edge_litert'}"
    script = f"import sys, service.__main__; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True) == "set()\n"
