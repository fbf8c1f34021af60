"""OpenTelemetry traces, where the standard OTEL_* variables wish for them and their packages are installed."""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flask import Flask, request

from service.telemetry.middleware import when_ended
from service.telemetry.records import Ended

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

WISHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SPAN = "neural-adder.span"  # in the environ of a request
REFUSED = (400, 413, 415, 422)  # by validation, before the network is asked


def start(app: Flask, environment: Mapping[str, str] = os.environ) -> None:
    """In a worker, before its first request. Says in the log why there are none, where they are wished for.

    What is collected is sent by a thread of its own, and the rest of it when the process ends.
    """
    exporter = next((environment[name] for name in WISHES if environment.get(name)), "none")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp" or protocol not in (None, "http/protobuf"):
        log.error("no traces: OTEL_* asks for another exporter than otlp, or another protocol than http/protobuf")
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.error("no traces: OTEL_* asks for them, but %s: pip install -r service/requirements-traces.txt", error)
        return
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": "neural-adder"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace_requests(app, provider)


def trace_requests(app: Flask, provider: "TracerProvider") -> None:
    """Have a server's span made for each request, which goes on the trace of its `traceparent` (W3C Trace Context), and
    inside it `validation`, `queue` and `network`."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    tracer = provider.get_tracer(__name__)

    def remember() -> None:
        request.environ[SPAN] = trace.get_current_span()

    def inside(ended: Ended) -> None:
        if not ended.request.environ[SPAN].get_span_context().is_valid:
            return  # OTEL_PYTHON_FLASK_EXCLUDED_URLS
        server = trace.set_span_in_context(ended.request.environ[SPAN])
        # They are known when they are over: the clock that measured them is set to that of the traces.
        clock = time.time_ns() - time.monotonic_ns()

        def span(name: str, begun: float, seconds: float, attributes: dict[str, str | int]) -> None:
            start = clock + int(1e9 * begun)
            made = tracer.start_span(name, server, start_time=start, attributes=attributes)
            made.end(start + int(1e9 * seconds))

        receipt = ended.receipt
        if receipt is None:
            if ended.status in REFUSED:
                span("validation", ended.begun, ended.seconds, {})
            return
        metadata = receipt.served.artifact.metadata
        of: dict[str, str | int] = {"adder.model": metadata.name, "adder.version": metadata.version}
        of["adder.queries"] = receipt.queries
        span("validation", ended.begun, receipt.asked - ended.begun, of)
        span("queue", receipt.asked, receipt.queue_seconds, of)
        begun = receipt.asked + receipt.queue_seconds
        span("network", begun, receipt.network_seconds, of | {"adder.batch_queries": receipt.batch_queries})

    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app, tracer_provider=provider, enable_commenter=False
    )
    app.before_request(remember)
    when_ended(app, inside)
