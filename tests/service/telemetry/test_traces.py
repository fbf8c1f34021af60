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
    """What has been collected of the application's requests."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.trace_requests(app, provider)
    return exporter


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_a_request_goes_on_its_caller_s_trace(app: Flask, spans: InMemorySpanExporter) -> None:
    app.test_client().post("/predict", json={"query": "1+2"}, headers={"traceparent": TRACEPARENT})
    made = by_name(spans)
    assert made.keys() == {"POST /predict", "validation", "queue", "inference"}
    assert {f"{span.context.trace_id:032x}" for span in made.values() if span.context} == {TRACE}
    server = made.pop("POST /predict")
    assert server.kind == SpanKind.SERVER
    assert server.context is not None
    assert {span.parent.span_id for span in made.values() if span.parent} == {server.context.span_id}


def test_what_is_inside_follows_one_on_the_other(app: Flask, spans: InMemorySpanExporter) -> None:
    app.test_client().post("/predict/batch", json={"queries": ["1+2", "3+4"]})
    made = by_name(spans)
    order = [made[name] for name in ("POST /predict/batch", "validation", "queue", "inference")]
    starts = [span.start_time or 0 for span in order]
    assert starts == sorted(starts)
    assert (order[2].end_time or 0) == pytest.approx(order[3].start_time, abs=2000)  # nanoseconds
    assert (order[3].end_time or 0) <= (order[0].end_time or 0)
    assert order[3].attributes == {
        "adder.model": "adder", "adder.version": 1, "adder.queries": 2, "adder.batch_size": 2
    }  # fmt: skip


def test_a_refused_query_was_validated_and_no_more(app: Flask, spans: InMemorySpanExporter) -> None:
    assert app.test_client().post("/predict", json={"query": "1-2"}).status_code == 422
    assert by_name(spans).keys() == {"POST /predict", "validation"}


def test_a_stream_is_one_trace_that_ends_with_it(app: Flask, spans: InMemorySpanExporter) -> None:
    client = app.test_client()
    client.get("/predict/stream?query=1%2B2", headers={"traceparent": TRACEPARENT}, buffered=True)
    client.get("/health/live")
    made = by_name(spans)
    assert made.keys() == {"GET /predict/stream", "validation", "queue", "inference", "GET /health/live"}
    assert made["inference"].context is not None
    assert f"{made['inference'].context.trace_id:032x}" == TRACE
    assert made["GET /health/live"].parent is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "another exporter than otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "another protocol than http"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_what_cannot_be_is_told(
    app: Flask, caplog: pytest.LogCaptureFixture, environment: dict[str, str], said: str
) -> None:
    traces.start(app, environment)
    assert said in caplog.text
    assert bool(said) == bool(caplog.records)
    assert app.wsgi_app.__name__ == "wsgi_app"  # as Flask has it


def test_packages_that_are_missing_are_told_in_a_line(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traces.start(app, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.endswith("pip install -r service/requirements-traces.txt")
    assert app.test_client().post("/predict", json={"query": "1+2"}).status_code == 200


def test_who_wishes_for_none_imports_nothing() -> None:
    imported = run_conf(
        "import sys; from service.telemetry import traces; traces.start(None); print(*sys.modules)"
    ).stdout.split()
    assert "service.telemetry.traces" in imported
    assert not [name for name in imported if name.startswith("opentelemetry")]
