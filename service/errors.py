"""The tree of errors, and their problem documents (RFC 9457).

Problem
├── Unreadable            400  not JSON, not UTF-8, nested too deep, too many keys
│   ├── EmptyBody         400
│   └── DuplicateKey      400
├── BadHeader             400
├── InvalidArgument       400  an error of TensorFlow Serving, with its message
├── Incomplete            400  a body shorter than announced, or badly chunked
├── NotPermitted          403  the settings do not allow it
├── ModelNotFound         404  no such model, or no such version of it
├── TooLarge              413
├── WrongContentType      415
├── WrongContentEncoding  415
├── Invalid               422  fields that break a rule
├── ClientDisconnected    499  for logs and metrics: the client has left
├── InferenceError        500
├── QueueFull             503
├── ModelUnavailable      503  a version that cannot be loaded, or no version at all
└── DeadlineExceeded      504
"""

import http
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NotRequired, Self

from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

MOST_RETRY_SECONDS = 60
# Behind each refusal of a body whose sender may have meant lines.
SEND_LINES = "send lines to /predict/batch as application/x-ndjson, by curl with --data-binary"


class FieldError(TypedDict):
    """One broken rule: the field, as a JSON pointer in a URI fragment (RFC 6901 section 6), and a message."""

    pointer: str
    detail: str


class ProblemDocument(TypedDict):
    """An error (RFC 9457). `type` is the path of a page that explains it; `errors` lists every rule that the body
    breaks, and `example` is a body that works. `line` is the number of the line that it answers, from 1 on."""

    type: str
    title: str
    status: int
    detail: str
    line: NotRequired[int]
    errors: NotRequired[list[FieldError]]
    example: NotRequired[dict[str, Any]]


class Problem(Exception):
    """An error with a message for the client. The `type` of its document is `/problems/<name>`."""

    name: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]
    meaning: ClassVar[str]  # its meaning, and advice for the client
    retry_after_seconds: int | None = None
    sample_arguments: ClassVar[tuple[Any, ...]] = ()  # of an example: for its page and the OpenAPI document

    def __init__(
        self, detail: str, errors: Sequence[FieldError] = (), example: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.example = example

    @classmethod
    def sample(cls) -> Self:
        """An example of this error."""
        return cls(*cls.sample_arguments)

    def replace(self, *, detail: str | None = None, example: Mapping[str, Any] | None = None) -> Self:
        """Return a copy with another detail, or with a body that works."""
        copy = type(self).__new__(type(self))
        Problem.__init__(copy, self.detail if detail is None else detail, self.errors, example or self.example)
        return copy

    def document(self) -> ProblemDocument:
        """The problem document (RFC 9457 section 3)."""
        document = problem_document(self.name, self.title, self.status, self.detail)
        if self.errors:
            document["errors"] = list(self.errors)
        if self.example is not None:
            document["example"] = dict(self.example)
        return document

    def to_json(self) -> str:
        """Encode the problem document in ASCII."""
        return to_json(self.document())


class Unreadable(Problem):
    name, title, status = "unreadable", "The body cannot be read as JSON", 400
    meaning = "The body is not JSON in UTF-8, contains NaN, or has too many keys or levels. Send one JSON object."
    sample_arguments: ClassVar[tuple[Any, ...]] = ("Expecting ',' delimiter, at column 18",)


class EmptyBody(Unreadable):
    name, title = "empty-body", "The body is empty"
    meaning = "The request has no body, and the route requires one. Send one JSON object."
    sample_arguments = ()

    def __init__(self) -> None:
        super().__init__("the body is empty: send a JSON object")


class DuplicateKey(Unreadable):
    name, title = "duplicate-key", "A key appears twice in an object"
    meaning = "JSON does not define which of two values counts. Name each field once."
    sample_arguments = ("query",)

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {quoted(key)} appears twice in one object: name each field once")


class BadHeader(Problem):
    name, title, status = "bad-header", "A header has an invalid value", 400
    meaning = "The detail names the header, its value, and the values that are valid."
    sample_arguments = ("Request-Timeout", "soon", "send a number of seconds above 0, like 2.5")

    def __init__(self, header: str, value: str, rule: str) -> None:
        super().__init__(f"the header {header} is {quoted(value)}: {rule}")


class InvalidArgument(Problem):
    name, title, status = "invalid-argument", "The request breaks a rule of TensorFlow Serving's REST API", 400
    meaning = "TensorFlow Serving refuses the same request with the same sentence."
    sample_arguments = ("Missing 'inputs' or 'instances' key",)


class Incomplete(Problem):
    name, title, status = "incomplete", "The body ended early", 400
    meaning = "The body is shorter than announced, badly chunked, or arrived too slowly. Send it again without a pause."
    sample_arguments = ("the body has 10 bytes, and 20 were announced: send it again without a pause",)


class NotPermitted(Problem):
    name, title, status = "not-permitted", "The request is not allowed", 403
    meaning = "The settings of the service do not allow this request. Its operator can change them."
    sample_arguments = ("ADDER_REPOSITORY_CONTROL",)

    def __init__(self, variable: str) -> None:
        super().__init__(f"the service allows this if {variable}=true is set")


class ModelNotFound(Problem):
    name, title, status = "model-not-found", "The model does not exist", 404
    meaning = "No model has this name, or it has no version with this number or label. GET /models lists all models."
    sample_arguments = ("third", None, {"adder": [2, 1]})

    def __init__(self, model: str, version: int | str | None, known: dict[str, list[int]]) -> None:
        """`version` is a number or a label."""
        part = f"label {quoted(version)}" if isinstance(version, str) else f"version {version}"
        asked = quoted(model) if version is None else f"{quoted(model)} with {part}"
        served = ", ".join(f"{name} ({', '.join(map(str, versions))})" for name, versions in known.items())
        super().__init__(f"no model {asked} exists; the models, with their versions, are {served}")


class TooLarge(Problem):
    name, title, status = "too-large", "The body is too large", 413
    meaning = "Split the queries over several requests, or send lines as application/x-ndjson, which have no limit."
    sample_arguments = (1_048_576,)

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the body has more than {limit_bytes} bytes: send fewer queries in one request, or {SEND_LINES}"
        )


class WrongContentType(Problem):
    name, title, status = "wrong-content-type", "The content type is not JSON", 415
    meaning = "Bodies are JSON. Send the header Content-Type: application/json."
    sample_arguments = ("text/plain",)

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"the content type is {quoted(content_type)}: send the header 'content-type: application/json', or "
            f"{SEND_LINES}"
        )


class WrongContentEncoding(Problem):
    name, title, status = "wrong-content-encoding", "The content encoding is not supported", 415
    meaning = "The compression that Content-Encoding names is not supported. Send gzip, deflate, or no compression."
    sample_arguments = ("br",)

    def __init__(self, encoding: str) -> None:
        super().__init__(f"the content encoding is {quoted(encoding)}: send the body as it is, or in gzip or deflate")


class Invalid(Problem):
    name, title, status = "invalid", "The request breaks a rule", 422
    meaning = "The document lists each broken rule, with the field as a JSON pointer (RFC 6901), and a body that works."
    sample_arguments = ([FieldError(pointer="#/version", detail="Input should be a valid integer")], 1)

    def __init__(self, errors: list[FieldError], count: int) -> None:
        more = f" (and {count - 1} more)" if count > 1 else ""
        super().__init__(f"{errors[0]['pointer']}: {errors[0]['detail']}{more}", errors)


class ClientDisconnected(Problem):
    """499 is nginx's; no RFC has a status for it."""

    name, title, status = "client-disconnected", "The client has closed the connection", 499
    meaning = "The client closed the connection before inference. Logs and metrics show this problem."

    def __init__(self) -> None:
        super().__init__("the client closed the connection before inference")


class InferenceError(Problem):
    name, title, status = "inference-failed", "Inference failed", 500
    meaning = "An internal error, which the log of the service explains. The same request may work again."

    def __init__(self) -> None:
        super().__init__("the call of the model that this request was part of failed: see the log of the service")


class QueueFull(Problem):
    name, title, status = "queue-full", "The queue is full", 503
    meaning = "The queue of the model is full. Try again after the seconds that Retry-After names."
    sample_arguments = (16_384, 16_384)

    def __init__(self, queued: int, limit: int, seconds: float = 0) -> None:
        """`seconds` is about how long the queries in the queue take."""
        super().__init__(f"{queued} queries are in the queue, and the limit is {limit}: try again")
        # Spread, so that clients that were refused together do not come back together.
        self.retry_after_seconds = math.ceil(min(max(1.0, seconds * random.uniform(1, 1.5)), MOST_RETRY_SECONDS))  # noqa: S311


class ModelUnavailable(Problem):
    name, title, status = "model-unavailable", "The model cannot be served", 503
    meaning = "The service could not load a model. Its operator finds the reason in the log."
    sample_arguments = ("no model could be loaded: see the log of the service",)


class DeadlineExceeded(Problem):
    name, title, status = "deadline-exceeded", "The deadline has passed", 504
    meaning = (
        "The deadline of the service, or the request's Request-Timeout, has passed. Try again, or allow more time."
    )
    sample_arguments = (10,)

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the model did not answer this request within {seconds:g} seconds")


def quoted(text: str) -> str:
    """Quote a text for a message: escaped, and cut to 40 characters."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def http_name(status: int) -> str:
    """The name of the problem that is only an HTTP status, like "not-found"."""
    return http.HTTPStatus(status).phrase.lower().replace(" ", "-")


def http_document(status: int, detail: str) -> ProblemDocument:
    """The problem document of a plain HTTP status."""
    return problem_document(http_name(status), http.HTTPStatus(status).phrase, status, detail)


def problem_document(name: str, title: str, status: int, detail: str) -> ProblemDocument:
    """A problem document without `errors` and `example`."""
    return {"type": f"/problems/{name}", "title": title, "status": status, "detail": detail}


def to_json(members: Mapping[str, Any]) -> str:
    """Encode as JSON in ASCII, without spaces."""
    return json.dumps(members, separators=(",", ":"))
