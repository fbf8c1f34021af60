"""GET /health/live and /health/ready."""

from flask import Blueprint, Response, jsonify

from service.errors import BrokenArtifact
from service.models.repository import Repository
from service.openapi.operations import described
from service.rest.schemas import LiveResponse, Model, ReadyResponse


def health_routes(repository: Repository) -> Blueprint:
    """The probes: whether this worker runs, and whether it can answer."""
    routes = Blueprint("health", __name__, url_prefix="/health")

    @routes.get("/live")
    @described("Tell that this worker runs", LiveResponse)
    def live() -> Response:
        return jsonify(LiveResponse().model_dump())

    @routes.get("/ready")
    @described("Tell that this worker can answer, and by which models", ReadyResponse, problems=(BrokenArtifact,))
    def ready() -> Response:
        models = [Model.of(artifact) for artifact in repository.all()]
        return jsonify(ReadyResponse(models=models).model_dump())

    return routes
