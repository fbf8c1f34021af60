"""GET /metrics."""

from flask import Blueprint, Response, request

from service.openapi.operations import described
from service.telemetry.metrics import Metrics

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"


def metrics_routes(metrics: Metrics) -> Blueprint:
    """What Prometheus scrapes."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    @described("Tell Prometheus what was counted and how long it took", {TEXT: str, OPENMETRICS: str})
    def exposition() -> Response:
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    return routes
