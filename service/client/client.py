"""The client: asks a running service, out of Python.

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("123+456").answer)

It wants requests, pydantic and `service/answers.py`, and no other part of this repository.

ClientError
├── HTTPStatusError   the service says why not: its problem document (RFC 9457)
└── TransportError    no connection, nothing in time, or something else than the service's answer
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Self, TypedDict, TypeVar, Unpack

import requests
from pydantic import TypeAdapter, ValidationError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from service.client.types import Character, Explanation, ModelEntry, Prediction, Problem

URL = "http://127.0.0.1:8000"
GRACE_SECONDS = 1  # beyond what the service is given, for its 504 to arrive
LARGEST_ANSWER_BYTES = 2**26  # 8192 predictions with their characters are a tenth of it
MANY_QUERIES = 1024  # in one request of `predict_many`: see there


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    models: list[ModelEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    predictions: list[dict[str, Any]]
    model: dict[str, Any]


class ClientError(Exception):
    """No answer; the sentence says why."""


class HTTPStatusError(ClientError):
    """The service's problem document, its members as attributes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.type, self.title, self.status, self.detail = problem.type, problem.title, problem.status, problem.detail
        self.errors, self.example = problem.errors, problem.example

    def __str__(self) -> str:
        return self.detail


class TransportError(ClientError):
    """Nothing that the service says."""


class Choice(TypedDict, total=False):
    """Which model is asked: by default the newest version of the service's first."""

    model: str | None
    version: int | None


class BatchOptions(Choice, total=False):
    """What is wanted beside each answer: its characters; whether its confidence is below a minimum (`abstained`)."""

    characters: bool
    min_confidence: float | None


class Options(BatchOptions, total=False):
    """And the most probable answers, up to 10."""

    alternatives: int | None


Answer = TypeVar("Answer")

PREDICTION, PREDICTIONS = TypeAdapter(Prediction), TypeAdapter(list[Prediction])
LINE: TypeAdapter[Prediction | Problem] = TypeAdapter(Prediction | Problem)
BATCH, MODELS = TypeAdapter(_Batch), TypeAdapter(_Models)
CHARACTER, EXPLANATION, PROBLEM = TypeAdapter(Character), TypeAdapter(Explanation), TypeAdapter(Problem)


class Client:
    """One service, asked over connections that are kept. For one thread at a time.

    Where there is no connection, it breaks or is silent, or 502 or 503 come back, it asks again up to `retries` times,
    after what `Retry-After` says or a pause that doubles. Each time the service is told to give up after
    `answer_seconds`, and is waited for a second longer. All methods raise HTTPStatusError and TransportError; those that return
    iterators do while these are read.
    """

    def __init__(
        self, url: str = URL, *, connect_seconds: float = 3, answer_seconds: float = 10, retries: int = 3
    ) -> None:
        self.url = url.rstrip("/")
        self._limits = connect_seconds, answer_seconds + GRACE_SECONDS
        again = Retry(
            retries,
            allowed_methods=["GET", "POST"],  # a query changes nothing
            status_forcelist=[502, 503],  # not 504: the time that it had is over
            raise_on_status=False,  # but give the last answer
            backoff_factor=0.1,
            backoff_max=2,
            backoff_jitter=0.1,
            retry_after_max=10,
        )
        self._session = requests.Session()
        self._session.headers["Request-Timeout"] = f"{answer_seconds:f}"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def predict(self, query: str, **options: Unpack[Options]) -> Prediction:
        """The answer to one query."""
        return self._ask(PREDICTION, "POST", "/predict", json=_body({"query": query}, options))

    def predict_batch(self, queries: Sequence[str], **options: Unpack[BatchOptions]) -> list[Prediction]:
        """The answers to some queries, in one request. Raises HTTPStatusError, with all of `errors`, where any is bad."""
        body = _body({"queries": list(queries)}, options)
        batch = self._ask(BATCH, "POST", "/predict/batch", json=body)
        # As JSON again: by it alone are dataclasses read strictly.
        answered = json.dumps([prediction | {"model": batch.model} for prediction in batch.predictions])
        return self._read(PREDICTIONS, answered.encode())

    def predict_many(
        self, queries: Iterable[str], **options: Unpack[Options]
    ) -> Iterator[Prediction | HTTPStatusError]:
        """The answers to any number of queries, in their order and while they come; HTTPStatusError in the place of a bad one.

        Queries are read, and sent, some at a time: requests reads no answer before it has sent the whole body, and the
        service does not read on while its answers are not read. What is sent at once fits between the two.
        """
        coming = iter(queries)
        while some := list(islice(coming, MANY_QUERIES)):
            lines = [json.dumps(_body({"query": query}, options)) + "\n" for query in some]
            headers = {"Content-Type": "application/x-ndjson"}
            with self._response("POST", "/predict/batch", data="".join(lines).encode(), headers=headers) as response:
                for query, line in zip_longest(some, self._lines(response)):
                    if query is None or line is None:
                        raise TransportError(f"{self.url} was sent {len(some)} queries, and answered another number")
                    answer = self._read(LINE, line)
                    yield HTTPStatusError(answer) if isinstance(answer, Problem) else answer

    def stream(self, query: str, **choice: Unpack[Choice]) -> Iterator[Character | Prediction]:
        """The characters of the answer while the network writes them, its end included where there is room; at last the
        prediction."""
        done = False
        with self._response("POST", "/predict/stream", json=_body({"query": query}, choice)) as response:
            for event, document in _events(self._lines(response)):
                if event == b"character":
                    yield self._read(CHARACTER, document)
                elif event == b"done":
                    yield self._read(PREDICTION, document)
                    done = True  # and on to the end: a body that is read leaves its connection for the next request
                elif event == b"problem":
                    raise HTTPStatusError(self._read(PROBLEM, document))
        if not done:
            raise TransportError(f"{self.url} broke off in the middle of an answer")

    def explain(self, query: str, **choice: Unpack[Choice]) -> Explanation:
        """Which character of the query matters to which of the answer."""
        return self._ask(EXPLANATION, "POST", "/explain", json=_body({"query": query}, choice))

    def models(self) -> list[ModelEntry]:
        """Every version of every model that is served."""
        return self._ask(MODELS, "GET", "/models").models

    def _ask(self, schema: TypeAdapter[Answer], method: str, path: str, **body: Any) -> Answer:
        with self._response(method, path, **body) as response:
            return self._read(schema, b"".join(self._pieces(response)))

    @contextmanager
    def _response(self, method: str, path: str, **body: Any) -> Iterator[requests.Response]:
        try:
            with self._session.request(
                method, self.url + path, timeout=self._limits, stream=True, allow_redirects=False, **body
            ) as response:
                if response.status_code != 200:
                    raise self._refusal(response)
                yield response
        except (requests.RequestException, HTTPError) as error:  # urllib3's, of a body that breaks off
            raise TransportError(f"{self.url} gave no answer: {_reason(error)}") from error

    def _refusal(self, response: requests.Response) -> ClientError:
        try:
            return HTTPStatusError(PROBLEM.validate_json(b"".join(self._pieces(response)), strict=True))
        except ValidationError:
            return TransportError(f"{self.url} answered {response.status_code}, and not with a problem of the service")

    def _read(self, schema: TypeAdapter[Answer], document: bytes) -> Answer:
        try:
            return schema.validate_json(document, strict=True)
        except ValidationError as error:
            raise TransportError(
                f"{self.url} answered what the service does not: {error.errors()[0]['msg']}"
            ) from error

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it comes, bounded in size and in the time that is waited for it."""
        received, waited = 0, 0.0
        while True:
            begun = time.monotonic()
            piece = response.raw.read1(65536)  # as much as there is: iter_content waits for all
            waited += time.monotonic() - begun
            received += len(piece)
            if received > LARGEST_ANSWER_BYTES or waited > self._limits[1]:
                raise TransportError(f"{self.url} gave no end: {received} bytes in {waited:.1f} seconds")
            if not piece:
                return
            yield piece

    def _lines(self, response: requests.Response) -> Iterator[bytes]:
        rest = b""
        for piece in self._pieces(response):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _body(asked: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return asked | {name: value for name, value in options.items() if value is not None}


def _events(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Server-sent events as (event, data), by the WHATWG's HTML standard, section 9.2.6, but for what the service never
    sends: id, retry, a byte order mark, and lines that end in CR alone."""
    event, data = b"", list[bytes]()
    for line in lines:
        field, _, value = line.removesuffix(b"\r").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            event = value
        elif field == b"data":
            data.append(value)
        elif line in (b"", b"\r"):
            if data:
                yield event, b"\n".join(data)
            event, data = b"", []


def _reason(error: BaseException) -> str:
    """The innermost of the errors that requests and urllib3 wrap into one another."""
    wrapped = [inner for inner in (*error.args, error.__cause__) if isinstance(inner, BaseException)]
    return _reason(wrapped[-1]) if wrapped else str(error)
