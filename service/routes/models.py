"""GET /models, as JSON or as a page, and the pictures of the model cards."""

import re
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, jsonify, make_response, render_template, request, send_from_directory

from service.errors import ModelUnavailable
from service.models.artifact import Artifact
from service.models.repository import Repository
from service.openapi.operations import LOOKUP_ERRORS, documented
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML, JSON, prefers_html
from service.rest.schemas import ModelsResponse
from service.settings import Settings

PICTURE = re.compile(r"^!\[([^\]\n]+)\]\(([^/)\n]+\.png)\)$", re.MULTILINE)  # in a model card


class PageModel(NamedTuple):
    """A version on the page, with the pictures of its model card: (file, caption)."""

    artifact: Artifact
    pictures: list[tuple[str, str]]


def models_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The models that are served, and their accuracy."""
    routes = Blueprint("models", __name__)
    routes.after_request(security.protect)

    @routes.get("/models")
    @documented(
        "List the models, and their accuracy",
        {JSON: ModelsResponse, HTML: str},
        problems=(ModelUnavailable,),
        is_cached=True,
    )
    def models() -> Response:
        """A page with the pictures of the model cards, if the Accept header prefers HTML."""
        artifacts = repository.artifacts()
        if prefers_html(request):
            shown = [PageModel(artifact, pictures(folder(artifact))) for artifact in artifacts]
            response = make_response(render_template("models.html", models=shown, catalog=repository.catalog))
        else:
            response = jsonify(ModelsResponse.of(artifacts, repository.catalog).model_dump())
        response.headers["Vary"] = "Accept"
        return cached(response)

    @routes.get("/models/<model>/<int:version>/<name>.png")
    @documented(
        "Show a picture of a model card",
        {"image/png": bytes},
        problems=(404, *LOOKUP_ERRORS),
        is_cached=True,
        variables={"name": {"type": "string", "examples": ["encoder"]}},
    )
    def picture(model: str, version: int, name: str) -> Response:
        artifact = repository.find(model, version).artifact
        return send_from_directory(folder(artifact), f"{name}.png")

    def folder(artifact: Artifact) -> Path:
        return settings.artifacts.absolute() / artifact.metadata.name / str(artifact.metadata.version)

    return routes


def pictures(artifact: Path) -> list[tuple[str, str]]:
    """Return (file, caption) of each picture in the model card of the folder; empty without a card."""
    try:
        card = (artifact / "MODEL_CARD.md").read_text()
    except (OSError, UnicodeDecodeError):
        return []
    return [(file, caption) for caption, file in PICTURE.findall(card)]
