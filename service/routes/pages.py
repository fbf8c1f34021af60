"""GET /, and what the pages are made of."""

import re
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, make_response, render_template, send_from_directory

from service.errors import BrokenArtifact
from service.models.artifact import Artifact
from service.models.repository import Repository
from service.openapi.operations import FINDING, described
from service.rest import security
from service.rest.caching import cached
from service.rest.media_types import HTML
from service.settings import Settings

STATIC = Path(__file__).parent.parent / "static"
PICTURE = re.compile(r"^!\[([^\]\n]+)\]\(([^/)\n]+\.png)\)$", re.MULTILINE)  # in a model card


class Shown(NamedTuple):
    """A version that can be tried on the page, with the pictures of its model card: of each its file and caption."""

    artifact: Artifact
    pictures: list[tuple[str, str]]


def pages_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The page to try the service on, its style and script, and the pictures of the artifacts."""
    routes = Blueprint("pages", __name__)
    routes.after_request(security.protect)

    @routes.get("/")
    @described("Show the page to try the service on", {HTML: str}, problems=(BrokenArtifact,), is_cached=True)
    def index() -> Response:
        shown = [Shown(artifact, pictures(folder(artifact))) for artifact in repository.all()]
        return cached(make_response(render_template("index.html", shown=shown)))

    @routes.get("/static/<asset>")
    @described(
        "What the pages are made of",
        {"text/css": str, "text/javascript": str, "image/svg+xml": str},
        variables={"asset": {"enum": [file.name for file in STATIC.iterdir()]}},
        problems=(404,),
        is_cached=True,
    )
    def static(asset: str) -> Response:
        return send_from_directory(STATIC, asset)

    @routes.get("/models/<model>/<int:version>/<name>.png")
    @described(
        "Show a picture of a model card",
        {"image/png": bytes},
        problems=(404, *FINDING),
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
    """Of each picture that the model card in the folder shows, file and caption; none where there is no card."""
    try:
        card = (artifact / "MODEL_CARD.md").read_text()
    except (OSError, UnicodeDecodeError):
        return []
    return [(file, caption) for caption, file in PICTURE.findall(card)]
