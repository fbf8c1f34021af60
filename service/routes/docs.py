"""GET /openapi.json, and /docs, the page of it."""

import importlib.resources
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, current_app, render_template, send_from_directory

from service.errors import BrokenArtifact
from service.models.artifact import Artifact
from service.models.repository import Repository
from service.openapi.document import document as openapi_document
from service.openapi.operations import described
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML, JSON
from service.settings import Settings

# Swagger UI's own files, by the media type that they have.
SWAGGER = Path(str(importlib.resources.files("flask_openapi_swagger"))) / "templates" / "swagger"
ASSETS = {"swagger-ui.css": "css", "swagger-ui-bundle.js": "js"}


def docs_routes(repository: Repository, settings: Settings) -> Blueprint:
    """What may be asked, for programs and for people."""
    routes = Blueprint("docs", __name__)
    routes.after_request(security.protect)

    @lru_cache(maxsize=1)
    def document(*artifacts: Artifact) -> str:
        return json.dumps(openapi_document(current_app, artifacts, settings.max_batch_queries))

    @routes.get("/openapi.json")
    @described("Describe this service in OpenAPI", dict[str, Any], problems=(BrokenArtifact,), is_cached=True)
    def openapi_json() -> Response:
        return cached(Response(document(*repository.all()), mimetype=JSON))

    @routes.get("/docs")
    @described("Show that description, to be tried", {HTML: str}, is_cached=True)
    def docs() -> Response:
        response = cached(Response(render_template("docs.html")))
        # Swagger UI's style has its icons in itself.
        response.headers["Content-Security-Policy"] = security.policy(img_src="'self' data:")
        return response

    @routes.get("/docs/<asset>")
    @described(
        "What that page is made of",
        {"text/css": str, "text/javascript": str},
        variables={"asset": {"enum": list(ASSETS)}},
        problems=(404,),
        is_cached=True,
    )
    def docs_asset(asset: str) -> Response:
        if asset not in ASSETS:
            abort(404)
        return send_from_directory(SWAGGER / ASSETS[asset], asset)

    return routes
