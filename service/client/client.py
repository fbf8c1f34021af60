"""The Python client of the service.

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("123+456").answer)

ClientError
├── HTTPStatusError   the service returned a problem document (RFC 9457)
├── InvalidURL        the URL of the service is not one
└── TransportError    no connection, a timeout, or a response that the service does not send
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice, zip_longest
from typing import Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import urlsplit

import requests
from pydantic import TypeAdapter, ValidationError
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError

from service.client.transport import TIME_LIMIT, Body, Session, TimeLimit
from service.client.types import Character, Explanation, ModelEntry, Prediction, Problem

DEFAULT_URL = "http://127.0.0.1:8000"
GRACE_SECONDS = 1  # beyond the service's own time limit, so that its 504 arrives
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


class InvalidURL(ClientError):
    """The URL has neither form: http://host:port or host:port, either with a path."""


class TransportError(ClientError):
    """No response, or a response that the service does not send."""


class ModelSelector(TypedDict, total=False):
    """The model of a request, and its version by number or by label: by default the default version of the default
    model."""

    model: str | None
    version: int | None
    label: str | None


class BatchOptions(ModelSelector, total=False):
    """Include the characters of each answer; set `abstained` where the confidence is below a minimum."""

    characters: bool
    min_confidence: float | None


class PredictOptions(BatchOptions, total=False):
    """Include the most probable answers, at most 10."""

    alternatives: int | None


Schema = TypeVar("Schema")
Answer = TypeVar("Answer", Prediction, Explanation)

PREDICTION, PREDICTIONS = TypeAdapter(Prediction), TypeAdapter(list[Prediction])
LINE: TypeAdapter[Prediction | Problem] = TypeAdapter(Prediction | Problem)
BATCH, MODELS = TypeAdapter(_BatchResponse), TypeAdapter(_ModelsResponse)
CHARACTER, EXPLANATION, PROBLEM = TypeAdapter(Character), TypeAdapter(Explanation), TypeAdapter(Problem)


class Client:
    """A client of one service, over connections that are kept open. Not safe for several threads.

    `url` may lack `http://`, and may have a path, as behind a proxy that serves other sites too: the paths of the
    routes are appended. A loopback address is asked directly, whatever proxies the environment sets.

    A request is repeated up to `retries` times if there is no connection, if the connection breaks, and after 502 and
    503; the pause is `Retry-After`, or doubles each time, and up to a quarter longer, so that clients do not return at
    once. A `Retry-After` above 10 seconds ends the tries. Each try has `answer_seconds` in the service, and a second
    more in the client until the whole response has arrived; in a stream, until the next item. All methods raise
    HTTPStatusError and TransportError; methods that return iterators raise them during iteration. Raises InvalidURL.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, connect_seconds: float = 3, answer_seconds: float = 10, retries: int = 3
    ) -> None:
        self.url = _base(url)
        self._answer_seconds = answer_seconds + GRACE_SECONDS
        self._timeout = connect_seconds, self._answer_seconds
        host = str(urlsplit(self.url).hostname)
        self._proxies = {"no_proxy": host} if _is_loopback(host) else {}
        self._session = Session(retries)
        self._session.headers["Request-Timeout"] = f"{answer_seconds:f}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def predict(self, query: str, **options: Unpack[PredictOptions]) -> Prediction:
        """Answer one query."""
        return self._check(query, self._request(PREDICTION, "POST", "/predict", json=_body({"query": query}, options)))

    def predict_batch(self, queries: Sequence[str], **options: Unpack[BatchOptions]) -> list[Prediction]:
        """Answer several queries in one request, in order.

        Raises HTTPStatusError if any query is invalid; its `errors` name all of them.
        """
        body = _body({"queries": list(queries)}, options)
        batch = self._request(BATCH, "POST", "/predict/batch", json=body)
        # As JSON again: pydantic reads dataclasses strictly from JSON only.
        predictions = json.dumps([prediction | {"model": batch.model} for prediction in batch.predictions])
        answers = self._parse(PREDICTIONS, predictions.encode())
        if len(answers) != len(queries):
            raise TransportError(f"{self._asked()} returned {len(answers)} predictions for {len(queries)} queries")
        return [self._check(query, answer) for query, answer in zip(queries, answers, strict=True)]

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
            with self._response("POST", "/predict/batch", data="".join(lines).encode(), headers=headers) as body:
                for query, line in zip_longest(block, body.lines()):
                    if query is None or line is None:
                        raise TransportError(
                            f"{self._asked()} returned another number of lines than {len(block)} queries"
                        )
                    answer = self._parse(LINE, line)
                    yield HTTPStatusError(answer) if isinstance(answer, Problem) else self._check(query, answer)

    def stream(self, query: str, **selector: Unpack[ModelSelector]) -> Iterator[Character | Prediction]:
        """Yield each character of the answer as the model decodes it, and then the prediction.

        The end of the answer is a character too, if the answer has room for it.
        """
        done = False
        with self._response("POST", "/predict/stream", json=_body({"query": query}, selector)) as body:
            for event, data in body.events():
                if event == b"character":
                    yield self._parse(CHARACTER, data)
                elif event == b"done":
                    yield self._check(query, self._parse(PREDICTION, data))
                    done = True  # read on: a body that is read to its end leaves its connection for the next request
                elif event == b"problem":
                    raise HTTPStatusError(self._parse(PROBLEM, data))
                else:
                    continue  # an unknown event does not keep the caller waiting for longer
                body.renew()
        if not done:
            raise TransportError(f"{self._asked()} ended the stream before the answer was complete")

    def explain(self, query: str, *, layers: bool = False, **selector: Unpack[ModelSelector]) -> Explanation:
        """Compute how much each character of the query matters to each character of the answer. With `layers`, also
        return the numbers that the layers of the model hand on."""
        body = _body({"query": query} | ({"layers": True} if layers else {}), selector)
        return self._check(query, self._request(EXPLANATION, "POST", "/explain", json=body))

    def models(self) -> list[ModelEntry]:
        """List every version of every model that is served."""
        return self._request(MODELS, "GET", "/models").models

    def _request(self, schema: TypeAdapter[Schema], method: str, path: str, **content: Any) -> Schema:
        with self._response(method, path, **content) as body:
            return self._parse(schema, body.read())

    @contextmanager
    def _response(self, method: str, path: str, **content: Any) -> Iterator[Body]:
        limit = TimeLimit(self._answer_seconds)
        TIME_LIMIT.set(limit)
        try:
            with self._session.request(
                method, self.url + path, timeout=self._timeout, stream=True, proxies=dict(self._proxies), **content
            ) as response:
                body = Body(response, limit)
                if response.status_code != 200:
                    raise self._error(response.status_code, body.read())
                yield body
        except (requests.RequestException, HTTPError) as error:  # urllib3's, if the body breaks off
            raise TransportError(f"no response from {self._asked()}: {_reason(error)}") from error

    def _error(self, status: int, document: bytes) -> ClientError:
        try:
            return HTTPStatusError(PROBLEM.validate_json(document, strict=True))
        except ValidationError:
            return TransportError(f"{self._asked()} returned status {status} without a problem document")

    def _parse(self, schema: TypeAdapter[Schema], document: bytes) -> Schema:
        try:
            return schema.validate_json(document, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            reason = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise TransportError(f"unexpected response from {self._asked()}: {reason}") from error

    def _check(self, query: str, answer: Answer) -> Answer:
        """Return the answer. Raises TransportError if it is that of another query."""
        if _can_be(answer.query, query):
            return answer
        raise TransportError(f"{self._asked()} answered {answer.query!r} for the query {query!r}")

    def _asked(self) -> str:
        """The URL for errors, and the proxy in between if the environment sets one."""
        proxy = select_proxy(self.url, get_environ_proxies(self.url, self._proxies.get("no_proxy")))
        by = f" by the proxy {_without_password(proxy)}" if proxy else ""
        return _without_password(self.url) + by


def _body(required: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return required | {name: value for name, value in options.items() if value is not None}


def _base(url: str) -> str:
    """The URL that the paths of the routes are appended to. Raises InvalidURL."""
    full = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(full)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the brackets of IPv6, and of a port that is no number
        usable = False
    if not usable or "?" in full or "#" in full:
        raise InvalidURL(f"{_without_password(url)!r} is not the URL of a service: write it like {DEFAULT_URL}")
    return full.rstrip("/")


def _without_password(url: str) -> str:
    return re.sub(r"^(\w+://)?.*@", r"\1", url)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _can_be(query: str, sent: str) -> bool:
    """Whether a query in a response can be the one that was sent: the service drops some characters, such as spaces."""
    remaining = iter(sent)
    return all(character in remaining for character in query)


def _reason(error: BaseException) -> str:
    """The message of the innermost error: requests and urllib3 wrap errors in one another."""
    wrapped = [inner for inner in (*error.args, error.__cause__) if isinstance(inner, BaseException)]
    return _reason(wrapped[-1]) if wrapped else str(error)
