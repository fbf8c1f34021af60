"""The tree of errors, and the problem documents (RFC 9457) that they make.

Problem
├── Unreadable            400  not JSON, not UTF-8, nested too deep, too many keys
│   └── DuplicateKey      400
├── BadHeader             400
├── InvalidArgument       400  what TensorFlow Serving calls so, in its words
├── Incomplete            400  a body shorter than announced, or badly chunked
├── UnknownModel          404  no such model, or no such version of it
├── TooLarge              413
├── WrongContentType      415
├── WrongContentEncoding  415
├── Invalid               422  fields that break a rule, each named
├── ClientLeft            499  and nobody reads it
├── QueueFull             503
├── DeadlineExceeded      504
├── NetworkFailed         500
└── BrokenArtifact        503  a version that cannot be served, and never will be
"""

import http
import json
from collections.abc import Mapping
from typing import Any, ClassVar, NotRequired

from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on


class FieldError(TypedDict):
    """One broken rule: where, as a JSON pointer in a URI fragment (RFC 6901 section 6), and a sentence."""

    pointer: str
    detail: str


class ProblemDocument(TypedDict):
    """What went wrong (RFC 9457). `type` is a path of this service, which tells more; `errors` are all rules that the
    body breaks, and `example` is a body that works."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]
    example: NotRequired[dict[str, Any]]


class Problem(Exception):
    """An error of ours, with its sentence. `type` in the document is `/problems/<name>`."""

    name: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]
    meaning: ClassVar[str]  # and what to do
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.example: dict[str, Any] | None = None  # a body that works, set by whoever knows the route

    def document(self) -> ProblemDocument:
        """The problem document (RFC 9457 section 3)."""
        document = problem_document(self.name, self.title, self.status, self.detail)
        if self.errors:
            document["errors"] = self.errors
        if self.example is not None:
            document["example"] = self.example
        return document

    def to_json(self) -> str:
        """That document, in ASCII."""
        return to_json(self.document())


class Unreadable(Problem):
    name, title, status = "unreadable", "The body cannot be read as JSON", 400
    meaning = "It is not JSON in UTF-8, or has NaN, or more keys or levels than are read. Send one JSON object."


class DuplicateKey(Unreadable):
    name, title = "duplicate-key", "An object has a key twice"
    meaning = "JSON does not say which of two values counts, so neither does. Name each field once."

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {quoted(key)} stands twice in one object: name each field once")


class BadHeader(Problem):
    name, title, status = "bad-header", "A header cannot be understood", 400
    meaning = "A header of the request has a value that means nothing. The detail names it, and what it may be."

    def __init__(self, header: str, value: str, rule: str) -> None:
        super().__init__(f"the header {header} is {quoted(value)}: {rule}")


class InvalidArgument(Problem):
    name, title, status = "invalid-argument", "The request breaks a rule of TensorFlow Serving's REST API", 400
    meaning = "TensorFlow Serving would refuse the request too, and the sentence is the one that it has."


class Incomplete(Problem):
    name, title, status = "incomplete", "The body ended early", 400
    meaning = "Fewer bytes came than were announced, or badly chunked, or too slowly. Send them again, in one go."


class UnknownModel(Problem):
    name, title, status = "unknown-model", "There is no such model", 404
    meaning = "No model has this name, or none of its versions this number. GET /models lists those there are."

    def __init__(self, model: str, version: int | None, known: dict[str, list[int]]) -> None:
        wanted = quoted(model) if version is None else f"{quoted(model)} with version {version}"
        there = ", ".join(f"{name} ({', '.join(map(str, versions))})" for name, versions in known.items())
        super().__init__(f"there is no model {wanted}; those there are, with their versions: {there}")


class TooLarge(Problem):
    name, title, status = "too-large", "The body is too large", 413
    meaning = "Spread the queries over several requests, or send lines of application/x-ndjson, without a limit."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body has more than {limit_bytes} bytes: send fewer queries in one request")


class WrongContentType(Problem):
    name, title, status = "wrong-content-type", "The body is not announced as JSON", 415
    meaning = "Bodies are JSON, and have to say so. Send the header Content-Type: application/json."

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"the content type is {quoted(content_type)}: send the header 'content-type: application/json'"
        )


class WrongContentEncoding(Problem):
    name, title, status = "wrong-content-encoding", "The body is compressed in an unknown way", 415
    meaning = "The compression that Content-Encoding names is not read. Send gzip, deflate, or none."

    def __init__(self, encoding: str) -> None:
        super().__init__(f"the content encoding is {quoted(encoding)}: send the body as it is, or in gzip or deflate")


class Invalid(Problem):
    name, title, status = "invalid", "The request breaks a rule", 422
    meaning = "Each broken rule is listed, with the field as a JSON pointer (RFC 6901), and an example that works."

    def __init__(self, errors: list[FieldError], broken: int) -> None:
        more = f" (and {broken - 1} more)" if broken > 1 else ""
        super().__init__(f"{errors[0]['pointer']}: {errors[0]['detail']}{more}", errors)


class ClientLeft(Problem):
    """499 is nginx's; no RFC has a status for it."""

    name, title, status = "client-left", "The client has closed the connection", 499
    meaning = "Nobody reads this, but logs and metrics have it: who asked had closed the connection."

    def __init__(self) -> None:
        super().__init__("the client closed the connection before the network was asked")


class QueueFull(Problem):
    name, title, status, retry_after_seconds = "queue-full", "Too many queries are waiting", 503, 1
    meaning = "More queries wait for the network than may. Try again after the seconds that Retry-After names."

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"{waiting} queries are waiting for the network, and at most {limit} may: try again")


class DeadlineExceeded(Problem):
    name, title, status = "deadline-exceeded", "The network did not answer in time", 504
    meaning = "The service's time for a request, or that of its Request-Timeout, was over. Try again, or allow more."

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the network did not answer this request within {seconds:g} seconds")


class NetworkFailed(Problem):
    name, title, status = "network-failed", "The network failed", 500
    meaning = "A mistake of the service, whose log says more. The same request may work again."

    def __init__(self) -> None:
        super().__init__("the call of the network that this request was part of failed: the log says why")


class BrokenArtifact(Problem):
    name, title, status = "broken-artifact", "The artifact cannot be served", 503
    meaning = "The service could load no network, and its log says why. Who runs it has to put that right."


def quoted(text: str) -> str:
    """The text as it may stand in a sentence: in quotes, escaped, cut to 40 characters."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def http_name(status: int) -> str:
    """The name of the problem that is but a status."""
    return http.HTTPStatus(status).phrase.lower().replace(" ", "-")


def http_document(status: int, detail: str) -> ProblemDocument:
    """The problem document of a status that says all there is to say."""
    return problem_document(http_name(status), http.HTTPStatus(status).phrase, status, detail)


def problem_document(name: str, title: str, status: int, detail: str) -> ProblemDocument:
    """A problem document without `errors` and `example`."""
    return {"type": f"/problems/{name}", "title": title, "status": status, "detail": detail}


def to_json(members: Mapping[str, Any]) -> str:
    """JSON in ASCII, without spaces."""
    return json.dumps(members, separators=(",", ":"))
