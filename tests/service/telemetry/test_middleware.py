import re
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.models.engines.model_output import ModelOutput
from tests.service.conftest import StandIn, app_of

TIMING = re.compile(r"queue;dur=(\d+\.\d{3}), inference;dur=(\d+\.\d{3}), total;dur=(\d+\.\d{3})")


def test_a_request_id_is_echoed(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "1+1"}, headers={"X-Request-ID": "me-1"})
    assert response.headers["X-Request-ID"] == "me-1"


@pytest.mark.parametrize("asked", ["", "with space", "x" * 129, "ü", "a\tb", "<script>"])
def test_one_that_is_none_is_made(client: FlaskClient, asked: str) -> None:
    made = [client.get("/health/live", headers={"X-Request-ID": asked}).headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    assert made[0] != made[1]


def test_the_times_are_told(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "1+1"})
    timing = TIMING.fullmatch(response.headers["Server-Timing"])
    assert timing
    queue, inference, total = map(float, timing.groups())
    assert queue + inference <= total + 0.002


class Slow(StandIn):
    def predict(self, queries: list[str]) -> list[ModelOutput]:
        time.sleep(0.02)
        return super().predict(queries)

    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        time.sleep(0.02)
        return super().k_best(query, k)


def test_the_times_of_all_calls_are_added(tmp_path: Path) -> None:
    client = app_of(Slow(), tmp_path).test_client()
    response = client.post("/predict", json={"query": "1+1", "alternatives": 2})
    timing = TIMING.fullmatch(response.headers["Server-Timing"])
    assert timing
    assert float(timing[2]) >= 40


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/models", 200), ("/nowhere", 404), ("/predict", 405)]
)
def test_every_reply_has_a_receipt(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert re.fullmatch(r"total;dur=\d+\.\d{3}", response.headers["Server-Timing"])
    assert response.headers["X-Request-ID"]
    assert response.headers["Cache-Control"] == ("no-cache" if path == "/models" else "no-store")
