"""Turns every error into a response: application/problem+json (RFC 9457), or {"error": ...} for the routes of other
dialects."""

import http
import logging
import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache

from flask import Blueprint, Flask, Response, current_app, g, render_template, request
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on
from werkzeug.exceptions import HTTPException

from service.errors import EmptyBody, Invalid, Problem, ProblemDocument, http_document, to_json
from service.rest import security
from service.rest.media_types import HTML, JSON, PROBLEM_JSON, prefers_html
from service.telemetry.records import RequestStats

log = logging.getLogger(__name__)

DIALECT_PATHS = re.compile(r"/v[12](/|$)")  # for paths without a route, which belong to no dialect's blueprint
INTERNAL_ERROR = http_document(500, "internal error: see the log of the service")


class ErrorDocument(TypedDict):
    """An error in the dialects of TensorFlow Serving and of the Open Inference Protocol."""

    error: str


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem document."""
    app.register_error_handler(Problem, _from_problem)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_exception)


def register_error_documents(routes: Blueprint) -> None:
    """Answer the errors of a dialect's routes with {"error": ...}."""
    routes.register_error_handler(Problem, lambda problem: _retry_after(problem, error_response(problem.document())))
    routes.register_error_handler(HTTPException, _from_http)
    routes.register_error_handler(Exception, lambda error: error_response(_logged(error)))


def dialect_status(status: int) -> int:
    """The status in a dialect: neither knows 422."""
    return 400 if status == Invalid.status else status


def error_response(document: ProblemDocument) -> Response:
    """The sentence of a problem document, as an ErrorDocument."""
    _record(document)
    error = ErrorDocument(error=document["detail"])
    return Response(to_json(error), dialect_status(document["status"]), mimetype=JSON)


def raw_response(status: int, detail: str, request_id: str) -> bytes:
    """A whole HTTP response with a problem document, for a request that gunicorn refuses before the application."""
    body = to_json(http_document(status, detail))
    head = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        "Connection: close",
        f"Content-Type: {PROBLEM_JSON}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        "Cache-Control: no-store",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("ascii")


def not_served(method: str, path: str, routes: Mapping[str, Iterable[str]]) -> str:
    """The sentence for a path or a method without a route, with the routes near it, or else the most useful ones.

    `routes` are the methods by path.
    """
    start = path.rstrip("/")
    near = [route for route in routes if route == start or route.startswith(f"{start}/")]
    near = near or get_close_matches(path[:100].lower(), routes, n=3) or ["/predict", "/predict/batch"]
    served = ", ".join(f"{known} {route}" for route in sorted(near)[:4] for known in sorted(routes[route]))
    return f"{method} {path} is not served: near it are {served}"


@cache
def routes_of(app: Flask) -> dict[str, set[str]]:
    """The methods of the routes of `app` by path, without routes whose path has variables."""
    routes: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        if not rule.arguments:
            routes.setdefault(rule.rule, set()).update((rule.methods or set()) - {"HEAD", "OPTIONS"})
    return routes


def _from_problem(problem: Problem) -> Response:
    if isinstance(problem, EmptyBody) and problem.example is not None:
        command = f"curl {request.scheme}://{request.host}{request.path} -H 'content-type: {JSON}'"
        body = shlex.quote(to_json(problem.example))
        problem = problem.replace(detail=f"{problem.detail}, as by {command} -d {body}")
    return _retry_after(problem, _problem_response(problem.document()))


def _from_http(error: HTTPException) -> Response:
    """Flask's own errors: no route for the path, or none for the method."""
    if DIALECT_PATHS.match(request.path):
        sentence = f"Malformed request: {request.method} {request.path}"  # TensorFlow Serving's
        response = error_response(http_document(error.code or 500, sentence))
    else:
        sentence = not_served(request.method, request.path, routes_of(current_app))
        response = _problem_response(http_document(error.code or 500, sentence))
    for header, value in error.get_headers():
        if header != "Content-Type":
            response.headers[header] = value
    return response


def _from_exception(error: Exception) -> Response:
    return _problem_response(_logged(error))


def _logged(error: Exception) -> ProblemDocument:
    log.error("unexpected error", exc_info=error)
    return INTERNAL_ERROR


def _problem_response(document: ProblemDocument) -> Response:
    _record(document)
    if prefers_html(request):
        page = render_template("error.html", document=document, example=to_json(document.get("example", {})))
        return security.protect(Response(page, document["status"], mimetype=HTML))
    return Response(to_json(document), document["status"], mimetype=PROBLEM_JSON)


def _record(document: ProblemDocument) -> None:
    stats: RequestStats = g.stats
    stats.problem = document["type"]


def _retry_after(problem: Problem, response: Response) -> Response:
    if problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(problem.retry_after_seconds)
    return response
