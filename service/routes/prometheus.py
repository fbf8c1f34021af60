"""GET /metrics."""

from flask import Blueprint, Response, make_response, render_template, request

from service.openapi.operations import documented
from service.rest import security
from service.rest.media_types import HTML, prefers_html
from service.telemetry.metrics import Metrics

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"


def prometheus_routes(metrics: Metrics) -> Blueprint:
    """The target that Prometheus scrapes."""
    routes = Blueprint("metrics", __name__)
    routes.after_request(security.protect)

    @routes.get("/metrics")
    @documented("Report the metrics to Prometheus", {TEXT: str, OPENMETRICS: str, HTML: str})
    def exposition() -> Response:
        """A page with a table for each metric, if the Accept header prefers HTML."""
        if prefers_html(request):
            return make_response(render_template("metrics.html", tables=metrics.tables()))
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    return routes
