import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, g
from flask.testing import FlaskClient

from service.models.batcher import BatchResult
from service.telemetry import middleware
from service.telemetry.records import RequestStats
from tests.service.conftest import Clock

TIMING = re.compile(r"queue;dur=(\d+\.\d{3}), inference;dur=(\d+\.\d{3}), total;dur=(\d+\.\d{3})")


def test_a_request_id_is_echoed(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "1+1"}, headers={"X-Request-ID": "me-1"})
    assert response.headers["X-Request-ID"] == "me-1"


@pytest.mark.parametrize("request_id", ["", "with space", "x" * 129, "ü", "a\tb", "<script>"])
def test_an_invalid_request_id_is_replaced(client: FlaskClient, request_id: str) -> None:
    made = [client.get("/health/live", headers={"X-Request-ID": request_id}).headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    assert made[0] != made[1]


def test_a_prediction_has_the_times_of_queue_and_inference(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "1+1"})
    timing = TIMING.fullmatch(response.headers["Server-Timing"])
    assert timing
    queue, inference, total = map(float, timing.groups())
    assert queue + inference <= total + 0.002  # each is rounded


def test_the_times_of_all_calls_are_added(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = client.application.extensions["repository"].find().batcher
    predict, call = batcher.predict, batcher.call

    def timed(result: BatchResult[Any]) -> BatchResult[Any]:
        return result._replace(queue_seconds=0.001, inference_seconds=0.02)

    monkeypatch.setattr(batcher, "predict", lambda *arguments: timed(predict(*arguments)))
    monkeypatch.setattr(batcher, "call", lambda *arguments, **options: timed(call(*arguments, **options)))
    response = client.post("/predict", json={"query": "1+1", "alternatives": 2})
    assert response.status_code == 200
    timing = TIMING.fullmatch(response.headers["Server-Timing"])
    assert timing
    assert timing.groups()[:2] == ("2.000", "40.000")


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/models", 200), ("/nowhere", 404), ("/predict", 405)]
)
def test_every_response_has_id_timing_and_cache_control(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert re.fullmatch(r"total;dur=\d+\.\d{3}", response.headers["Server-Timing"])
    assert response.headers["X-Request-ID"]
    assert response.headers["Cache-Control"] == ("no-cache" if path == "/models" else "no-store")


class TestRegister:
    """The middleware of an application of its own, by a clock that its routes advance."""

    @pytest.fixture
    def observed(self) -> list[RequestStats]:
        return []

    @pytest.fixture
    def timed_client(self, observed: list[RequestStats]) -> FlaskClient:
        app, clock = Flask(__name__), Clock()
        middleware.register(app, [observed.append], clock=clock)

        @app.get("/plain")
        def plain() -> str:
            clock.advance(0.25)
            return "plain"

        @app.get("/inference")
        def inference() -> str:
            g.stats.served = object()
            g.stats.add(BatchResult([], 0.001, 0.02, 4))
            clock.advance(0.25)
            return "inference"

        @app.get("/stream")
        def stream() -> Response:
            def lines() -> Iterator[str]:
                for _ in range(2):
                    clock.advance(0.25)
                    yield "line\n"

            return Response(lines())

        return app.test_client()

    @pytest.mark.parametrize(
        ("path", "timing"),
        [
            ("/plain", "total;dur=250.000"),
            ("/inference", "queue;dur=1.000, inference;dur=20.000, total;dur=250.000"),
            ("/stream", "total;dur=0.000"),  # headers are sent before the first line
        ],
    )
    def test_times_are_in_milliseconds(self, timed_client: FlaskClient, path: str, timing: str) -> None:
        assert timed_client.get(path).headers["Server-Timing"] == timing

    def test_a_request_is_observed_once_at_its_end(
        self, timed_client: FlaskClient, observed: list[RequestStats]
    ) -> None:
        timed_client.get("/inference")
        [stats] = observed
        assert (stats.status, stats.seconds, stats.queue_seconds, stats.batch_size) == (200, 0.25, 0.001, 4)
        assert stats.request.path == "/inference"

    def test_a_stream_is_observed_at_its_end(self, timed_client: FlaskClient, observed: list[RequestStats]) -> None:
        response = timed_client.get("/stream", buffered=False)
        assert not observed
        assert response.text == "line\nline\n"
        response.close()
        [stats] = observed
        assert (stats.status, stats.seconds) == (200, 0.5)
