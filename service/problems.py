"""The tree of errors, and the one place that turns them into application/problem+json (RFC 9457).

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
import logging
import re
from typing import Any, ClassVar, NamedTuple

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
DIALECTS = re.compile(r"/v[12](/|$)")  # paths where others' clients expect {"error": ...}


class FieldError(NamedTuple):
    """One broken rule: where, as a JSON pointer in a URI fragment (RFC 6901 section 6), and a sentence."""

    pointer: str
    detail: str


class Problem(Exception):
    """An error of ours, with its sentence. `type` in the document is `/problems/<name>`."""

    name: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.example: dict[str, Any] | None = None  # a body that works, set by whoever knows the route

    def document(self) -> dict[str, Any]:
        """The problem document (RFC 9457 section 3)."""
        more: dict[str, Any] = {}
        if self.errors:
            more["errors"] = [error._asdict() for error in self.errors]
        if self.example is not None:
            more["example"] = self.example
        return _document(self.name, self.title, self.status, self.detail, **more)

    def to_json(self) -> str:
        """That document, in ASCII."""
        return _json(self.document())


class Unreadable(Problem):
    name, title, status = "unreadable", "The body cannot be read as JSON", 400


class DuplicateKey(Unreadable):
    name, title = "duplicate-key", "An object has a key twice"

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {quoted(key)} stands twice in one object: name each field once")


class BadHeader(Problem):
    name, title, status = "bad-header", "A header cannot be understood", 400

    def __init__(self, header: str, value: str, rule: str) -> None:
        super().__init__(f"the header {header} is {quoted(value)}: {rule}")


class InvalidArgument(Problem):
    name, title, status = "invalid-argument", "The request breaks a rule of TensorFlow Serving's REST API", 400


class Incomplete(Problem):
    name, title, status = "incomplete", "The body ended early", 400


class UnknownModel(Problem):
    name, title, status = "unknown-model", "There is no such model", 404

    def __init__(self, model: str, version: int | None, known: dict[str, list[int]]) -> None:
        wanted = quoted(model) if version is None else f"{quoted(model)} with version {version}"
        there = ", ".join(f"{name} ({', '.join(map(str, versions))})" for name, versions in known.items())
        super().__init__(f"there is no model {wanted}; those there are, with their versions: {there}")


class TooLarge(Problem):
    name, title, status = "too-large", "The body is too large", 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body has more than {limit_bytes} bytes: send fewer queries in one request")


class WrongContentType(Problem):
    name, title, status = "wrong-content-type", "The body is not announced as JSON", 415

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"the content type is {quoted(content_type)}: send the header 'content-type: application/json'"
        )


class WrongContentEncoding(Problem):
    name, title, status = "wrong-content-encoding", "The body is compressed in an unknown way", 415

    def __init__(self, encoding: str) -> None:
        super().__init__(f"the content encoding is {quoted(encoding)}: send the body as it is, or in gzip or deflate")


class Invalid(Problem):
    name, title, status = "invalid", "The request breaks a rule", 422

    def __init__(self, errors: list[FieldError], broken: int) -> None:
        more = f" (and {broken - 1} more)" if broken > 1 else ""
        super().__init__(f"{errors[0].pointer}: {errors[0].detail}{more}", errors)


class ClientLeft(Problem):
    """499 is nginx's; no RFC has a status for it."""

    name, title, status = "client-left", "The client has closed the connection", 499

    def __init__(self) -> None:
        super().__init__("the client closed the connection before the network was asked")


class QueueFull(Problem):
    name, title, status, retry_after_seconds = "queue-full", "Too many queries are waiting", 503, 1

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"{waiting} queries are waiting for the network, and at most {limit} may: try again")


class DeadlineExceeded(Problem):
    name, title, status = "deadline-exceeded", "The network did not answer in time", 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the network did not answer this request within {seconds:g} seconds")


class NetworkFailed(Problem):
    name, title, status = "network-failed", "The network failed", 500

    def __init__(self) -> None:
        super().__init__("the call of the network that this request was part of failed: the log says why")


class BrokenArtifact(Problem):
    name, title, status = "broken-artifact", "The artifact cannot be served", 503


def quoted(text: str) -> str:
    """The text as it may stand in a sentence: in quotes, escaped, cut to 40 characters."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def http_document(status: int, detail: str) -> dict[str, Any]:
    """The problem document of a status that says all there is to say."""
    phrase = http.HTTPStatus(status).phrase
    return _document(phrase.lower().replace(" ", "-"), phrase, status, detail)


def raw_response(status: int, detail: str) -> bytes:
    """That document as a whole HTTP response, for what gunicorn refuses before the application sees it."""
    body = _json(http_document(status, detail))
    head = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        "Connection: close",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("ascii")


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem document, or in another dialect than ours as that has it."""
    app.register_error_handler(Problem, _from_problem)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_exception)


def _from_problem(problem: Problem) -> Response:
    response = _response(problem.document())
    if problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(problem.retry_after_seconds)
    return response


def _from_http(error: HTTPException) -> Response:
    """Flask's own: no such route, wrong method."""
    asked = f"{request.method} {request.path}"
    detail = f"{asked} is not served: POST /predict answers a query, POST /predict/batch many"
    if DIALECTS.match(request.path):
        detail = f"Malformed request: {asked}"  # as TensorFlow Serving says it
    response = _response(http_document(error.code or 500, detail))
    for header, value in error.get_headers():
        if header != "Content-Type":
            response.headers[header] = value
    return response


def _from_exception(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return _response(http_document(500, "the service failed: its log says why"))


def _response(document: dict[str, Any]) -> Response:
    if not DIALECTS.match(request.path):
        return Response(_json(document), document["status"], mimetype=MEDIA_TYPE)
    status = 400 if document["status"] == Invalid.status else document["status"]  # no dialect but ours has 422
    return Response(_json({"error": document["detail"]}), status, mimetype="application/json")


def _document(name: str, title: str, status: int, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": f"/problems/{name}", "title": title, "status": status, "detail": detail, **more}


def _json(members: dict[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"))
