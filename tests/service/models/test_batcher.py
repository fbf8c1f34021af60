import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import gevent
import gevent.socket
import numpy as np
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ClientDisconnected, DeadlineExceeded, InferenceError, Problem, QueueFull
from service.models import event_loop
from service.models.batcher import LIVENESS_CHECK_SECONDS, Batcher, BatchResult, WaitLimits
from service.models.engines.model_output import ModelOutput
from tests.service.conftest import Clock, polls_during, wait_until

Queries = list[str]
Pending: TypeAlias = "gevent.Greenlet[..., BatchResult[ModelOutput]]"


def echo(queries: Queries) -> list[ModelOutput]:
    return [ModelOutput(query, 1.0, np.zeros((4, 12), np.float32)) for query in queries]


class RecordingObserver:
    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.queue_sizes: list[int] = []
        self.answers: list[Queries] = []
        self.problems: list[Problem] = []
        self.called, self.queue_changed = self.batch_sizes.append, self.queue_sizes.append
        self.failed = self.problems.append

    def answered(self, queries: Queries, _: BatchResult[ModelOutput]) -> None:
        self.answers.append(queries)

    def shadowed(self, agreed: int, differed: int, dropped: int) -> None:
        raise AssertionError((agreed, differed, dropped))


def batcher_of(
    model: Callable[[Queries], list[ModelOutput]],
    queue_size: int = 100,
    observer: RecordingObserver | None = None,
    clock: Clock | None = None,
) -> Batcher:
    return Batcher(
        model,
        max_batch_size=4,
        max_queue_size=queue_size,
        deadline_seconds=10,
        observer=observer or RecordingObserver(),
        clock=clock or Clock(),
    )


class Gate:
    """A model that waits until it is opened, and records its calls."""

    def __init__(self) -> None:
        self.calls: list[Queries] = []
        self.opened = Event()

    def __call__(self, queries: Queries) -> list[ModelOutput]:
        self.calls.append(queries)
        assert self.opened.wait(10)
        if "fail" in queries:
            raise RuntimeError("fail")
        return echo(queries)

    def open(self) -> None:
        self.opened.set()


def submit(batcher: Batcher, *requests: Queries, limits: WaitLimits | None = None) -> list[Pending]:
    """Each request in a greenlet of its own. Returns when all are in the queue, in this order."""
    return [submit_call(partial(batcher.predict, queries, limits or WaitLimits())) for queries in requests]


def submit_call(call: Callable[[], BatchResult[ModelOutput]]) -> Pending:
    started = Event()

    def run() -> BatchResult[ModelOutput]:
        started.set()
        return call()

    pending = gevent.spawn(run)
    assert started.wait(10)
    return pending


def submit_first(batcher: Batcher, gate: Gate, queries: Queries) -> Pending:
    """A request that leads. Returns when its call has reached the gate."""
    [pending] = submit(batcher, queries)
    wait_until(lambda: bool(gate.calls))
    return pending


def answers(pending: Pending) -> Queries:
    return [output.answer for output in pending.get(timeout=10).outputs]


def still_works(batcher: Batcher) -> bool:
    return answers(gevent.spawn(batcher.predict, ["z"])) == ["z"] and batcher.queue_size == 0


def test_a_lone_request_waits_for_one_poll_of_the_loop() -> None:
    batcher = batcher_of(echo)
    assert polls_during(lambda: batcher.predict(["a"])) == 1


@pytest.mark.parametrize(("unpolled_seconds", "polls"), [(math.inf, 0), (-math.inf, 1)])
def test_the_only_connection_polls_only_after_some_time(
    monkeypatch: pytest.MonkeyPatch, unpolled_seconds: float, polls: int
) -> None:
    monkeypatch.setattr(event_loop, "UNPOLLED_SECONDS", unpolled_seconds)
    monkeypatch.setitem(event_loop.request_started, object(), 0.0)
    batcher = batcher_of(echo)
    assert polls_during(lambda: batcher.predict(["a"])) == polls


def test_requests_of_one_turn_of_the_loop_share_a_call() -> None:
    gate = Gate()
    gate.open()
    batcher = batcher_of(gate)
    pending = [gevent.spawn(batcher.predict, [query]) for query in "abc"]
    assert [answers(each) for each in pending] == [["a"], ["b"], ["c"]]
    assert gate.calls == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("queries", "calls"), [("a", [["a", "x"]]), ("abcdef", [["a", "b", "c", "d"], ["x", "e", "f"]])]
)
def test_a_request_that_waits_in_a_socket_shares_a_call(queries: str, calls: list[Queries]) -> None:
    gate = Gate()
    gate.open()
    batcher = batcher_of(gate)
    client, server = gevent.socket.socketpair()
    with client, server:
        pending = submit_call(lambda: batcher.predict([server.recv(1).decode()]))
        client.send(b"x")
        batcher.predict(list(queries))
        assert answers(pending) == ["x"]
    assert gate.calls == calls


def test_requests_that_arrive_during_a_call_share_the_next() -> None:
    gate = Gate()
    batcher = batcher_of(gate)
    pending = [submit_first(batcher, gate, ["a"]), *submit(batcher, ["b"], ["c", "d"], ["e"])]
    gate.open()
    assert [answers(each) for each in pending] == [["a"], ["b"], ["c", "d"], ["e"]]
    assert gate.calls == [["a"], ["b", "c", "d", "e"]]


def test_a_request_is_split_where_the_batch_is_full() -> None:
    gate = Gate()
    batcher = batcher_of(gate)
    pending = [submit_first(batcher, gate, ["a"]), *submit(batcher, ["b", "c", "d"], ["e", "f"], list("ghi"))]
    gate.open()
    assert [answers(each) for each in pending] == [["a"], ["b", "c", "d"], ["e", "f"], list("ghi")]
    assert gate.calls == [["a"], ["b", "c", "d", "e"], ["g", "h", "i", "f"]]


def test_others_are_answered_between_calls_of_a_large_request() -> None:
    gate = Gate()
    batcher = batcher_of(gate)
    large = submit_first(batcher, gate, list("abcdefghij"))
    submit(batcher, ["x"])
    gate.open()
    assert answers(large) == list("abcdefghij")
    assert gate.calls == [list("abcd"), ["x", *"efg"], list("hij")]


def test_a_failed_call_fails_only_its_own_requests(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    batcher = batcher_of(gate)
    first = submit_first(batcher, gate, ["a"])
    *failing, last = submit(batcher, ["b"], ["fail"], list("cdefgh"), ["i"])
    gate.open()
    assert answers(first) == ["a"]
    for each in failing:  # the last has two queries in the failed call, and four that are not computed
        with pytest.raises(InferenceError):
            each.get(timeout=10)
    assert answers(last) == ["i"]
    assert gate.calls == [["a"], ["b", "fail", "c", "d"], ["i"]]
    assert "RuntimeError: fail" in caplog.text
    assert still_works(batcher)


def test_too_few_outputs_are_an_inference_error() -> None:
    batcher = batcher_of(lambda queries: echo(queries[:1]))
    for each in [gevent.spawn(batcher.predict, [query]) for query in "ab"]:
        with pytest.raises(InferenceError):
            each.get(timeout=10)
    assert still_works(batcher)


def test_a_full_queue_refuses_a_request() -> None:
    gate, observer = Gate(), RecordingObserver()
    batcher = batcher_of(gate, queue_size=3, observer=observer)
    submit_first(batcher, gate, ["a"])
    submit(batcher, ["b", "c"])
    with pytest.raises(QueueFull, match="2 queries are in the queue, and the limit is 3") as raised:
        batcher.predict(["d", "e"])
    assert observer.problems == [raised.value]
    gate.open()
    assert still_works(batcher)


def test_a_request_past_its_deadline_is_not_computed() -> None:
    gate, clock = Gate(), Clock()
    batcher = batcher_of(gate, clock=clock)
    first = submit_first(batcher, gate, ["a"])
    late = submit(batcher, ["b"], list("cdefgh"))
    clock.advance(10.001)
    gate.open()
    assert answers(first) == ["a"]
    for each in late:
        with pytest.raises(DeadlineExceeded):
            each.get(timeout=10)
    assert gate.calls == [["a"]]
    assert still_works(batcher)


def test_a_request_at_its_deadline_is_computed() -> None:
    gate, clock = Gate(), Clock()
    batcher = batcher_of(gate, clock=clock)
    submit_first(batcher, gate, ["a"])
    [second] = submit(batcher, ["b"])
    clock.advance(10)
    gate.open()
    assert answers(second) == ["b"]


def test_a_request_with_a_disconnected_client_is_not_computed() -> None:
    gate, clock = Gate(), Clock()
    batcher = batcher_of(gate, clock=clock)
    first = submit_first(batcher, gate, ["a"])
    [left] = submit(batcher, ["b"], limits=WaitLimits(is_connected=lambda: False))
    [stayed] = submit(batcher, ["c"], limits=WaitLimits(is_connected=lambda: True))
    clock.advance(LIVENESS_CHECK_SECONDS + 0.001)
    gate.open()
    with pytest.raises(ClientDisconnected):
        left.get(timeout=10)
    assert (answers(first), answers(stayed)) == (["a"], ["c"])
    assert gate.calls == [["a"], ["c"]]
    assert still_works(batcher)


def test_the_connection_is_not_checked_in_the_first_second() -> None:
    gate, clock = Gate(), Clock()
    batcher = batcher_of(gate, clock=clock)
    submit_first(batcher, gate, ["a"])
    [second] = submit(batcher, ["b"], limits=WaitLimits(is_connected=lambda: False))
    clock.advance(LIVENESS_CHECK_SECONDS)
    gate.open()
    assert answers(second) == ["b"]


def test_a_leader_killed_during_its_call_hands_over() -> None:
    gate = Gate()
    batcher = batcher_of(gate)
    leader = submit_first(batcher, gate, ["a"])
    [second] = submit(batcher, ["b"])
    leader.kill()
    gate.open()
    assert answers(second) == ["b"]
    assert still_works(batcher)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_request_killed_before_its_call_leaves_the_others(killed: int) -> None:
    batcher = batcher_of(echo)
    pending = [gevent.spawn(batcher.predict, [query]) for query in "abc"]
    gevent.sleep(0)  # all are in the queue, and the first polls the event loop
    assert batcher.queue_size == 3
    pending.pop(killed).kill()
    assert [answers(each) for each in pending] == [[query] for query in "abc" if query != "abc"[killed]]
    assert still_works(batcher)


@given(st.lists(st.lists(st.text("abcx"), min_size=1, max_size=20), max_size=30), st.integers(0, 100))
@settings(deadline=None, max_examples=100)
def test_each_request_gets_its_own_answers(requests: list[Queries], queue_size: int) -> None:
    def model(queries: Queries) -> list[ModelOutput]:
        assert 1 <= len(queries) <= 4
        gevent.sleep(0)  # other requests arrive during the call
        if "x" in queries:
            raise RuntimeError
        return echo(queries)

    batcher = batcher_of(model, queue_size)
    pending = [gevent.spawn(batcher.predict, queries) for queries in requests]
    gevent.joinall(pending, timeout=10)
    may_fail = sum(map(len, requests)) > queue_size or any("x" in queries for queries in requests)
    for queries, each in zip(requests, pending, strict=True):
        with suppress(*[Problem] if may_fail else []):
            assert answers(each) == queries
    assert batcher.queue_size == 0
    if queue_size:
        assert still_works(batcher)


def test_batch_sizes_and_queue_sizes_are_observed() -> None:
    gate, observer = Gate(), RecordingObserver()
    batcher = batcher_of(gate, observer=observer)
    pending = [submit_first(batcher, gate, ["a"]), *submit(batcher, ["b", "c"], ["d", "e", "f"])]
    assert observer.queue_sizes[-1] == 5
    gate.open()
    assert [len(answers(each)) for each in pending] == [1, 2, 3]
    assert (observer.batch_sizes, observer.queue_sizes[-1]) == ([1, 4, 1], 0)
    assert [each.get().batch_size for each in pending] == [1, 4, 1]
    assert sorted(observer.answers) == [["a"], ["b", "c"], ["d", "e", "f"]]


def test_queue_and_inference_times_are_measured() -> None:
    clock = Clock()

    def model(queries: Queries) -> list[ModelOutput]:
        clock.advance(0.25)
        return echo(queries)

    batcher = batcher_of(model, clock=clock)
    pending = [gevent.spawn(batcher.predict, queries) for queries in (["a"], list("bcdef"))]
    times = [(each.get(timeout=10).queue_seconds, each.get().inference_seconds) for each in pending]
    assert times == [(0, 0.25), (0, 0.5)]  # the first three of the second request share the call of the first
    gate = Gate()
    batcher = batcher_of(gate, clock=clock)
    submit_first(batcher, gate, ["a"])
    [second] = submit(batcher, ["b"])
    clock.advance(0.5)
    gate.open()
    assert second.get(timeout=10).queue_seconds == 0.5


class TestCall:
    """A function of the model with a call of its own."""

    def test_calls_and_batches_take_turns(self) -> None:
        gate = Gate()
        batcher = batcher_of(gate)

        def function() -> ModelOutput:
            gate.calls.append(["function"])
            return echo(["f"])[0]

        pending = [
            submit_first(batcher, gate, ["a"]),
            *submit(batcher, ["b"], ["c"]),
            submit_call(lambda: batcher.call(function)),
            submit_call(lambda: batcher.call(function)),
            *submit(batcher, ["d"], ["e"], ["g"]),
        ]
        gate.open()
        assert [answers(each) for each in pending] == [["a"], ["b"], ["c"], ["f"], ["f"], ["d"], ["e"], ["g"]]
        assert gate.calls == [["a"], ["function"], ["b", "c", "d", "e"], ["function"], ["g"]]
        assert still_works(batcher)

    def test_its_times_are_measured_and_its_output_is_not_observed(self) -> None:
        clock, observer = Clock(), RecordingObserver()

        def function() -> str:
            clock.advance(0.25)
            return "output"

        assert batcher_of(echo, observer=observer, clock=clock).call(function) == (["output"], 0, 0.25, 1)
        assert (observer.batch_sizes, observer.queue_sizes, observer.answers) == ([], [1, 0], [])

    def test_a_full_queue_refuses_it_unless_it_is_admitted(self) -> None:
        gate, observer = Gate(), RecordingObserver()
        batcher = batcher_of(gate, queue_size=2, observer=observer)
        submit_first(batcher, gate, ["a"])
        [waiting] = submit(batcher, ["b", "c"])
        with pytest.raises(QueueFull, match="2 queries are in the queue, and the limit is 2") as raised:
            batcher.call(lambda: echo(["f"])[0])
        assert observer.problems == [raised.value]
        admitted = submit_call(lambda: batcher.call(lambda: echo(["f"])[0], is_admitted=True))
        assert batcher.queue_size == 3
        gate.open()
        assert (answers(admitted), answers(waiting)) == (["f"], ["b", "c"])
        assert still_works(batcher)

    @pytest.mark.parametrize(
        ("limits", "seconds", "is_admitted", "problem"),
        [
            (WaitLimits(), 10.001, False, DeadlineExceeded),
            (WaitLimits(), 10.001, True, DeadlineExceeded),
            (WaitLimits(timeout_seconds=2), 2.001, False, DeadlineExceeded),
            (WaitLimits(timeout_seconds=2), 2.001, True, DeadlineExceeded),
            (WaitLimits(started=Clock().now - 9), 1.001, False, DeadlineExceeded),
            (WaitLimits(started=Clock().now - 9), 1.001, True, DeadlineExceeded),
            (WaitLimits(is_connected=lambda: False), 1.001, False, ClientDisconnected),
            (WaitLimits(is_connected=lambda: False, started=Clock().now - 1), 0.001, False, ClientDisconnected),
        ],
    )
    def test_it_is_dropped_by_the_limits_of_its_request(
        self, limits: WaitLimits, seconds: float, is_admitted: bool, problem: type[Problem]
    ) -> None:
        gate, clock, observer = Gate(), Clock(), RecordingObserver()
        batcher = batcher_of(gate, observer=observer, clock=clock)
        first = submit_first(batcher, gate, ["a"])

        def function() -> ModelOutput:
            raise AssertionError("it is computed")

        dropped = submit_call(lambda: batcher.call(function, limits, is_admitted=is_admitted))
        clock.advance(seconds)
        gate.open()
        assert answers(first) == ["a"]
        with pytest.raises(problem) as raised:
            dropped.get(timeout=10)
        assert observer.problems == [raised.value]
        assert still_works(batcher)

    def test_an_admitted_request_is_finished_without_a_liveness_check(self) -> None:
        gate, clock = Gate(), Clock()
        batcher = batcher_of(gate, clock=clock)
        submit_first(batcher, gate, ["a"])
        limits = WaitLimits(is_connected=lambda: False)
        pending = submit_call(lambda: batcher.call(lambda: echo(["f"])[0], limits, is_admitted=True))
        clock.advance(1.001)
        gate.open()
        assert answers(pending) == ["f"]

    def test_it_is_computed_within_the_limits_of_its_request(self) -> None:
        gate, clock = Gate(), Clock()
        batcher = batcher_of(gate, clock=clock)
        submit_first(batcher, gate, ["a"])
        limits = WaitLimits(timeout_seconds=2, started=clock.now - 1)
        pending = submit_call(lambda: batcher.call(lambda: echo(["f"])[0], limits))
        clock.advance(1)
        gate.open()
        assert answers(pending) == ["f"]

    def test_its_failure_fails_no_other_request(self, caplog: pytest.LogCaptureFixture) -> None:
        gate = Gate()
        batcher = batcher_of(gate)

        def function() -> ModelOutput:
            raise RuntimeError("of the function")

        first = submit_first(batcher, gate, ["a"])
        failing = submit_call(lambda: batcher.call(function))
        [last] = submit(batcher, ["b"])
        gate.open()
        assert (answers(first), answers(last)) == (["a"], ["b"])
        with pytest.raises(InferenceError):
            failing.get(timeout=10)
        assert "RuntimeError: of the function" in caplog.text
        assert still_works(batcher)

    def test_it_is_dropped_when_its_greenlet_is_killed(self) -> None:
        gate = Gate()
        batcher = batcher_of(gate)
        submit_first(batcher, gate, ["a"])
        killed = submit_call(lambda: batcher.call(lambda: echo(["f"])[0]))
        killed.kill()
        assert batcher.queue_size == 0
        gate.open()
        assert still_works(batcher)
