import json
import re
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from service.models.engines.model_output import ModelOutput
from service.models.metadata import Evidence, Margin, Part
from service.telemetry import accuracy
from tests.service.conftest import METADATA, SHA256, StandIn, app_of

PREDICT = {"model": "adder", "version": "1", "route": "/predict"}


def metric_value(client: FlaskClient, name: str, **labels: str) -> float:
    """The sum of the samples of that name with those labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def predict(client: FlaskClient, query: str, **headers: str) -> TestResponse:
    return client.post("/predict", json={"query": query}, headers=headers)


def checked(client: FlaskClient, **labels: str) -> dict[str, float]:
    """How many answers were right, and how many wrong, when the loop has had the time to find out."""
    gevent.sleep(accuracy.DELAY_SECONDS + 0.05)
    return {
        outcome: metric_value(client, "adder_answers_total", outcome=outcome, **labels)
        for outcome in ("right", "wrong")
    }


def test_requests_are_counted_by_route_model_version_and_status(client: FlaskClient) -> None:
    for query in ("1+2", "3+4", "1-2"):
        predict(client, query)
    client.get("/nowhere/123")
    assert metric_value(client, "adder_requests_total", **PREDICT, status="200") == 2
    assert metric_value(client, "adder_requests_total", route="/predict", model="", status="422") == 1
    assert metric_value(client, "adder_requests_total", route="", status="404") == 1
    assert metric_value(client, "adder_request_duration_seconds_count", **PREDICT) == 2
    assert "/nowhere" not in client.get("/metrics").text


def test_a_request_s_time_is_what_it_took_and_so_is_the_network_s(tmp_path: Path) -> None:
    class Slow(StandIn):
        def predict(self, queries: list[str]) -> list[ModelOutput]:
            gevent.sleep(0.03)
            return super().predict(queries)

    client = app_of(Slow(), tmp_path).test_client()
    predict(client, "1+2")
    for name, of in (
        ("adder_request_duration_seconds", PREDICT),
        ("adder_inference_duration_seconds", {"model": "adder"}),
    ):
        assert 0.03 <= metric_value(client, f"{name}_sum", **of) < 0.1
        assert metric_value(client, f"{name}_bucket", **of, le="0.025") == 0
        assert metric_value(client, f"{name}_bucket", **of, le="0.1") == 1
    assert metric_value(client, "adder_queue_duration_seconds_sum") < 0.01


def test_queries_and_calls_are_counted(client: FlaskClient) -> None:
    client.post("/predict/batch", json={"queries": ["1+2"] * 5})
    assert metric_value(client, "adder_queries_total", model="adder", version="1") == 5
    assert metric_value(client, "adder_batch_size_sum") == 5
    assert metric_value(client, "adder_batch_size_count") == 1
    assert metric_value(client, "adder_queue_size") == 0


def test_what_is_streamed_is_counted_once_when_it_ends(client: FlaskClient) -> None:
    lines = b'{"query":"1+2"}\n{"query":"1-2"}\n{"query":"3+4"}\n'
    streamed = client.post("/predict/batch", data=lines, content_type="application/x-ndjson")
    assert metric_value(client, "adder_requests_total", route="/predict/batch") == 0
    assert len(streamed.text.splitlines()) == 3
    streamed.close()
    client.get("/predict/stream?query=5%2B6", buffered=True)
    assert metric_value(client, "adder_requests_total", route="/predict/batch", status="200", model="adder") == 1
    assert metric_value(client, "adder_requests_total", route="/predict/stream", status="200", model="adder") == 1
    assert metric_value(client, "adder_queries_total") == 3
    assert checked(client) == {"right": 0, "wrong": 3}


def test_a_full_queue_and_a_passed_deadline_are_counted(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, max_batch_queries=2, max_queued_queries=2).test_client()
    assert predict(client, "1+2", **{"Request-Timeout": "0.000000001"}).status_code == 504
    client.get("/predict/stream?query=1%2B2", headers={"Request-Timeout": "1e-9"}, buffered=True)
    assert metric_value(client, "adder_request_failures_total", model="adder", reason="deadline_exceeded") == 2
    client.application.extensions["repository"].find().batcher.queue_size = 2
    assert predict(client, "1+2").status_code == 503
    assert metric_value(client, "adder_request_failures_total", model="adder", reason="queue_full") == 1
    assert metric_value(client, "adder_requests_total", **PREDICT, status="503") == 1
    assert metric_value(client, "adder_queries_total") == 0


def test_answers_are_right_or_wrong_by_the_lengths_of_the_operands(client: FlaskClient) -> None:
    client.post("/predict/batch", json={"queries": ["1+2", "7+0", "12+0", "345+1"]})  # answered: 1, 7, 12, 345
    assert checked(client, digits="1+1", model="adder", version="1") == {"right": 1, "wrong": 1}
    assert checked(client, digits="2+1") == {"right": 1, "wrong": 0}
    assert checked(client, digits="3+1") == {"right": 0, "wrong": 1}


def test_an_answer_is_held_against_the_sum_after_it_is_given(client: FlaskClient) -> None:
    predict(client, "1+2")
    assert metric_value(client, "adder_answers_total") == 0
    assert checked(client) == {"right": 0, "wrong": 1}


@pytest.mark.parametrize(("answer", "room", "right"), [("9", 1, 1), ("3", 1, 0), ("579", 4, 1), ("9", 4, 0)])
def test_an_answer_is_the_end_of_the_sum_that_there_is_room_for(
    tmp_path: Path, answer: str, room: int, right: int
) -> None:
    class Short(StandIn):
        def answer(self, query: str) -> ModelOutput:
            return super().answer(query)._replace(answer=answer, probabilities=np.zeros((room, 12), np.float32))

    client = app_of(Short(), tmp_path).test_client()
    predict(client, "123+456")
    assert checked(client) == {"right": right, "wrong": 1 - right}


def test_what_explain_hides_a_character_of_is_no_answer(client: FlaskClient) -> None:
    client.post("/explain", json={"query": "12+0"})
    assert checked(client) == {"right": 1, "wrong": 0}


def test_what_there_is_no_time_for_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "MAX_PENDING", 5)
    client = app_of(StandIn(), tmp_path).test_client()
    for _ in range(3):
        client.post("/predict/batch", json={"queries": ["1+2"] * 2})
    assert metric_value(client, "adder_answers_dropped_total") == 2
    assert checked(client) == {"right": 0, "wrong": 4}
    predict(client, "1+2")
    assert checked(client) == {"right": 0, "wrong": 5}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"query": "12+7", "characters": True, "alternatives": 3}),
        ("/predict/batch", {"queries": ["12+7"], "characters": True}),
        ("/predict/stream", {"query": "12+7"}),
        ("/explain", {"query": "12+7"}),
    ],
)
def test_nothing_of_the_sum_is_in_an_answer(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    """The stand-in answers 12. What adds has no part in an answer that is the same where it cannot."""

    def answer() -> str:
        return client.post(path, json=body, buffered=True).text

    with_it = answer()
    assert "12" in with_it
    assert '"19' not in with_it
    monkeypatch.setattr(accuracy, "compare", None)  # whoever calls it now fails
    assert answer() == with_it


def test_nothing_but_the_metrics_adds() -> None:
    adds = re.compile(r"int\([^()]*\)\s*\+\s*int\(|sum\(map\(int")
    service = Path(accuracy.__file__).parents[1]
    assert [file.name for file in service.rglob("*.py") if adds.search(file.read_text())] == ["accuracy.py"]


def test_the_artifact_is_told(tmp_path: Path) -> None:
    part = Part(queries=4, wrong=1, exact_match=0.75)
    evidence = Evidence(
        domain=part, train=part, validation=part, held_out=Part(queries=2, wrong=1, exact_match=0.5),
        calibration_error=0, margin=Margin(query="1+2", smallest=0),
    )  # fmt: skip

    class Evaluated(StandIn):
        metadata = METADATA.model_copy(update={"evidence": evidence})

    client = app_of(Evaluated(), tmp_path).test_client()
    of = {"model": "adder", "version": "1"}
    assert metric_value(client, "adder_model_info", **of, sha256=SHA256, architecture="repeat_vector") == 1
    assert metric_value(client, "adder_artifact_exact_match", **of, part="domain") == 0.75
    assert metric_value(client, "adder_artifact_exact_match", **of, part="held_out") == 0.5


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", ""),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0", "# EOF\n"),
    ],
)
def test_the_form_is_the_one_asked_for(client: FlaskClient, accept: str, content_type: str, end: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"].startswith(content_type)
    assert response.text.endswith(end)
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(predict(client, "1+2").text)["answer"] == "1"
