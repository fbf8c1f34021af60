import json
import re
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from service.models.artifact import Artifact
from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput
from service.models.metadata import Evidence, Margin, Part
from service.telemetry import accuracy
from service.telemetry.metrics import Metrics
from service.telemetry.records import RequestStats
from tests.service.conftest import METADATA, SHA256, StandIn, app_of, wait_until, with_task

PREDICT = {"model": "adder", "version": "1", "route": "/predict"}


def metric_value(client: FlaskClient, name: str, **labels: str) -> float:
    """The sum of the samples with that name and those labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def predict(client: FlaskClient, query: str, **headers: str) -> TestResponse:
    return client.post("/predict", json={"query": query}, headers=headers)


def outcomes(client: FlaskClient, compared: int, **labels: str) -> dict[str, float]:
    """How many answers with those labels are right and wrong, when so many answers have been compared."""
    wait_until(lambda: metric_value(client, "adder_answers_total") >= compared)
    return {
        outcome: metric_value(client, "adder_answers_total", outcome=outcome, **labels)
        for outcome in ("right", "wrong")
    }


def test_requests_are_counted_by_route_version_and_status(client: FlaskClient) -> None:
    for query in ("1+2", "3+4", "1-2"):
        predict(client, query)
    client.get("/nowhere/123")
    assert metric_value(client, "adder_requests_total", **PREDICT, status="200") == 2
    assert metric_value(client, "adder_requests_total", route="/predict", model="", status="422") == 1
    assert metric_value(client, "adder_requests_total", route="", status="404") == 1
    assert metric_value(client, "adder_request_duration_seconds_count", **PREDICT) == 2
    assert "/nowhere" not in client.get("/metrics").text


def samples(metrics: Metrics) -> list[str]:
    return metrics.exposition("")[0].decode().splitlines()


def test_a_request_is_observed_in_seconds(client: FlaskClient) -> None:
    metrics = Metrics()
    with client.application.test_request_context("/health/live") as context:
        metrics.observe_request(RequestStats(context.request, "id", started=0, status=200, seconds=0.03))
    of = 'model="",route="/health/live",version=""'
    lines = samples(metrics)
    assert f"adder_request_duration_seconds_sum{{{of}}} 0.03" in lines
    assert f'adder_request_duration_seconds_bucket{{le="0.025",{of}}} 0.0' in lines
    assert f'adder_request_duration_seconds_bucket{{le="0.05",{of}}} 1.0' in lines


def test_queue_and_inference_are_observed_in_seconds() -> None:
    metrics, artifact = Metrics(), StandIn()
    result = BatchResult([artifact.answer("1+2")], queue_seconds=0.0004, inference_seconds=0.03, batch_size=1)
    metrics.version_loaded(cast(Artifact, artifact)).answered(["1+2"], result)
    of = 'model="adder",version="1"'
    lines = samples(metrics)
    assert f"adder_inference_duration_seconds_sum{{{of}}} 0.03" in lines
    assert f'adder_inference_duration_seconds_bucket{{le="0.025",{of}}} 0.0' in lines
    assert f'adder_inference_duration_seconds_bucket{{le="0.05",{of}}} 1.0' in lines
    assert f"adder_queue_duration_seconds_sum{{{of}}} 0.0004" in lines
    assert f'adder_queue_duration_seconds_bucket{{le="0.00025",{of}}} 0.0' in lines
    assert f'adder_queue_duration_seconds_bucket{{le="0.0005",{of}}} 1.0' in lines


def test_a_prediction_is_observed_in_all_durations(client: FlaskClient) -> None:
    predict(client, "1+2")
    assert metric_value(client, "adder_request_duration_seconds_sum", **PREDICT) > 0
    for name in ("adder_inference_duration_seconds", "adder_queue_duration_seconds"):
        assert metric_value(client, f"{name}_sum", model="adder", version="1") > 0
        assert metric_value(client, f"{name}_count", model="adder", version="1") == 1


def test_queries_and_batch_sizes_are_counted(client: FlaskClient) -> None:
    client.post("/predict/batch", json={"queries": ["1+2"] * 5})
    assert metric_value(client, "adder_queries_total", model="adder", version="1") == 5
    assert metric_value(client, "adder_batch_size_sum") == 5
    assert metric_value(client, "adder_batch_size_count") == 1
    assert metric_value(client, "adder_queue_size") == 0


def test_a_stream_is_counted_once_at_its_end(client: FlaskClient) -> None:
    lines = b'{"query":"1+2"}\n{"query":"1-2"}\n{"query":"3+4"}\n'
    streamed = client.post("/predict/batch", data=lines, content_type="application/x-ndjson", buffered=False)
    assert metric_value(client, "adder_requests_total", route="/predict/batch") == 0
    assert len(streamed.text.splitlines()) == 3
    streamed.close()
    client.get("/predict/stream?query=5%2B6")
    assert metric_value(client, "adder_requests_total", route="/predict/batch", status="200", model="adder") == 1
    assert metric_value(client, "adder_requests_total", route="/predict/stream", status="200", model="adder") == 1
    assert metric_value(client, "adder_queries_total") == 3
    assert outcomes(client, 3) == {"right": 0, "wrong": 3}


def test_a_full_queue_and_a_passed_deadline_are_counted(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, max_batch_queries=2, max_queued_queries=2).test_client()
    assert predict(client, "1+2", **{"Request-Timeout": "0.000000001"}).status_code == 504
    client.get("/predict/stream?query=1%2B2", headers={"Request-Timeout": "1e-9"})
    assert metric_value(client, "adder_request_failures_total", model="adder", reason="deadline_exceeded") == 2
    client.application.extensions["repository"].find().batcher.queue_size = 2
    assert predict(client, "1+2").status_code == 503
    assert metric_value(client, "adder_request_failures_total", model="adder", reason="queue_full") == 1
    assert metric_value(client, "adder_requests_total", **PREDICT, status="503") == 1
    assert metric_value(client, "adder_queries_total") == 0


def test_answers_are_counted_by_the_length_of_the_query(client: FlaskClient) -> None:
    client.post("/predict/batch", json={"queries": ["1+2", "7+0", "12+0", "345+1"]})  # answered: 1, 7, 12, 345
    assert outcomes(client, 4, query_length="3", model="adder", version="1") == {"right": 1, "wrong": 1}
    assert outcomes(client, 4, query_length="4") == {"right": 1, "wrong": 0}
    assert outcomes(client, 4, query_length="5") == {"right": 0, "wrong": 1}


def test_answers_are_compared_with_samples(tmp_path: Path) -> None:
    class Sampled(StandIn):
        metadata = with_task(truth="samples")
        samples: ClassVar = {"1+2": "1", "3+4": "7"}

    client = app_of(Sampled(), tmp_path).test_client()
    client.post("/predict/batch", json={"queries": ["1+2", "3+4", "5+0"]})
    assert outcomes(client, 2) == {"right": 1, "wrong": 1}
    assert metric_value(client, "adder_model_info", truth="samples") == 1


def test_a_task_without_truth_counts_no_answers(tmp_path: Path) -> None:
    class Unknown(StandIn):
        metadata = with_task(truth=None)

    client = app_of(Unknown(), tmp_path).test_client()
    predict(client, "1+2")
    assert metric_value(client, "adder_queries_total") == 1
    assert metric_value(client, "adder_model_info", truth="none") == 1
    assert "adder_answers_total{" not in client.get("/metrics").text


def test_an_answer_is_compared_after_its_response(client: FlaskClient) -> None:
    predict(client, "1+2")
    assert metric_value(client, "adder_answers_total") == 0
    assert outcomes(client, 1) == {"right": 0, "wrong": 1}


@pytest.mark.parametrize(("answer", "length", "right"), [("9", 1, 1), ("3", 1, 0), ("579", 4, 1), ("9", 4, 0)])
def test_a_short_answer_is_compared_with_the_end_of_the_sum(
    tmp_path: Path, answer: str, length: int, right: int
) -> None:
    class Short(StandIn):
        answer_length = length

        def answer(self, query: str) -> ModelOutput:
            return super().answer(query)._replace(answer=answer)

    client = app_of(Short(), tmp_path).test_client()
    predict(client, "123+456")
    assert outcomes(client, 1) == {"right": right, "wrong": 1 - right}


def test_queries_with_a_hidden_character_are_not_compared(client: FlaskClient) -> None:
    client.post("/explain", json={"query": "12+0"})
    assert outcomes(client, 1) == {"right": 1, "wrong": 0}


def test_answers_without_time_to_compare_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "MAX_PENDING", 5)
    client = app_of(StandIn(), tmp_path).test_client()
    for _ in range(3):
        client.post("/predict/batch", json={"queries": ["1+2"] * 2})
    assert metric_value(client, "adder_answers_dropped_total") == 2
    assert outcomes(client, 4) == {"right": 0, "wrong": 4}
    predict(client, "1+2")
    assert outcomes(client, 5) == {"right": 0, "wrong": 5}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"query": "12+7", "characters": True, "alternatives": 3}),
        ("/predict/batch", {"queries": ["12+7"], "characters": True}),
        ("/predict/stream", {"query": "12+7"}),
        ("/explain", {"query": "12+7"}),
    ],
)
def test_no_response_depends_on_the_true_sum(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    """The stand-in answers 12, and the response is the same without the comparison with 19."""

    def respond() -> str:
        return client.post(path, json=body).text

    response = respond()
    assert "12" in response
    assert '"19' not in response
    monkeypatch.setattr(accuracy.AccuracyMonitor, "add", lambda *_: True)
    assert respond() == response


def test_only_the_accuracy_monitor_adds_numbers() -> None:
    adds = re.compile(r"int\([^()]*\)\s*\+\s*int\(|sum\(\[?(map\()?int")
    service = Path(accuracy.__file__).parents[1]
    assert [file.name for file in service.rglob("*.py") if adds.search(file.read_text())] == ["accuracy.py"]


def test_the_served_version_is_exposed(tmp_path: Path) -> None:
    part = Part(queries=4, wrong=1, exact_match=0.75)
    evidence = Evidence(
        domain=part, is_sample=False, train=part, validation=part, held_out=Part(queries=2, wrong=1, exact_match=0.5),
        calibration_error=0, margin=Margin(query="1+2", smallest=0),
    )  # fmt: skip

    class Evaluated(StandIn):
        metadata = METADATA.model_copy(update={"evidence": evidence})

    client = app_of(Evaluated(), tmp_path).test_client()
    of = {"model": "adder", "version": "1"}
    labels = {"sha256": SHA256, "architecture": "repeat_vector", "engine": "litert", "truth": "sum"}
    assert metric_value(client, "adder_model_info", **of, **labels) == 1
    assert metric_value(client, "adder_artifact_exact_match", **of, part="domain") == 0.75
    assert metric_value(client, "adder_artifact_exact_match", **of, part="held_out") == 0.5


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", ""),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0", "# EOF\n"),
    ],
)
def test_the_accept_header_chooses_the_format(client: FlaskClient, accept: str, content_type: str, end: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"].startswith(content_type)
    assert response.text.endswith(end)
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(predict(client, "1+2").text)["answer"] == "1"
