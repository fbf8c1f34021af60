"""The Python client of the service.

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("123+456").answer)

ClientError
├── HTTPStatusError   the service returned a problem document (RFC 9457)
└── TransportError    no connection, a timeout, or a response that the service does not send
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

DEFAULT_URL = "http://127.0.0.1:8000"
GRACE_SECONDS = 1  # beyond the service's own time limit, so that its 504 arrives
MAX_RESPONSE_BYTES = 2**26  # ten times the size of 8192 predictions with their characters
QUERIES_PER_REQUEST = 1024  # of `predict_many`, which explains it


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelsResponse:
    models: list[ModelEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class _BatchResponse:
    predictions: list[dict[str, Any]]
    model: dict[str, Any]


class ClientError(Exception):
    """Base of the client's errors."""


class HTTPStatusError(ClientError):
    """An error response of the service: the members of its problem document are attributes."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.type, self.title, self.status, self.detail = problem.type, problem.title, problem.status, problem.detail
        self.errors, self.example = problem.errors, problem.example

    def __str__(self) -> str:
        return self.detail


class TransportError(ClientError):
    """No response, or a response that the service does not send."""


class ModelSelector(TypedDict, total=False):
    """The model of a request: by default the newest version of the default model."""

    model: str | None
    version: int | None


class BatchOptions(ModelSelector, total=False):
    """Include the characters of each answer; set `abstained` where the confidence is below a minimum."""

    characters: bool
    min_confidence: float | None


class PredictOptions(BatchOptions, total=False):
    """Include the most probable answers, at most 10."""

    alternatives: int | None


Schema = TypeVar("Schema")

PREDICTION, PREDICTIONS = TypeAdapter(Prediction), TypeAdapter(list[Prediction])
LINE: TypeAdapter[Prediction | Problem] = TypeAdapter(Prediction | Problem)
BATCH, MODELS = TypeAdapter(_BatchResponse), TypeAdapter(_ModelsResponse)
CHARACTER, EXPLANATION, PROBLEM = TypeAdapter(Character), TypeAdapter(Explanation), TypeAdapter(Problem)


class Client:
    """A client of one service, over connections that are kept open. Not safe for several threads.

    A request is repeated up to `retries` times if there is no connection, if the connection breaks or times out, and
    after 502 and 503; the pause is `Retry-After`, or doubles each time. Each request has `answer_seconds` in the
    service, and a second more in the client. All methods raise HTTPStatusError and TransportError; methods that return
    iterators raise them during iteration.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, connect_seconds: float = 3, answer_seconds: float = 10, retries: int = 3
    ) -> None:
        self.url = url.rstrip("/")
        self._read_seconds = answer_seconds + GRACE_SECONDS
        self._timeout = connect_seconds, self._read_seconds
        retry = Retry(
            retries,
            allowed_methods=["GET", "POST"],  # no request changes state
            status_forcelist=[502, 503],  # not 504: the deadline of the request has passed
            raise_on_status=False,  # return the last response
            backoff_factor=0.1,
            backoff_max=2,
            backoff_jitter=0.1,
            retry_after_max=10,
        )
        self._session = requests.Session()
        self._session.headers["Request-Timeout"] = f"{answer_seconds:f}"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def predict(self, query: str, **options: Unpack[PredictOptions]) -> Prediction:
        """Answer one query."""
        return self._request(PREDICTION, "POST", "/predict", json=_body({"query": query}, options))

    def predict_batch(self, queries: Sequence[str], **options: Unpack[BatchOptions]) -> list[Prediction]:
        """Answer several queries in one request, in order.

        Raises HTTPStatusError if any query is invalid; its `errors` name all of them.
        """
        body = _body({"queries": list(queries)}, options)
        batch = self._request(BATCH, "POST", "/predict/batch", json=body)
        # As JSON again: pydantic reads dataclasses strictly from JSON only.
        predictions = json.dumps([prediction | {"model": batch.model} for prediction in batch.predictions])
        return self._parse(PREDICTIONS, predictions.encode())

    def predict_many(
        self, queries: Iterable[str], **options: Unpack[PredictOptions]
    ) -> Iterator[Prediction | HTTPStatusError]:
        """Answer any number of queries, in order and as the responses arrive. An invalid query yields HTTPStatusError.

        The queries are read and sent in blocks: requests reads no response before it has sent the whole body, and the
        service stops reading while its responses are not read. A block fits into the buffers between the two.
        """
        remaining = iter(queries)
        while block := list(islice(remaining, QUERIES_PER_REQUEST)):
            lines = [json.dumps(_body({"query": query}, options)) + "\n" for query in block]
            headers = {"Content-Type": "application/x-ndjson"}
            with self._response("POST", "/predict/batch", data="".join(lines).encode(), headers=headers) as response:
                for query, line in zip_longest(block, self._lines(response)):
                    if query is None or line is None:
                        raise TransportError(f"{self.url} returned another number of lines for {len(block)} queries")
                    answer = self._parse(LINE, line)
                    yield HTTPStatusError(answer) if isinstance(answer, Problem) else answer

    def stream(self, query: str, **selector: Unpack[ModelSelector]) -> Iterator[Character | Prediction]:
        """Yield each character of the answer as the model decodes it, and then the prediction.

        The end of the answer is a character too, if the answer has room for it.
        """
        done = False
        with self._response("POST", "/predict/stream", json=_body({"query": query}, selector)) as response:
            for event, data in _events(self._lines(response)):
                if event == b"character":
                    yield self._parse(CHARACTER, data)
                elif event == b"done":
                    yield self._parse(PREDICTION, data)
                    done = True  # read on: a body that is read to its end leaves its connection for the next request
                elif event == b"problem":
                    raise HTTPStatusError(self._parse(PROBLEM, data))
        if not done:
            raise TransportError(f"{self.url} ended the stream before the answer was complete")

    def explain(self, query: str, **selector: Unpack[ModelSelector]) -> Explanation:
        """Compute how much each character of the query matters to each character of the answer."""
        return self._request(EXPLANATION, "POST", "/explain", json=_body({"query": query}, selector))

    def models(self) -> list[ModelEntry]:
        """List every version of every model that is served."""
        return self._request(MODELS, "GET", "/models").models

    def _request(self, schema: TypeAdapter[Schema], method: str, path: str, **body: Any) -> Schema:
        with self._response(method, path, **body) as response:
            return self._parse(schema, b"".join(self._chunks(response)))

    @contextmanager
    def _response(self, method: str, path: str, **body: Any) -> Iterator[requests.Response]:
        try:
            with self._session.request(
                method, self.url + path, timeout=self._timeout, stream=True, allow_redirects=False, **body
            ) as response:
                if response.status_code != 200:
                    raise self._error(response)
                yield response
        except (requests.RequestException, HTTPError) as error:  # urllib3's, if the body breaks off
            raise TransportError(f"no response from {self.url}: {_reason(error)}") from error

    def _error(self, response: requests.Response) -> ClientError:
        try:
            return HTTPStatusError(PROBLEM.validate_json(b"".join(self._chunks(response)), strict=True))
        except ValidationError:
            return TransportError(f"{self.url} returned status {response.status_code} without a problem document")

    def _parse(self, schema: TypeAdapter[Schema], document: bytes) -> Schema:
        try:
            return schema.validate_json(document, strict=True)
        except ValidationError as error:
            raise TransportError(f"unexpected response from {self.url}: {error.errors()[0]['msg']}") from error

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it arrives, bounded in size and in the time spent waiting for it."""
        received, waited = 0, 0.0
        while True:
            started = time.monotonic()
            chunk = response.raw.read1(65536)  # returns what has arrived; iter_content waits for a full chunk
            waited += time.monotonic() - started
            received += len(chunk)
            if received > MAX_RESPONSE_BYTES or waited > self._read_seconds:
                limits = f"{MAX_RESPONSE_BYTES} bytes or {self._read_seconds:g} seconds"
                raise TransportError(f"the response from {self.url} exceeds {limits}")
            if not chunk:
                return
            yield chunk

    def _lines(self, response: requests.Response) -> Iterator[bytes]:
        rest = b""
        for chunk in self._chunks(response):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _body(required: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return required | {name: value for name, value in options.items() if value is not None}


def _events(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Server-sent events as (event, data), by section 9.2.6 of the HTML standard.

    Fields and forms that the service never sends are not supported: id, retry, a byte order mark, lines that end in CR.
    """
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
    """The message of the innermost error: requests and urllib3 wrap errors in one another."""
    wrapped = [inner for inner in (*error.args, error.__cause__) if isinstance(inner, BaseException)]
    return _reason(wrapped[-1]) if wrapped else str(error)
