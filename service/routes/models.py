"""GET /models."""

from flask import Blueprint, Response, jsonify

from service.errors import BrokenArtifact
from service.models.repository import Repository
from service.openapi.operations import described
from service.rest.caching import cached
from service.rest.schemas import ModelsResponse


def models_routes(repository: Repository) -> Blueprint:
    """What is served, and how right it is."""
    routes = Blueprint("models", __name__)

    @routes.get("/models")
    @described("List the models, and how right each is", ModelsResponse, problems=(BrokenArtifact,), is_cached=True)
    def models() -> Response:
        return cached(jsonify(ModelsResponse.of(repository.all()).model_dump()))

    return routes
