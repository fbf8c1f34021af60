"""GET /health/live and /health/ready."""

from flask import Blueprint, Response, jsonify

from service.repository import Repository
from service.schemas import Model


def health_routes(repository: Repository) -> Blueprint:
    """The probes: whether this worker runs, and whether it can answer."""
    routes = Blueprint("health", __name__, url_prefix="/health")

    @routes.get("/live")
    def live() -> Response:
        return jsonify(status="live")

    @routes.get("/ready")
    def ready() -> Response:
        models = [Model.of(artifact).model_dump() for artifact in repository.all()]
        return jsonify(status="ready", models=models)

    return routes
