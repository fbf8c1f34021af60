"""GET /models."""

from flask import Blueprint, Response, jsonify

from service.errors import ModelUnavailable
from service.models.repository import Repository
from service.openapi.operations import documented
from service.rest.caching import cached
from service.rest.schemas import ModelsResponse


def models_routes(repository: Repository) -> Blueprint:
    """The models that are served, and their accuracy."""
    routes = Blueprint("models", __name__)

    @routes.get("/models")
    @documented("List the models, and their accuracy", ModelsResponse, problems=(ModelUnavailable,), is_cached=True)
    def models() -> Response:
        return cached(jsonify(ModelsResponse.of(repository.artifacts()).model_dump()))

    return routes
