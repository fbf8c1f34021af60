"""A sample of each problem that the service answers with, and what it means: for its page and the OpenAPI document."""

import json
from typing import NamedTuple

from service import errors as problems
from service.errors import FieldError, Problem, ProblemDocument


class Sample(NamedTuple):
    """What a problem means and what to do, and a document of it."""

    meaning: str
    document: ProblemDocument

    @property
    def text(self) -> str:
        """The document, for people."""
        return json.dumps(self.document, indent=2)


_OURS: list[Problem] = [
    problems.Unreadable("Expecting ',' delimiter: line 1 column 18 (char 17)"),
    problems.DuplicateKey("query"),
    problems.BadHeader("Request-Timeout", "soon", "give it seconds above 0, like 2.5"),
    problems.InvalidArgument("Missing 'inputs' or 'instances' key"),
    problems.Incomplete("the body has 10 bytes, and 20 were announced: send it again, and without a pause"),
    problems.UnknownModel("third", None, {"adder": [2, 1]}),
    problems.TooLarge(1_048_576),
    problems.WrongContentType("text/plain"),
    problems.WrongContentEncoding("br"),
    problems.Invalid(
        [
            FieldError(
                pointer="#/query",
                detail="the operand '007' has a leading zero: write it without, like '123+456'",
            )
        ],
        1,
    ),
    problems.ClientLeft(),
    problems.QueueFull(16_384, 16_384),
    problems.DeadlineExceeded(10),
    problems.NetworkFailed(),
    problems.BrokenArtifact("a model could not be loaded: the log says why"),
]

# By the status that Flask or gunicorn give by themselves: what it means, and the detail of a document.
_HTTP = {
    400: ("The request is no proper HTTP. The detail says what cannot be read.", "Host is missing"),
    403: (
        "The request came by a proxy that may send none. Who runs the service says which may.",
        "Request forbidden",
    ),
    404: (
        "Nothing is served at this path. GET /docs lists the paths that there are.",
        "GET /nothing is not served: POST /predict answers a query, POST /predict/batch many",
    ),
    405: (
        "The path is served, but not by this method. The header Allow names those that are.",
        "GET /predict is not served: POST /predict answers a query, POST /predict/batch many",
    ),
    414: (
        "The first line of the request is too long. Send what is long in a body.",
        "Request Line is too large (9014 > 4094)",
    ),
    416: (
        "The file is shorter than where the header Range begins. Leave the header out.",
        "GET /docs/swagger-ui.css is not served: POST /predict answers a query, POST /predict/batch many",
    ),
    417: (
        "The header Expect has another value than 100-continue. Leave it out.",
        "Unable to comply with expectation: 200-ok",
    ),
    431: (
        "There are too many headers, or one is too long. Send fewer.",
        "Error parsing headers: 'limit request headers fields size'",
    ),
    500: (
        "A mistake of the service, whose log says more. The same request may work again.",
        "the service failed: its log says why",
    ),
    501: (
        "The header Transfer-Encoding has another value than chunked. Send the body as it is, with its Content-Length.",
        "Unsupported transfer coding: 'foo'",
    ),
}

SAMPLES = {problem.name: Sample(problem.meaning, problem.document()) for problem in _OURS} | {
    problems.http_name(status): Sample(meaning, problems.http_document(status, detail))
    for status, (meaning, detail) in _HTTP.items()
}
