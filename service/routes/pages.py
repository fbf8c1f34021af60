"""GET /, its style sheet and script, and the pictures of the model cards."""

import re
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, make_response, render_template, send_from_directory

from service.errors import ModelUnavailable
from service.models.artifact import Artifact
from service.models.repository import Repository
from service.openapi.operations import LOOKUP_ERRORS, documented
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML
from service.settings import Settings

STATIC = Path(__file__).parent.parent / "static"
PICTURE = re.compile(r"^!\[([^\]\n]+)\]\(([^/)\n]+\.png)\)$", re.MULTILINE)  # in a model card


class PageModel(NamedTuple):
    """A version on the page, with the pictures of its model card: (file, caption)."""

    artifact: Artifact
    pictures: list[tuple[str, str]]


def pages_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The page to try the service in a browser."""
    routes = Blueprint("pages", __name__)
    routes.after_request(security.protect)

    @routes.get("/")
    @documented(
        "Show the page to try the service in a browser", {HTML: str}, problems=(ModelUnavailable,), is_cached=True
    )
    def index() -> Response:
        models = [PageModel(artifact, pictures(folder(artifact))) for artifact in repository.artifacts()]
        return cached(make_response(render_template("index.html", models=models)))

    @routes.get("/static/<asset>")
    @documented(
        "Return a style sheet, script or icon of the pages",
        {"text/css": str, "text/javascript": str, "image/svg+xml": str},
        variables={"asset": {"enum": [file.name for file in STATIC.iterdir()]}},
        problems=(404,),
        is_cached=True,
    )
    def static(asset: str) -> Response:
        return send_from_directory(STATIC, asset)

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
