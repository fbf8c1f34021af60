"""GET /openapi.json and GET /docs, its interactive page."""

import importlib.resources
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, current_app, render_template, send_from_directory

from service.errors import ModelUnavailable
from service.models.artifact import Artifact
from service.models.repository import Repository
from service.openapi.document import document as openapi_document
from service.openapi.operations import documented
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML, JSON
from service.settings import Settings

# The files of Swagger UI, and the folder of each.
SWAGGER = Path(str(importlib.resources.files("flask_openapi_swagger"))) / "templates" / "swagger"
ASSETS = {"swagger-ui.css": "css", "swagger-ui-bundle.js": "js"}


def docs_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The description of the API, for programs and as a page."""
    routes = Blueprint("docs", __name__)
    routes.after_request(security.protect)

    @lru_cache(maxsize=1)
    def document(*artifacts: Artifact) -> str:
        return json.dumps(openapi_document(current_app, artifacts, settings.max_batch_queries))

    @routes.get("/openapi.json")
    @documented("Describe this service in OpenAPI", dict[str, Any], problems=(ModelUnavailable,), is_cached=True)
    def openapi_json() -> Response:
        return cached(Response(document(*repository.artifacts()), mimetype=JSON))

    @routes.get("/docs")
    @documented("Show the OpenAPI document as a page, with every route to try", {HTML: str}, is_cached=True)
    def docs() -> Response:
        response = cached(Response(render_template("docs.html")))
        # Swagger UI's style sheet contains its icons as data URLs.
        response.headers["Content-Security-Policy"] = security.policy(img_src="'self' data:")
        return response

    @routes.get("/docs/<asset>")
    def docs_asset(asset: str) -> Response:
        if asset not in ASSETS:
            abort(404)
        return send_from_directory(SWAGGER / ASSETS[asset], asset)

    return routes
