"""The client with a stub server."""

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count, islice
from types import SimpleNamespace
from typing import Any

import pytest

from service.client import (
    Alternative,
    Character,
    Client,
    HTTPStatusError,
    ModelVersion,
    Prediction,
    RunnerUp,
    TransportError,
)
from service.client.client import QUERIES_PER_REQUEST
from tests.conftest import ROOT
from tests.service.client.stub_server import StubRequest, StubServer, disconnect, send, send_chunks, send_json

MODEL = {"name": "adder", "version": 2, "sha256": "ab"}
ANSWER = {"query": "123+456", "answer": "579", "confidence": 0.5, "model": MODEL}
PREDICTION = Prediction(
    query="123+456", answer="579", confidence=0.5, model=ModelVersion(name="adder", version=2, sha256="ab")
)
FIVE = {"character": "5", "probability": 0.9, "runners_up": [{"character": "6", "probability": 0.1}]}
CHARACTER = Character(character="5", probability=0.9, runners_up=[RunnerUp(character="6", probability=0.1)])
QUEUE_FULL = {"type": "/problems/queue-full", "title": "The queue is full", "status": 503, "detail": "try again"}
INVALID = {
    "type": "/problems/invalid",
    "title": "The request breaks a rule",
    "status": 422,
    "detail": "#/query: '1' is not a query",
    "errors": [{"pointer": "#/query", "detail": "'1' is not a query"}],
    "example": {"query": "123+456"},
}
CHARACTER_EVENT = b"event: character\ndata: " + json.dumps(FIVE).encode() + b"\n\n"
DONE_EVENT = b"event: done\ndata: " + json.dumps(ANSWER).encode() + b"\n\n"


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


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept between its retries."""
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=slept.append))
    return slept


def test_predict_sends_the_query_and_a_time_limit(server: StubServer, client: Client) -> None:
    server.responses = [send_json(ANSWER)]
    assert client.predict("123+456") == PREDICTION
    [sent] = server.requests
    assert (sent.command, sent.path, json.loads(sent.body)) == ("POST", "/predict", {"query": "123+456"})
    assert float(sent.headers["Request-Timeout"]) == 2


def test_predict_with_all_options(server: StubServer, client: Client) -> None:
    optional = {"abstained": True, "characters": [FIVE], "alternatives": [{"answer": "579", "probability": 1}]}
    server.responses = [send_json(ANSWER | optional | {"a field of a later release": 1})]
    options: Any = {"model": "adder", "version": 2, "characters": True, "alternatives": 1, "min_confidence": 0.9}
    prediction = client.predict("123+456", **options)
    assert prediction.abstained
    assert prediction.characters == [CHARACTER]
    assert prediction.alternatives == [Alternative(answer="579", probability=1)]
    assert server.bodies() == [{"query": "123+456", **options}]


def test_predict_batch(server: StubServer, client: Client) -> None:
    without_model = {name: value for name, value in ANSWER.items() if name != "model"}
    server.responses = [send_json({"predictions": [without_model, without_model], "model": MODEL})]
    assert client.predict_batch(["123+456", "123+456"], version=2) == [PREDICTION, PREDICTION]
    assert server.bodies() == [{"queries": ["123+456", "123+456"], "version": 2}]


def test_explain(server: StubServer, client: Client) -> None:
    server.responses = [send_json(ANSWER | {"hidden": ["1"], "characters": ["5", ""], "matrix": [[0.5, -0.1]]})]
    explanation = client.explain("123+456")
    assert (explanation.hidden, explanation.characters) == (["1"], ["5", ""])
    assert explanation.matrix == [[0.5, -0.1]]


def test_models(server: StubServer, client: Client) -> None:
    described = {"architecture": "lstm", "engine": "litert", "query_example": "1+1", "hint": "a sum", "truth": "sum"}
    server.responses = [send_json({"models": [MODEL | described | {"evidence": None, "later": "unknown"}]})]
    [entry] = client.models()
    assert (entry.name, entry.version, entry.query_example, entry.hint) == ("adder", 2, "1+1", "a sum")


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("failure", [disconnect, send_json(QUEUE_FULL, 503), send_json({}, 502)])
def test_a_failed_request_is_repeated(
    server: StubServer, client: Client, failure: Callable[[StubRequest], None]
) -> None:
    server.responses = [failure, failure, send_json(ANSWER)]
    assert client.predict("123+456") == PREDICTION
    assert server.bodies() == [{"query": "123+456"}] * 3


def test_the_pause_between_retries_is_retry_after(server: StubServer, client: Client, pauses: list[float]) -> None:
    server.responses = [send_json(QUEUE_FULL, 503, Retry_After=1), send_json(ANSWER)]
    client.predict("123+456")
    assert pauses == [1]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(("status", "requests"), [(503, 3), (504, 1), (422, 1), (404, 1), (500, 1)])
def test_which_statuses_are_retried(server: StubServer, client: Client, status: int, requests: int) -> None:
    server.responses = [send_json(QUEUE_FULL | {"status": status}, status)]
    with pytest.raises(HTTPStatusError, match=r"^try again$") as raised:
        client.predict("123+456")
    assert raised.value.status == status
    assert len(server.requests) == requests


def test_an_http_status_error_has_the_problem_and_pickles(server: StubServer, client: Client) -> None:
    server.responses = [send_json(INVALID, 422)]
    with pytest.raises(HTTPStatusError) as raised:
        client.predict("1")
    error = pickle.loads(pickle.dumps(raised.value))  # noqa: S301  # as a process pool does
    assert (error.type, error.title) == ("/problems/invalid", "The request breaks a rule")
    assert (error.errors[0].pointer, error.errors[0].detail) == ("#/query", "'1' is not a query")
    assert error.example == {"query": "123+456"}
    assert str(error) == error.detail == "#/query: '1' is not a query"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (send(b"<html>", Content_Type="text/html"), "unexpected response"),
        (send(b"\xff"), "unexpected response"),
        (send_json([ANSWER]), "unexpected response"),
        (send_json({"answer": "579"}), "unexpected response"),
        (send_json(ANSWER | {"confidence": "0.5"}), "unexpected response"),
        (send(b"<html>", 500), "status 500 without a problem document"),
        (send_json({"error": "no"}, 404), "status 404 without a problem document"),
        (send(b"", 302, Location="/predict"), "status 302 without a problem document"),
        (send(b"", 204), "status 204 without a problem document"),
        (lambda request: request.send_head(Content_Length=2), "no response"),
        (lambda request: request.send_head(Content_Encoding="gzip", Content_Length=0), "unexpected response"),
        (lambda request: request.wfile.write(b"SSH-2.0-x\r\n"), "no response"),
    ],
)
def test_a_response_of_another_server_is_a_transport_error(
    server: StubServer, response: Callable[[StubRequest], None], message: str
) -> None:
    server.responses = [response, send_json(ANSWER)]
    with (
        Client(server.url, answer_seconds=0.1, retries=0) as client,
        pytest.raises(TransportError, match=message) as raised,
    ):
        client.predict("123+456")
    assert server.url in str(raised.value)


def test_the_size_of_a_response_has_a_limit(server: StubServer) -> None:
    server.responses = [send_chunks(b" " * 2**20)]
    with (
        Client(server.url, answer_seconds=60) as client,
        pytest.raises(TransportError, match=f"from {server.url} exceeds 67108864 bytes or"),
    ):
        client.predict("1+1")


def test_the_time_of_a_response_has_a_limit(
    server: StubServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=0.1)  # each piece of the body takes so long
    monkeypatch.setattr("service.client.client.time", SimpleNamespace(monotonic=lambda: next(clock)))
    server.responses = [send_chunks(b" ")]
    with pytest.raises(TransportError, match=r"exceeds 67108864 bytes or 3 seconds$"):
        client.predict("1+1")
    assert next(clock) == pytest.approx(2 * 3, abs=0.5)


def test_a_refused_connection_is_a_transport_error() -> None:
    server = StubServer()
    server.server_close()
    with Client(server.url, retries=1) as client, pytest.raises(TransportError, match=r"^no response from .*refused$"):
        client.predict("1+1")


def test_a_silent_server_is_a_transport_error(server: StubServer) -> None:
    raised = threading.Event()

    def wait(_: StubRequest) -> None:
        raised.wait()

    server.responses = [wait]
    with Client(server.url, answer_seconds=0.1, retries=0) as client, pytest.raises(TransportError, match="timed out"):
        client.predict("1+1")
    raised.set()


@pytest.mark.parametrize("chunked", [True, False])
def test_stream_yields_each_character_as_it_arrives(server: StubServer, client: Client, chunked: bool) -> None:
    received = threading.Event()

    def respond(request: StubRequest) -> None:
        headers = {"Transfer_Encoding": "chunked"} if chunked else {"Connection": "close"}
        request.send_head(200, **headers)
        for event in (CHARACTER_EVENT, DONE_EVENT, b""):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
            assert received.wait(5)

    server.responses = [respond]
    items = client.stream("123+456", model="adder")
    assert next(items) == CHARACTER
    received.set()
    assert list(items) == [PREDICTION]
    assert server.bodies() == [{"query": "123+456", "model": "adder"}]


def test_events_are_parsed_by_the_html_standard(server: StubServer, client: Client) -> None:
    unusual = (
        CHARACTER_EVENT.replace(b", ", b",\ndata:")
        .replace(b"event: ", b": hello\nid: 1\nevent:")
        .replace(b"\n", b"\r\n")
    )
    unknown = b"data: no name\n\nevent: news\ndata: x\n\nevent: character\n\nretry\n\n"
    server.responses = [send_chunks(unusual[:30], unusual[30:], unknown, DONE_EVENT, b"")]
    assert list(client.stream("123+456")) == [CHARACTER, PREDICTION]


def test_a_problem_event_is_an_http_status_error(server: StubServer, client: Client) -> None:
    server.responses = [
        send_chunks(CHARACTER_EVENT, b"event: problem\ndata: " + json.dumps(QUEUE_FULL).encode() + b"\n\n", b"")
    ]
    items = client.stream("123+456")
    assert next(items) == CHARACTER
    with pytest.raises(HTTPStatusError, match="try again"):
        next(items)


@pytest.mark.parametrize("rest", [b"", DONE_EVENT[:-1], b"event: character\ndata: 5\n\n"])
def test_an_incomplete_stream_is_a_transport_error(server: StubServer, client: Client, rest: bytes) -> None:
    server.responses = [send(CHARACTER_EVENT + rest)]
    items = client.stream("123+456")
    assert next(items) == CHARACTER
    with pytest.raises(TransportError):
        next(items)


def answer_lines(request: StubRequest) -> None:
    queries = [json.loads(line)["query"] for line in request.body.splitlines()]
    lines = [INVALID if query == "1" else ANSWER | {"query": query} for query in queries]
    send("\n".join(map(json.dumps, lines)).encode())(request)


def test_predict_many_uses_one_connection(server: StubServer, client: Client) -> None:
    server.responses = [answer_lines]
    queries = [f"{number}+1" for number in range(2 * QUERIES_PER_REQUEST + 1)]
    assert [answer.query for answer in client.predict_many(queries) if isinstance(answer, Prediction)] == queries
    assert [sent.headers["Content-Type"] for sent in server.requests] == ["application/x-ndjson"] * 3
    assert server.connections == 1


def test_predict_many_yields_an_error_for_an_invalid_query(server: StubServer, client: Client) -> None:
    server.responses = [answer_lines]
    first, invalid, last = client.predict_many(["1+1", "1", "2+2"], characters=True, model=None)
    assert isinstance(first, Prediction)
    assert isinstance(invalid, HTTPStatusError)
    assert invalid.detail == INVALID["detail"]
    assert isinstance(last, Prediction)
    assert b'{"query": "1+1", "characters": true}\n' in server.requests[0].body


def test_predict_many_reads_only_the_queries_it_sends(server: StubServer, client: Client) -> None:
    server.responses = [answer_lines]
    answers = client.predict_many(f"{number}+1" for number in count())
    assert len(list(islice(answers, QUERIES_PER_REQUEST + 1))) > QUERIES_PER_REQUEST
    assert len(server.requests) == 2


@pytest.mark.parametrize("lines", [1, 3])
def test_predict_many_refuses_another_number_of_lines(server: StubServer, client: Client, lines: int) -> None:
    server.responses = [send((json.dumps(ANSWER).encode() + b"\n") * lines)]
    with pytest.raises(TransportError, match="2 queries"):
        list(client.predict_many(["1+1", "2+2"]))


def test_all_requests_use_one_connection(server: StubServer, client: Client) -> None:
    stream = send_chunks(CHARACTER_EVENT, DONE_EVENT, b"")
    server.responses = [send_json(ANSWER), send_json(INVALID, 422), stream, answer_lines, send_json(ANSWER)]
    client.predict("123+456")
    with pytest.raises(HTTPStatusError):
        client.predict("123+456")
    list(client.stream("123+456"))
    list(client.predict_many(["1+1"]))
    client.predict("123+456")
    assert server.connections == 1


def test_the_command_line_imports_no_heavy_package() -> None:
    heavy = "{'tensorflow', 'numpy', 'gevent', 'gunicorn', 'flask', 'ai_edge_litert'}"
    script = f"import sys, service.__main__; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True) == "set()\n"
