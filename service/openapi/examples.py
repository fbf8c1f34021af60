"""An example of each problem, and its meaning: for the page of the problem and the OpenAPI document."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from service.errors import Problem, ProblemDocument, http_document, http_name
from service.rest.problem_details import INTERNAL_ERROR, not_served


class ProblemExample(NamedTuple):
    """The meaning of a problem, with advice for the client, and a document."""

    meaning: str
    document: ProblemDocument

    @property
    def text(self) -> str:
        """The document, indented."""
        return json.dumps(self.document, indent=2)


def _subclasses(problem: type[Problem]) -> Iterator[type[Problem]]:
    for subclass in problem.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


_ROUTES = {"/predict": ["POST"], "/predict/batch": ["POST"]}

# Errors of Flask and gunicorn, by status: the meaning, and the detail of a document.
_HTTP = {
    400: ("The request is not valid HTTP. The detail names the fault.", "Host is missing"),
    403: (
        "The request came through a proxy that is not allowed to send requests. The operator configures proxies.",
        "Request forbidden",
    ),
    404: ("No route has this path. GET /docs lists all paths.", not_served("GET", "/nothing", _ROUTES)),
    405: (
        "The path has no route for this method. The header Allow names its methods.",
        not_served("GET", "/predict", _ROUTES),
    ),
    414: ("The request line is too long. Send long content in a body.", "Request Line is too large (9014 > 4094)"),
    416: (
        "The file is shorter than the start of the header Range. Leave the header out.",
        not_served("GET", "/docs/swagger-ui.css", _ROUTES),
    ),
    417: (
        "The header Expect has another value than 100-continue. Leave it out.",
        "Unable to comply with expectation: 200-ok",
    ),
    431: (
        "The request has too many headers, or one that is too long. Send fewer.",
        "Error parsing headers: 'limit request headers fields size'",
    ),
    500: (
        "An internal error, which the log of the service explains. The same request may work again.",
        INTERNAL_ERROR["detail"],
    ),
    501: (
        "The header Transfer-Encoding has another value than chunked. Send the body as it is, with its Content-Length.",
        "Unsupported transfer coding: 'foo'",
    ),
}

EXAMPLES = {
    problem.name: ProblemExample(problem.meaning, problem.sample().document()) for problem in _subclasses(Problem)
} | {
    http_name(status): ProblemExample(meaning, http_document(status, detail))
    for status, (meaning, detail) in _HTTP.items()
}
