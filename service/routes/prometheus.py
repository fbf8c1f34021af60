"""GET /metrics."""

from flask import Blueprint, Response, request

from service.openapi.operations import documented
from service.telemetry.metrics import Metrics

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"


def prometheus_routes(metrics: Metrics) -> Blueprint:
    """The target that Prometheus scrapes."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    @documented("Report the metrics to Prometheus", {TEXT: str, OPENMETRICS: str})
    def exposition() -> Response:
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    return routes
