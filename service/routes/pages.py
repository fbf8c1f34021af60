"""GET /, and what the pages are made of."""

import re
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, make_response, render_template, request, send_from_directory

from service import security
from service.artifact import Artifact
from service.repository import Repository
from service.settings import Settings

STATIC = Path(__file__).parent.parent / "static"
PICTURE = re.compile(r"^!\[([^\]\n]+)\]\(([^/)\n]+\.png)\)$", re.MULTILINE)  # in a model card


class Shown(NamedTuple):
    """A version that can be tried on the page, with the pictures of its model card: of each its file and caption."""

    artifact: Artifact
    pictures: list[tuple[str, str]]


def pages_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The page to try the service on, its style and script, and the pictures of the artifacts."""
    routes = Blueprint("pages", __name__, static_folder=STATIC, static_url_path="/static")
    routes.after_request(security.protect)

    @routes.get("/")
    def index() -> Response:
        shown = [Shown(artifact, pictures(folder(artifact))) for artifact in repository.all()]
        response = make_response(render_template("index.html", shown=shown))
        response.cache_control.no_cache = True
        response.add_etag()
        return response.make_conditional(request)

    @routes.get("/models/<model>/<int:version>/<name>.png")
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
