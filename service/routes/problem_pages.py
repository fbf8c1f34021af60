"""GET /problems/<name>, where the `type` of a problem leads, and GET /problems, which lists all problems."""

from contextlib import suppress

from flask import Blueprint, Response, abort, render_template

from service.errors import ModelUnavailable
from service.models.repository import Repository
from service.openapi.examples import EXAMPLES
from service.openapi.operations import documented
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML


def problem_pages_routes(repository: Repository) -> Blueprint:
    """A page for each problem: its meaning, advice for the client, and a request that works."""
    routes = Blueprint("problems", __name__, url_prefix="/problems")
    routes.after_request(security.protect)

    @routes.get("")
    @documented("Explain all problems", {HTML: str}, is_cached=True)
    def every() -> Response:
        return page("Problems", list(EXAMPLES))

    @routes.get("/<name>")
    @documented(
        "Explain a problem: its `type` is this path",
        {HTML: str},
        variables={"name": {"enum": list(EXAMPLES)}},
        problems=(404,),
        is_cached=True,
    )
    def one(name: str) -> Response:
        if name not in EXAMPLES:
            abort(404)
        return page(EXAMPLES[name].document["title"], [name])

    def page(title: str, names: list[str]) -> Response:
        query = None
        with suppress(ModelUnavailable):  # without a model, the pages have no such request
            query = repository.find().artifact.metadata.task.example
        examples = {name: EXAMPLES[name] for name in names}
        return cached(Response(render_template("problem.html", title=title, examples=examples, query=query)))

    return routes
