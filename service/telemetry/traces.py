"""Traces requests with OpenTelemetry, if its OTEL_* variables are set and its packages are installed."""

import logging
import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, request

from service.telemetry.records import RequestStats

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

VARIABLES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
SPAN = "neural-adder.span"  # the key of the server span in the environ of a request
REFUSED = (400, 413, 415, 422)  # statuses of requests that validation refuses


def start(app: Flask, environment: Mapping[str, str] = os.environ) -> None:
    """In a worker, before its first request: trace requests, or log why they cannot be traced.

    A separate thread exports the spans, and exports the rest when the process ends.
    """
    exporter = next((environment[name] for name in VARIABLES if environment.get(name)), "none")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp" or protocol not in (None, "http/protobuf"):
        log.error("no traces: OTEL_* names another exporter than otlp, or another protocol than http/protobuf")
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.error("no traces: OTEL_* is set, but %s: pip install -r service/requirements-traces.txt", error)
        return
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": "neural-adder"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace_requests(app, provider)


def trace_requests(app: Flask, provider: "TracerProvider") -> None:
    """Create a server span for each request, which continues the trace of its `traceparent` (W3C Trace Context), and in
    it the spans `validation`, `queue` and `inference`."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    tracer = provider.get_tracer(__name__)

    def remember_span() -> None:
        request.environ[SPAN] = trace.get_current_span()

    def add_spans(stats: RequestStats) -> None:
        span = stats.request.environ[SPAN]
        if span.get_span_context().is_valid:  # invalid for OTEL_PYTHON_FLASK_EXCLUDED_URLS
            _add_spans(tracer, trace.set_span_in_context(span), stats)

    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app, tracer_provider=provider, enable_commenter=False
    )
    app.before_request(remember_span)
    app.extensions["request_observers"].append(add_spans)


def trace_id(environ: Mapping[str, Any]) -> str | None:
    """The id of the trace that a request is part of: by its span, or by its header `traceparent` without traces."""
    if SPAN in environ and (context := environ[SPAN].get_span_context()).is_valid:
        return f"{context.trace_id:032x}"
    header = TRACEPARENT.match(environ.get("HTTP_TRACEPARENT", ""))
    return header[1] if header else None


def _add_spans(tracer: "Tracer", server: "Context", stats: RequestStats) -> None:
    """Add the spans of a request at its end, from monotonic times: `clock` converts these to the time of traces."""
    clock = time.time_ns() - time.monotonic_ns()

    def add(name: str, started: float, seconds: float, attributes: dict[str, str | int]) -> None:
        start = clock + int(1e9 * started)
        tracer.start_span(name, server, start_time=start, attributes=attributes).end(start + int(1e9 * seconds))

    if stats.served is None:
        if stats.status in REFUSED:
            add("validation", stats.started, stats.seconds, {})
        return
    metadata = stats.served.artifact.metadata
    attributes: dict[str, str | int] = {
        "adder.model": metadata.name,
        "adder.version": metadata.version,
        "adder.queries": stats.queries,
    }
    add("validation", stats.started, stats.inference_started - stats.started, attributes)
    add("queue", stats.inference_started, stats.queue_seconds, attributes)
    dequeued = stats.inference_started + stats.queue_seconds
    add("inference", dequeued, stats.inference_seconds, attributes | {"adder.batch_size": stats.batch_size})
