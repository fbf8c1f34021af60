import logging
import sys
from pathlib import Path

import pytest
from flask import Flask
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from service.telemetry import traces
from tests.service.conftest import StandIn, app_of
from tests.service.test_gunicorn_conf import run_conf

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return app_of(StandIn(), tmp_path)


@pytest.fixture
def spans(app: Flask) -> InMemorySpanExporter:
    """The exported spans of the application's requests."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.trace_requests(app, provider)
    return exporter


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_a_request_continues_the_trace_of_its_client(app: Flask, spans: InMemorySpanExporter) -> None:
    app.test_client().post("/predict", json={"query": "1+2"}, headers={"traceparent": TRACEPARENT})
    exported = by_name(spans)
    assert exported.keys() == {"POST /predict", "validation", "queue", "inference"}
    assert {f"{span.context.trace_id:032x}" for span in exported.values() if span.context} == {TRACE}
    server = exported.pop("POST /predict")
    assert server.kind == SpanKind.SERVER
    assert server.context is not None
    assert {span.parent.span_id for span in exported.values() if span.parent} == {server.context.span_id}


def test_the_spans_of_a_request_follow_one_another(app: Flask, spans: InMemorySpanExporter) -> None:
    app.test_client().post("/predict/batch", json={"queries": ["1+2", "3+4"]})
    exported = by_name(spans)
    order = [exported[name] for name in ("POST /predict/batch", "validation", "queue", "inference")]
    starts = [span.start_time or 0 for span in order]
    assert starts == sorted(starts)
    assert (order[2].end_time or 0) == pytest.approx(order[3].start_time, abs=2000)  # nanoseconds
    assert (order[3].end_time or 0) <= (order[0].end_time or 0)
    assert order[3].attributes == {
        "adder.model": "adder", "adder.version": 1, "adder.queries": 2, "adder.batch_size": 2
    }  # fmt: skip


def test_a_refused_query_has_no_span_but_validation(app: Flask, spans: InMemorySpanExporter) -> None:
    assert app.test_client().post("/predict", json={"query": "1-2"}).status_code == 422
    assert by_name(spans).keys() == {"POST /predict", "validation"}


def test_a_stream_is_one_trace_that_ends_with_it(app: Flask, spans: InMemorySpanExporter) -> None:
    client = app.test_client()
    client.get("/predict/stream?query=1%2B2", headers={"traceparent": TRACEPARENT})
    client.get("/health/live")
    exported = by_name(spans)
    assert exported.keys() == {"GET /predict/stream", "validation", "queue", "inference", "GET /health/live"}
    assert exported["inference"].context is not None
    assert f"{exported['inference'].context.trace_id:032x}" == TRACE
    assert exported["GET /health/live"].parent is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "another exporter than otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "another protocol than http"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_settings_that_are_not_supported_are_logged(
    app: Flask, caplog: pytest.LogCaptureFixture, environment: dict[str, str], message: str
) -> None:
    traces.start(app, environment)
    assert message in caplog.text
    assert bool(message) == bool(caplog.records)
    assert app.wsgi_app.__name__ == "wsgi_app"  # Flask's own: no request is traced


def test_missing_packages_are_logged_in_one_line(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traces.start(app, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.endswith("pip install -r service/requirements-traces.txt")
    assert app.test_client().post("/predict", json={"query": "1+2"}).status_code == 200


def test_without_traces_no_opentelemetry_is_imported() -> None:
    imported = run_conf(
        "import sys; from service.telemetry import traces; traces.start(None); print(*sys.modules)"
    ).stdout.split()
    assert "service.telemetry.traces" in imported
    assert not [name for name in imported if name.startswith("opentelemetry")]
