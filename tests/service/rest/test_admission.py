from pathlib import Path

import gevent
import pytest
from flask.testing import FlaskClient

from service.errors import ClientDisconnected, QueueFull
from service.models.batcher import WaitLimits
from service.rest import admission
from service.rest.admission import LEASE_SECONDS, Admission, Ticket
from tests.service.conftest import Clock, StandIn, app_of, wait_until
from tests.service.rest.gated_model import GatedModel, start_leader, start_request

LARGE = {"queries": ["100+200"] * 70}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that cannot be admitted is refused at once."""
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(admission, "REFUSAL_SECONDS", 0)


def enter(
    admission: Admission, queries: int, limits: WaitLimits | None = None
) -> "gevent.Greenlet[[int, WaitLimits], Ticket]":
    """A request in a greenlet of its own. Returns when it is admitted or waits."""
    entering = gevent.spawn(admission.enter, queries, limits or WaitLimits())
    gevent.sleep(0)
    return entering


def test_requests_are_admitted_in_order_as_room_is_made() -> None:
    line = Admission(100)
    first = line.enter(60)
    second, third, fourth = enter(line, 50), enter(line, 40), enter(line, 20)
    assert not any(each.ready() for each in (second, third, fourth))
    line.leave(first)
    wait_until(lambda: second.ready() and third.ready())
    assert not fourth.ready()
    line.leave(second.get())
    wait_until(fourth.ready)


def test_a_request_above_the_limit_is_admitted_alone() -> None:
    line = Admission(100)
    line.leave(line.enter(200))
    line.enter(100)


@pytest.mark.usefixtures("impatient")
def test_a_request_is_refused_at_the_end_of_its_patience() -> None:
    line = Admission(100)
    first = line.enter(100)
    with pytest.raises(QueueFull, match="150 queries are in the queue, and the limit is 100"):
        line.enter(50)
    line.leave(first)
    line.enter(100)


def test_refusals_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(admission, "REFUSAL_SECONDS", 3600)
    line = Admission(100, Clock())
    line.enter(100)
    waiting = [enter(line, 50) for _ in range(3)]
    with pytest.raises(QueueFull):
        waiting[0].get(timeout=10)
    assert not waiting[1].ready()  # for an hour, of a clock that stands still
    gevent.killall(waiting)


def test_a_request_that_arrives_slowly_makes_room() -> None:
    clock = Clock()
    line = Admission(100, clock)
    slow = line.enter(100, is_received=lambda: False)
    clock.advance(LEASE_SECONDS)
    fast = line.enter(100)
    line.leave(slow)
    clock.advance(LEASE_SECONDS)
    last = enter(line, 100)
    assert not last.ready()
    line.leave(fast)
    wait_until(last.ready)


@pytest.mark.usefixtures("impatient")
def test_a_request_waits_no_longer_than_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 3600)
    line = Admission(100)
    line.enter(100)
    with pytest.raises(QueueFull):
        line.enter(50, WaitLimits(timeout_seconds=0))


@pytest.mark.parametrize("ending", ["disconnected", "killed"])
def test_a_request_that_ends_while_it_waits_leaves_the_line(ending: str) -> None:
    line = Admission(100)
    first = line.enter(100)
    waiting, last = enter(line, 50, WaitLimits(is_connected=lambda: ending == "killed")), enter(line, 100)
    if ending == "killed":
        waiting.kill()
    line.leave(first)
    wait_until(last.ready)
    if ending == "disconnected":
        with pytest.raises(ClientDisconnected):
            waiting.get()


@pytest.mark.parametrize(("seconds", "least", "most"), [(0, 1, 1), (0.5, 1, 1), (10, 10, 15), (100, 60, 60)])
def test_the_time_to_retry_grows_with_the_queue(seconds: float, least: int, most: int) -> None:
    assert {QueueFull(1, 1, seconds).retry_after_seconds for _ in range(100)} <= set(range(least, most + 1))


def test_the_times_to_retry_are_spread() -> None:
    assert len({QueueFull(1, 1, 20).retry_after_seconds for _ in range(100)}) > 1


def test_the_time_to_retry_is_that_of_the_queries_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    line = Admission(100, clock)
    ticket = line.enter(100)
    for _ in range(40):
        waiting = enter(line, 100)
        clock.advance(10)
        line.leave(ticket)
        ticket = waiting.get(timeout=10)
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 0)
    with pytest.raises(QueueFull) as raised:
        line.enter(100)
    assert raised.value.retry_after_seconds in range(19, 31)


class UnreadBody:
    """A body that must not be read."""

    def read(self, _size: int = -1) -> bytes:
        raise AssertionError("the body is read")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/predict/batch", "/v1/models/adder:predict", "/v2/models/adder/infer"])
def test_a_large_request_is_refused_before_its_body_is_read(tmp_path: Path, path: str) -> None:
    model = GatedModel()
    app = app_of(model, tmp_path, max_batch_queries=100, max_queued_queries=100)
    leader = start_leader(app, model, path="/predict/batch", json=LARGE)
    refused = app.test_client().post(
        path,
        content_type="application/json",
        environ_overrides={"wsgi.input": UnreadBody(), "CONTENT_LENGTH": "5000"},
    )
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    small = start_request(app)
    model.open()
    assert (leader.get(timeout=10).status_code, small.get(timeout=10).status_code) == (200, 200)
    assert app.test_client().post("/predict/batch", json=LARGE).status_code == 200


@pytest.mark.usefixtures("impatient")
def test_refusals_are_counted(tmp_path: Path) -> None:
    model = GatedModel()
    app = app_of(model, tmp_path, max_batch_queries=100, max_queued_queries=100)
    leader = start_leader(app, model, path="/predict/batch", json=LARGE)
    client: FlaskClient = app.test_client()
    assert client.post("/predict/batch", json=LARGE).status_code == 503
    model.open()
    assert leader.get(timeout=10).status_code == 200
    assert 'reason="queue_full",version="1"} 1.0' in client.get("/metrics").text


def test_room_is_made_whatever_becomes_of_a_request(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, max_batch_queries=100, max_queued_queries=100).test_client()
    for body in (b"[" * 1000, b'{"queries":["x"]}' + b" " * 1000):
        assert client.post("/predict/batch", data=body, content_type="application/json").status_code in (400, 422)
        assert client.post("/predict/batch", json=LARGE).status_code == 200
