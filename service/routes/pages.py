"""GET /, and the files of the pages."""

from pathlib import Path

from flask import Blueprint, Response, make_response, render_template, send_from_directory

from service.errors import ModelUnavailable
from service.models.repository import Repository
from service.openapi.operations import documented
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML

STATIC = Path(__file__).parent.parent / "static"


def pages_routes(repository: Repository) -> Blueprint:
    """The page to try the service in a browser."""
    routes = Blueprint("pages", __name__)
    routes.after_request(security.protect)

    @routes.get("/")
    @documented(
        "Show the page to try the service in a browser", {HTML: str}, problems=(ModelUnavailable,), is_cached=True
    )
    def index() -> Response:
        return cached(make_response(render_template("index.html", artifacts=repository.artifacts())))

    @routes.get("/static/<asset>")
    def static(asset: str) -> Response:
        return send_from_directory(STATIC, asset)

    return routes
