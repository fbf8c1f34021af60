"""GET /metrics."""

from flask import Blueprint, Response, request

from service.metrics import Metrics


def metrics_routes(metrics: Metrics) -> Blueprint:
    """What Prometheus scrapes."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    def exposition() -> Response:
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    return routes
