"""GET /health/live and GET /health/ready."""

from flask import Blueprint, Response, jsonify

from service.errors import ModelUnavailable
from service.models.repository import Repository
from service.openapi.operations import documented
from service.rest.schemas import LiveResponse, ModelVersion, ReadyResponse


def health_routes(repository: Repository) -> Blueprint:
    """The probes of a worker."""
    routes = Blueprint("health", __name__, url_prefix="/health")

    @routes.get("/live")
    @documented("Report that this worker runs", LiveResponse)
    def live() -> Response:
        return jsonify(LiveResponse().model_dump())

    @routes.get("/ready")
    @documented("Report that this worker can answer, and its models", ReadyResponse, problems=(ModelUnavailable,))
    def ready() -> Response:
        models = [ModelVersion.of(artifact) for artifact in repository.artifacts()]
        return jsonify(ReadyResponse(models=models).model_dump())

    return routes
