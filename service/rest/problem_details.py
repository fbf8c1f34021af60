"""The one place that turns errors into application/problem+json (RFC 9457)."""

import http
import logging
import re

from flask import Flask, Response, request
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on
from werkzeug.exceptions import HTTPException

from service.errors import Invalid, Problem, ProblemDocument, http_document, to_json

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
DIALECTS = re.compile(r"/v[12](/|$)")  # paths where others' clients expect {"error": ...}


class ErrorDocument(TypedDict):
    """What went wrong, as other dialects than ours tell it."""

    error: str


def status_at(path: str, status: int) -> int:
    """The status that a problem with this one has at a path: no dialect but ours knows 422."""
    return 400 if status == Invalid.status and DIALECTS.match(path) else status


def raw_response(status: int, detail: str, request_id: str) -> bytes:
    """That document as a whole HTTP response, for what gunicorn refuses before the application sees it."""
    body = to_json(http_document(status, detail))
    head = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        "Connection: close",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        "Cache-Control: no-store",
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


def _response(document: ProblemDocument) -> Response:
    if not DIALECTS.match(request.path):
        return Response(to_json(document), document["status"], mimetype=MEDIA_TYPE)
    error: ErrorDocument = {"error": document["detail"]}
    return Response(to_json(error), status_at(request.path, document["status"]), mimetype="application/json")
