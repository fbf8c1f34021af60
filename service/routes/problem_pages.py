"""GET /problems/<name>: what a problem's `type` points to, and GET /problems, all of them."""

from contextlib import suppress

from flask import Blueprint, Response, abort, render_template

from service.errors import BrokenArtifact
from service.models.repository import Repository
from service.openapi.examples import SAMPLES
from service.openapi.operations import described
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML


def problems_routes(repository: Repository) -> Blueprint:
    """What each problem means and what to do, with a request that works."""
    routes = Blueprint("problems", __name__, url_prefix="/problems")
    routes.after_request(security.protect)

    @routes.get("")
    @described("Explain all problems", {HTML: str}, is_cached=True)
    def every() -> Response:
        return page("What can go wrong", list(SAMPLES))

    @routes.get("/<name>")
    @described(
        "Explain a problem: its `type` is this path",
        {HTML: str},
        variables={"name": {"enum": list(SAMPLES)}},
        problems=(404,),
        is_cached=True,
    )
    def one(name: str) -> Response:
        if name not in SAMPLES:
            abort(404)
        return page(SAMPLES[name].document["title"], [name])

    def page(title: str, names: list[str]) -> Response:
        example = None
        with suppress(BrokenArtifact):  # a problem too, and to be explained
            example = repository.find().artifact.metadata.query_example
        samples = {name: SAMPLES[name] for name in names}
        return cached(Response(render_template("problem.html", title=title, samples=samples, example=example)))

    return routes
