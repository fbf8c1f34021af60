from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import gevent
import pytest
from flask import Flask
from flask.testing import FlaskClient
from gevent.event import Event
from werkzeug.test import TestResponse

from service.errors import InferenceError, ModelUnavailable, Problem, TooLarge
from service.models.batcher import WaitLimits
from service.rest.connection import RequestContext
from service.rest.inference import build_response, resolve_model
from service.rest.schemas import BatchRequest, PredictRequest
from service.telemetry.records import RequestStats
from tests.service.conftest import StandIn, app_loading, app_of, wait_until
from tests.service.rest.gated_model import (
    PLACES,
    GatedModel,
    fill_queue,
    queue_size,
    start_leader,
    statuses,
)

TENSOR = {"name": "query", "datatype": "BYTES", "shape": [1], "data": ["1+1"]}
REQUESTS: dict[str, dict[str, Any]] = {  # one for each way to the model, with one answer
    "predict": {"method": "POST", "path": "/predict", "json": {"query": "1+1"}},
    "alternatives": {"method": "POST", "path": "/predict", "json": {"query": "1+1", "alternatives": 2}},
    "batch": {"method": "POST", "path": "/predict/batch", "json": {"queries": ["1+1"]}},
    "stream": {"method": "POST", "path": "/predict/stream", "json": {"query": "1+1"}},
    "stream by GET": {"method": "GET", "path": "/predict/stream", "query_string": {"query": "1+1"}},
    "explain": {"method": "POST", "path": "/explain", "json": {"query": "1+1"}},
    "TensorFlow Serving": {"method": "POST", "path": "/v1/models/adder:predict", "json": {"instances": ["1+1"]}},
    "Open Inference": {"method": "POST", "path": "/v2/models/adder/infer", "json": {"inputs": [TENSOR]}},
}
every_way = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)


@pytest.fixture
def model() -> GatedModel:
    return GatedModel()


@pytest.fixture
def app(model: GatedModel, tmp_path: Path) -> Flask:
    """The application of the gated model, whose queue has few places."""
    return app_of(model, tmp_path, max_batch_queries=1, max_queued_queries=PLACES)


def sentence(response: TestResponse) -> str:
    document = response.get_json(force=True)
    return str(document["error"] if "error" in document else document["detail"])


@every_way
def test_a_request_is_answered(client: FlaskClient, request_: dict[str, Any]) -> None:
    assert client.open(**request_).status_code == 200


@every_way
def test_a_full_queue_refuses_a_request(app: Flask, model: GatedModel, request_: dict[str, Any]) -> None:
    admitted = [start_leader(app, model), *fill_queue(app)]
    response = app.test_client().open(**request_)
    model.open()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert sentence(response) == "4 queries are in the queue, and the limit is 4: try again"
    assert statuses(admitted) == [200] * len(admitted)


def test_admitted_alternatives_finish_though_the_queue_is_full(app: Flask, model: GatedModel) -> None:
    leader = start_leader(app, model, json={"query": "1+1", "alternatives": 2})
    waiting = fill_queue(app)
    model.open()
    response = leader.get(timeout=10)
    assert response.status_code == 200
    assert len(response.get_json()["alternatives"]) == 2
    assert statuses(waiting) == [200] * PLACES


def test_an_admitted_stream_finishes_though_the_queue_is_full(app: Flask, model: GatedModel) -> None:
    first_read, continued = Event(), Event()

    def read_stream() -> bytes:
        response = app.test_client().post("/predict/stream", json={"query": "12+3"}, buffered=False)
        blocks = iter(response.iter_encoded())
        first = next(blocks)
        first_read.set()
        assert continued.wait(10)
        return b"".join([first, *blocks])

    stream = gevent.spawn(read_stream)
    assert first_read.wait(10)
    admitted = [start_leader(app, model), *fill_queue(app)]
    continued.set()
    wait_until(lambda: queue_size(app) == PLACES + 1)  # the second step waits, beyond the limit
    assert app.test_client().post("/predict/stream", json={"query": "12+3"}).status_code == 503
    model.open()
    events = [line for line in stream.get(timeout=10).split(b"\n") if line.startswith(b"event: ")]
    assert events == [b"event: character"] * 3 + [b"event: done"]
    assert statuses(admitted) == [200] * len(admitted)


@every_way
@pytest.mark.parametrize(("settings", "headers"), [({}, {"Request-Timeout": "1e-9"}), ({"deadline_seconds": 1e-9}, {})])
def test_a_request_past_its_deadline_gets_504(
    tmp_path: Path, settings: dict[str, Any], headers: dict[str, str], request_: dict[str, Any]
) -> None:
    response = app_of(StandIn(), tmp_path, **settings).test_client().open(**request_, headers=headers)
    assert response.status_code == 504
    assert sentence(response) == "the model did not answer this request within 1e-09 seconds"


def test_alternatives_past_their_deadline_get_504(client: FlaskClient) -> None:
    served = client.application.extensions["repository"].find()
    [output] = served.artifact.engine.predict(["1+1"])
    body = PredictRequest.model_validate({"query": "1+1", "alternatives": 2}, context=served.limits)
    with client.application.test_request_context() as context:
        stats = RequestStats(context.request, "an id", 0)
        with pytest.raises(Problem) as raised:
            build_response(served, body, output, RequestContext(stats, WaitLimits(timeout_seconds=1e-9)))
    assert raised.value.status == 504


def fail(*_: object) -> NoReturn:
    raise RuntimeError("a secret")


def fail_in_the_first_step(*_: object) -> Iterator[NoReturn]:
    yield fail()


@pytest.mark.parametrize(
    ("name", "function", "failure"),
    [
        ("predict", "predict", fail),
        ("alternatives", "predict", fail),
        ("alternatives", "k_best", fail),
        ("batch", "predict", fail),
        ("stream", "decode", fail_in_the_first_step),
        ("stream by GET", "decode", fail_in_the_first_step),
        ("explain", "predict", fail),
        ("TensorFlow Serving", "predict", fail),
        ("Open Inference", "predict", fail),
    ],
)
def test_a_failed_call_gets_500_without_its_reason(
    tmp_path: Path, name: str, function: str, failure: Callable[..., Any]
) -> None:
    model = type("Failing", (StandIn,), {function: failure})()
    response = app_of(model, tmp_path).test_client().open(**REQUESTS[name])
    assert (response.status_code, sentence(response)) == (500, InferenceError().detail)


class UnreadableBody:
    """Fails the request that reads it."""

    def read(self, _: int = -1) -> NoReturn:
        raise AssertionError("the body was read")


@every_way
@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "", "1_0"])
def test_a_bad_request_timeout_is_refused_before_the_body(
    client: FlaskClient, value: str, request_: dict[str, Any]
) -> None:
    unread = {key: request_[key] for key in ("method", "path")} | {
        "environ_overrides": {"wsgi.input": UnreadableBody()}
    }
    response = client.open(**unread, content_type="application/json", headers={"Request-Timeout": value})
    assert response.status_code == 400
    assert sentence(response) == (
        f"the header Request-Timeout is '{value}': send a number of seconds above 0, like 2.5"
    )


@pytest.mark.parametrize(
    ("document", "example"),
    [
        ({"queries": ["1+"]}, {"queries": ["123+456"]}),
        ({"queries": ["1+"], "model": "other"}, {"queries": ["123+456"], "model": "other"}),
        ({"queries": [], "model": "other", "version": 1}, {"queries": ["123+456"], "model": "other", "version": 1}),
        ({"queries": ["1+1"], "model": "third"}, {"queries": ["123+456"]}),
    ],
)
def test_a_problem_has_an_example_for_the_model_it_names(
    tmp_path: Path, document: dict[str, Any], example: dict[str, Any]
) -> None:
    app = app_loading(lambda _: StandIn(), tmp_path, "adder/1", "other/1")
    with pytest.raises(Problem) as raised:
        resolve_model(app.extensions["repository"], lambda: document, BatchRequest, "id")
    assert raised.value.example == example


def test_a_problem_that_is_caught_is_not_changed(client: FlaskClient) -> None:
    caught = TooLarge(1000)

    def read() -> NoReturn:
        raise caught

    with pytest.raises(TooLarge) as raised:
        resolve_model(client.application.extensions["repository"], read, PredictRequest, "id")
    assert raised.value is not caught
    assert raised.value.__cause__ is caught
    assert (raised.value.detail, raised.value.example) == (caught.detail, {"query": "123+456"})
    assert caught.example is None


def test_without_a_model_the_body_is_not_read(broken_client: FlaskClient) -> None:
    def read() -> NoReturn:
        raise AssertionError("the body was read")

    with pytest.raises(ModelUnavailable):
        resolve_model(broken_client.application.extensions["repository"], read, PredictRequest, "id")
