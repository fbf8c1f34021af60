"""The client with a stub server."""

import json
import pickle
import re
import subprocess
import sys
import threading
import time
import zlib
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
    InvalidURL,
    Layers,
    ModelVersion,
    Prediction,
    RunnerUp,
    TransportError,
)
from service.client.client import QUERIES_PER_REQUEST
from tests.conftest import ROOT
from tests.service.client.stub_server import (
    StubRequest,
    StubServer,
    disconnect,
    send,
    send_chunks,
    send_endless,
    send_json,
)

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
    monkeypatch.setattr("service.client.transport.time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    return slept


class Clock:
    """The client's clock, which goes on by half a second with each look at it."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.5
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("service.client.transport.time", clock)
    return clock


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


def test_a_query_may_come_back_without_its_spaces(server: StubServer, client: Client) -> None:
    server.responses = [send_json(ANSWER)]
    assert client.predict(" 123 + 456") == PREDICTION


def test_explain(server: StubServer, client: Client) -> None:
    server.responses = [send_json(ANSWER | {"hidden": ["1"], "characters": ["5", ""], "matrix": [[0.5, -0.1]]})]
    explanation = client.explain("123+456")
    assert (explanation.hidden, explanation.characters) == (["1"], ["5", ""])
    assert explanation.matrix == [[0.5, -0.1]]


def test_explain_with_layers(server: StubServer, client: Client) -> None:
    layers = {"alphabet": ["5", ""], "repeated": [0.5], "states": [[1.5], [-1]], "probabilities": [[1, 0], [0, 1]]}
    explanation = {"hidden": ["1"], "characters": ["5", ""], "matrix": [[0.5, -0.1]], "layers": layers}
    server.responses = [send_json(ANSWER | explanation)]
    assert client.explain("123+456", layers=True, version=2).layers == Layers(**layers)  # type: ignore[arg-type]
    assert server.bodies() == [{"query": "123+456", "layers": True, "version": 2}]


def test_models(server: StubServer, client: Client) -> None:
    described: dict[str, object] = {"architecture": "lstm", "engine": "litert", "truth": "sum"}
    described |= {"query_example": "1+1", "hint": "a sum"}
    described |= {"is_default": True, "labels": [], "state": "available", "reason": None}
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


def test_the_pause_is_retry_after_and_a_little_more(server: StubServer, client: Client, pauses: list[float]) -> None:
    server.responses = [send_json(QUEUE_FULL, 503, Retry_After=4)] * 2 + [send_json(ANSWER)]
    client.predict("123+456")
    assert len(set(pauses)) == 2
    assert all(4 <= pause <= 5 for pause in pauses)


@pytest.mark.parametrize("response", [disconnect, send_json(QUEUE_FULL, 503)])
def test_the_pause_without_retry_after_grows(
    server: StubServer, client: Client, pauses: list[float], response: Callable[[StubRequest], None]
) -> None:
    server.responses = [response, response, send_json(ANSWER)]
    client.predict("123+456")
    assert pauses[0] <= 0.125 < pauses[1] <= 0.25
    assert pauses[0] > 0 or response is disconnect


@pytest.mark.parametrize("retry_after", ["11", "9" * 4000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_long_retry_after_ends_the_tries(
    server: StubServer, client: Client, pauses: list[float], retry_after: str
) -> None:
    server.responses = [send_json(QUEUE_FULL, 503, Retry_After=retry_after)]
    with pytest.raises(HTTPStatusError, match="try again"):
        client.predict("123+456")
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    "retry_after",
    ["9" * 5000, "Fri, 99 Dec 99999 00:00:00 GMT", "1 Dec  a.b 12.3.4 -9999999999 1:2", "soon", "-1", "1.5", "NaN", ""],
)
def test_a_retry_after_that_is_none_is_ignored(
    server: StubServer, client: Client, pauses: list[float], retry_after: str
) -> None:
    server.responses = [send_json(QUEUE_FULL, 503, Retry_After=retry_after), send_json(ANSWER)]
    assert client.predict("123+456") == PREDICTION
    assert max(pauses) < 1


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
        (send_json(ANSWER | {"confidence": "0.5"}), "unexpected response .*: confidence: "),
        (send_json(ANSWER | {"confidence": float("nan")}), "unexpected response"),
        (send_json(ANSWER | {"confidence": float("inf")}), "unexpected response"),
        (send_json(ANSWER | {"confidence": -0.5}), "unexpected response"),
        (send_json(ANSWER | {"confidence": 2}), "unexpected response"),
        (send_json(ANSWER | {"characters": [FIVE | {"probability": float("nan")}]}), "unexpected response"),
        (send_json(ANSWER | {"alternatives": [{"answer": "5", "probability": 7}]}), "unexpected response"),
        (send_json(ANSWER | {"query": "1+1"}), r"answered '1\+1' for the query '123\+456'"),
        (send(b"<html>", 500), "status 500 without a problem document"),
        (send_json({"error": "no"}, 404), "status 404 without a problem document"),
        (send(b"", 302, Location="/predict"), "status 302 without a problem document"),
        (send(b"", 302, Location="http://["), "status 302 without a problem document"),
        (send(b"", 204), "status 204 without a problem document"),
        (lambda request: request.send_head(Content_Length=2), "no response"),
        (send(b"", Content_Encoding="gzip"), "unexpected response"),
        (send(b"{}", Content_Encoding="gzip"), "no response"),
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


@pytest.mark.parametrize("change", [{"matrix": [[float("nan")]]}, {"matrix": []}, {"matrix": [[]]}, {"query": "1+1"}])
def test_an_explanation_that_cannot_be_is_an_error(server: StubServer, client: Client, change: dict[str, Any]) -> None:
    server.responses = [send_json(ANSWER | {"hidden": ["1"], "characters": ["5"], "matrix": [[0.5]]} | change)]
    with pytest.raises(TransportError):
        client.explain("123+456")


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], "0 predictions for 2 queries"),
        (["1+1"], "1 predictions for 2 queries"),
        (["1+1", "2+2", "2+2"], "3 predictions for 2 queries"),
        (["2+2", "1+1"], "answered '2.2' for the query '1.1'"),
    ],
)
def test_a_batch_of_other_predictions_is_an_error(
    server: StubServer, client: Client, queries: list[str], message: str
) -> None:
    predictions = [{"query": query, "answer": "2", "confidence": 1} for query in queries]
    server.responses = [send_json({"predictions": predictions, "model": MODEL})]
    with pytest.raises(TransportError, match=message):
        client.predict_batch(["1+1", "2+2"])


def test_the_size_of_a_response_has_a_limit(server: StubServer) -> None:
    server.responses = [send_chunks(b" " * 2**20)]
    with (
        Client(server.url, answer_seconds=60) as client,
        pytest.raises(TransportError, match=f"from {server.url}: the response is larger than 67108864 bytes"),
    ):
        client.predict("1+1")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIPPED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\0"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nA: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED, b"0"),
        (GZIPPED, b"\0\0\0\xff\xff"),
        (b"HTTP/1.1 422 No\r\n\r\n", b" "),
        (b"HTTP/1.1 503 No\r\n\r\n", b" "),
    ],
    ids=["continue", "header", "body", "chunks", "size of a chunk", "empty gzip", "problem", "problem of a try"],
)
def test_the_time_of_a_response_has_a_limit(server: StubServer, start: bytes, endless: bytes) -> None:
    server.responses = [send_endless(start, endless)]
    with (
        Client(server.url, answer_seconds=2, retries=0) as client,
        pytest.raises(TransportError, match=f"^no response from {server.url}: timed out after 3 seconds$"),
    ):
        client.predict("1+1")


def test_a_request_whose_time_is_over_is_not_repeated(server: StubServer, client: Client, clock: Clock) -> None:
    server.responses = [send_endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")]
    with pytest.raises(TransportError, match="timed out after 3 seconds"):
        client.predict("1+1")
    assert len(server.requests) == 1
    assert clock.now < 6


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


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
@pytest.mark.parametrize("chunked", [True, False])
def test_stream_yields_each_character_as_it_arrives(
    server: StubServer, client: Client, chunked: bool, encoding: str
) -> None:
    received = threading.Event()

    def respond(request: StubRequest) -> None:
        headers = {"Transfer_Encoding": "chunked"} if chunked else {"Connection": "close"}
        request.send_head(200, Content_Encoding=encoding, **headers)
        compressor = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        for event in (CHARACTER_EVENT, DONE_EVENT):
            piece = event
            if encoding != "identity":
                piece = compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            assert received.wait(5)
        request.wfile.write(b"0\r\n\r\n" if chunked else b"")

    server.responses = [respond]
    items = client.stream("123+456", model="adder")
    assert next(items) == CHARACTER
    received.set()
    assert list(items) == [PREDICTION]
    assert server.bodies() == [{"query": "123+456", "model": "adder"}]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_responses_are_decompressed(server: StubServer, client: Client, encoding: str) -> None:
    def compressed(content: bytes, status: int = 200) -> Callable[[StubRequest], None]:
        content = zlib.compress(content, wbits=31 if encoding == "gzip" else 15)
        return send(content, status, Content_Encoding=encoding)

    answer = json.dumps(ANSWER).encode()
    server.responses = [
        compressed(answer),
        compressed(answer + b"\n" + answer),
        compressed(b'{"models": []}'),
        compressed(json.dumps(INVALID).encode(), 422),
    ]
    assert client.predict("123+456") == PREDICTION
    assert list(client.predict_many(["123+456"] * 2)) == [PREDICTION] * 2
    assert client.models() == []
    with pytest.raises(HTTPStatusError):
        client.predict("1")
    assert all(encoding in request.headers["Accept-Encoding"] for request in server.requests)
    assert server.connections == 1


def send_each(received: threading.Semaphore, *pieces: bytes) -> Callable[[StubRequest], None]:
    """Send each piece when the client has taken the one before."""

    def respond(request: StubRequest) -> None:
        request.send_head(Content_Length=sum(map(len, pieces)))
        for piece in pieces:
            request.wfile.write(piece)
            assert received.acquire(timeout=5)

    return respond


@pytest.mark.usefixtures("clock")
def test_each_item_of_a_stream_has_the_time_anew(server: StubServer, client: Client) -> None:
    received = threading.Semaphore(0)
    server.responses = [send_each(received, *[CHARACTER_EVENT] * 10, DONE_EVENT)]
    items = []
    for item in client.stream("123+456"):
        items.append(item)
        received.release()
    assert items == [CHARACTER] * 10 + [PREDICTION]


def test_the_time_of_the_caller_does_not_count(server: StubServer, client: Client, clock: Clock) -> None:
    received = threading.Semaphore(0)
    line = json.dumps(ANSWER).encode() + b"\n"
    server.responses = [send_each(received, line, line), send_each(received, CHARACTER_EVENT, DONE_EVENT)]
    for items in (client.predict_many(["123+456"] * 2), client.stream("123+456")):
        for _ in items:
            clock.now += 100
            received.release()
    assert len(server.requests) == 2


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("endless", [b"data: 5\n", b": hello\n\n", b"event: news\ndata: x\n\n", b"x"])
def test_the_time_to_the_next_item_has_a_limit(server: StubServer, client: Client, endless: bytes) -> None:
    server.responses = [send_endless(b"HTTP/1.1 200 OK\r\n\r\n" + CHARACTER_EVENT, endless)]
    items = client.stream("123+456")
    assert next(items) == CHARACTER
    with pytest.raises(TransportError, match="timed out after 3 seconds"):
        next(items)


@pytest.mark.parametrize(
    ("endless", "message"),
    [
        (b"data: 5\n", "an event is larger than 1048576 bytes"),
        (b": 5\n", "an event is larger than 1048576 bytes"),
        (b"data: 5 ", "a line is longer than 1048576 bytes"),
    ],
)
def test_the_size_of_an_event_has_a_limit(server: StubServer, endless: bytes, message: str) -> None:
    server.responses = [send_chunks(CHARACTER_EVENT, endless * 1000)]
    with Client(server.url, answer_seconds=60) as client:
        items = client.stream("123+456")
        assert next(items) == CHARACTER
        with pytest.raises(TransportError, match=message):
            next(items)


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


@pytest.mark.parametrize(
    "rest", [b"", DONE_EVENT[:-1], b"event: character\ndata: 5\n\n", DONE_EVENT.replace(b"123+456", b"1+1")]
)
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
        list(client.predict_many(["123+456"] * 2))


def test_predict_many_refuses_the_predictions_of_other_queries(server: StubServer, client: Client) -> None:
    server.responses = [send(b"\n".join([json.dumps(ANSWER).encode()] * 2))]
    answers = client.predict_many(["123+456", "456+123"])
    assert next(answers) == PREDICTION
    with pytest.raises(TransportError, match=r"answered '123\+456' for the query '456\+123'"):
        next(answers)


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


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://{host}", "/predict"),
        ("HTTP://{host}/", "/predict"),
        ("{host}", "/predict"),
        (" {host}\n", "/predict"),
        ("alice:pass@{host}/", "/predict"),
        ("{host}/some/adder/", "/some/adder/predict"),
    ],
)
def test_the_url_may_lack_a_scheme_and_have_a_path(server: StubServer, url: str, path: str) -> None:
    server.responses = [send_json(ANSWER)]
    with Client(url.format(host=server.url.removeprefix("http://"))) as client:
        assert client.predict("123+456") == PREDICTION
    assert server.requests[0].path == path
    assert ("Authorization" in server.requests[0].headers) == ("alice" in url)


@pytest.mark.parametrize(
    "url",
    ["", "http://", "http://[", "ftp://adder", "adder:port", "adder:70000", "http://a/?b=c", "http://a/#b", "a?b"],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"is not the URL of a service: write it like http://127\.0\.0\.1:8000"):
        Client(url)


@pytest.mark.parametrize("url", ["http://alice:secret@{host}", "alice:secret@{host}", "http://alice:sec/ret@{host}"])
def test_errors_name_the_url_without_the_password(server: StubServer, url: str) -> None:
    server.responses = [send(b"")]
    host = server.url.removeprefix("http://")
    with pytest.raises((TransportError, InvalidURL), match=host) as raised, Client(url.format(host=host)) as client:
        client.predict("1+1")
    assert "ret" not in str(raised.value)


@pytest.fixture
def proxy(server: StubServer, monkeypatch: pytest.MonkeyPatch) -> StubServer:
    """A proxy that the environment sets, for all hosts."""
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//alice:secret@"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return server


def test_errors_name_the_proxy(proxy: StubServer) -> None:
    proxy.responses = [send_json(ANSWER), send(b"")]
    with Client("http://adder.example") as client:
        assert client.predict("123+456") == PREDICTION
        with pytest.raises(TransportError, match=f"^unexpected .* http://adder.example by the proxy {proxy.url}: "):
            client.predict("123+456")
    assert [request.path for request in proxy.requests] == ["http://adder.example/predict"] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "adder.localhost", "[::1]"])
def test_a_loopback_address_is_asked_directly(proxy: StubServer, host: str) -> None:
    with (
        Client(f"http://{host}:1", retries=0) as client,
        pytest.raises(TransportError, match=f"^no response from http://{re.escape(host)}:1: "),
    ):
        client.predict("1+1")
    assert proxy.requests == []


def test_the_command_line_imports_no_heavy_package() -> None:
    heavy = "{'tensorflow', 'numpy', 'gevent', 'gunicorn', 'flask', 'ai_edge_litert'}"
    script = f"import sys, service.__main__; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True) == "set()\n"
