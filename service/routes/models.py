"""GET /models."""

from flask import Blueprint, Response, jsonify

from service.repository import Repository
from service.schemas import ModelsResponse


def models_routes(repository: Repository) -> Blueprint:
    """What is served, and how right it is."""
    routes = Blueprint("models", __name__)

    @routes.get("/models")
    def models() -> Response:
        return jsonify(ModelsResponse.of(repository.all()).model_dump())

    return routes
