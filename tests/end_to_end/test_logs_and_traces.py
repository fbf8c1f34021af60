"""The log as JSON, and spans sent to an OpenTelemetry collector."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.end_to_end.conftest import Start

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(BaseHTTPRequestHandler):
    """A collector of spans: OTLP over HTTP, as protobuf."""

    received: ClassVar[list[ExportTraceServiceRequest]] = []

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass

    @classmethod
    def spans(cls) -> list[Any]:
        return [
            span
            for request in cls.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_log_lines_are_json_and_requests_are_traces(
    start: Start, artifacts: Path, collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")  # spans are sent when the service stops
    service = start(artifacts=artifacts, workers=1, log_format="json", access_log=True).ready()
    with requests.Session() as session:  # one connection
        traceparent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-ID": "first"}
        session.post(service.url + "/predict", json={"query": "1+2"}, headers=traceparent, timeout=30)
        session.post(service.url + "/predict", json={"query": "3+4"}, timeout=30)
        session.post(service.url + "/predict", data=b"{", headers={"Content-Type": "application/json"}, timeout=30)
    assert service.stop() == 0

    lines = [json.loads(line) for line in service.log.splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message", "pid"} for line in lines)
    assert {line["logger"] for line in lines} == {"gunicorn.error", "tensorflow", "service.access"}
    access = [line for line in lines if line["logger"] == "service.access"]
    assert [line["http.response.status_code"] for line in access] == [200, 200, 400]
    assert [line.get("error.type") for line in access] == [None, None, "/problems/unreadable"]
    assert all(line["client.address"] == "127.0.0.1" for line in access)
    assert all(line["user_agent.original"].startswith("python-requests/") for line in access)
    assert access[0]["request_id"] == "first"
    assert access[0]["model"] == "adder"

    named = [(span.name, span.trace_id.hex() == TRACE) for span in Collector.spans()]
    inside = ["validation", "queue", "inference"]
    assert sorted(named) == sorted(
        [(name, True) for name in ["POST /predict", *inside]]
        + [(name, False) for name in ["POST /predict", *inside, "POST /predict", "validation"]]
    )
    assert len({span.trace_id for span in Collector.spans()}) == 3
    assert {line["trace_id"] for line in access} == {span.trace_id.hex() for span in Collector.spans()}
    assert access[0]["trace_id"] == TRACE
    [resource] = {
        value.value.string_value
        for request in Collector.received
        for value in request.resource_spans[0].resource.attributes
        if value.key == "service.name"
    }
    assert resource == "neural-adder"
