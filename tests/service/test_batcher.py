import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, get_ident

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.artifact import Prediction
from service.batcher import Batcher
from service.problems import DeadlineExceeded, NetworkFailed, QueueFull


def echo(queries: list[str]) -> list[Prediction]:
    return [Prediction(query, 1.0, np.zeros((4, 12), np.float32)) for query in queries]


def batcher_of(network: Callable[[list[str]], list[Prediction]], queued: int = 100, seconds: float = 10) -> Batcher:
    return Batcher(network, shared_call_queries=4, max_queued_queries=queued, deadline_seconds=seconds)


class Gate:
    """A network that waits to be let through, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.entered, self.open = Event(), Event()

    def __call__(self, queries: list[str]) -> list[Prediction]:
        self.calls.append(queries)
        self.entered.set()
        assert self.open.wait(10)
        if "fail" in queries:
            raise RuntimeError("fail")
        return echo(queries)


def answers(future: Future[list[Prediction]]) -> list[str]:
    return [prediction.answer for prediction in future.result(timeout=10)]


def enqueue(threads: ThreadPoolExecutor, batcher: Batcher, *requests: list[str]) -> list[Future[list[Prediction]]]:
    """Each request in a thread of its own, in this order in the queue."""
    futures = []
    for queries in requests:
        queued = batcher.queued_queries + len(queries)
        futures.append(threads.submit(batcher.predict, queries))
        for _ in range(10_000):
            if batcher.queued_queries == queued:
                break
            time.sleep(0.001)
    return futures


def test_a_lone_request_is_answered_by_its_own_thread() -> None:
    threads = []

    def network(queries: list[str]) -> list[Prediction]:
        threads.append(get_ident())
        return echo(queries)

    assert [prediction.answer for prediction in batcher_of(network).predict(["a", "b"])] == ["a", "b"]
    assert threads == [get_ident()]


@pytest.mark.timeout(20)
def test_a_lone_request_waits_for_no_company() -> None:
    batcher = batcher_of(echo)
    for _ in range(10_000):  # a timer of 2 ms would not be done with them
        batcher.predict(["a"])


def test_what_waits_while_the_network_is_busy_shares_the_next_call() -> None:
    network = Gate()
    batcher = batcher_of(network)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(batcher.predict, ["a"])
        network.entered.wait(10)
        others = enqueue(threads, batcher, ["b"], ["c", "d"], ["e"])
        network.open.set()
        assert [answers(future) for future in [first, *others]] == [["a"], ["b"], ["c", "d"], ["e"]]
    assert network.calls == [["a"], ["b", "c", "d", "e"]]


def test_a_call_is_no_larger_than_the_largest_unless_a_request_is() -> None:
    network = Gate()
    batcher = batcher_of(network)
    with ThreadPoolExecutor() as threads:
        threads.submit(batcher.predict, ["a"])
        network.entered.wait(10)
        enqueue(threads, batcher, ["b", "c", "d"], ["e", "f"], list("ghijkl"))
        network.open.set()
    assert network.calls == [["a"], ["b", "c", "d"], ["e", "f"], list("ghijkl")]


def test_a_failed_call_fails_its_own_requests_and_no_others() -> None:
    network = Gate()
    batcher = batcher_of(network)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(batcher.predict, ["a"])
        network.entered.wait(10)
        failing = enqueue(threads, batcher, ["b"], ["fail"], ["c", "d", "e"])
        network.open.set()
        assert answers(first) == ["a"]
        for future in failing[:2]:
            with pytest.raises(NetworkFailed):
                future.result(timeout=10)
        assert answers(failing[2]) == ["c", "d", "e"]
    assert answers_after(batcher)


def test_a_failed_call_leaves_the_network_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    network = Gate()
    network.open.set()
    batcher = batcher_of(network, seconds=0.5)
    with pytest.raises(NetworkFailed):
        batcher.predict(["fail"])
    assert "RuntimeError: fail" in caplog.text
    assert answers_after(batcher)


def test_a_turn_that_comes_at_the_last_moment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.batcher.Event.wait", lambda *_: False)  # as if the deadline had just passed
    assert answers_after(batcher_of(echo))


def test_the_queue_is_bounded() -> None:
    network = Gate()
    batcher = batcher_of(network, queued=3)
    with ThreadPoolExecutor() as threads:
        threads.submit(batcher.predict, ["a"])
        network.entered.wait(10)
        enqueue(threads, batcher, ["b", "c"])
        with pytest.raises(QueueFull, match="2 queries are waiting for the network, and at most 3 may"):
            batcher.predict(["d", "e"])
        network.open.set()
    assert answers_after(batcher)


def test_who_waits_too_long_leaves_and_is_not_worked_for() -> None:
    network = Gate()
    batcher = batcher_of(network, queued=1, seconds=0.05)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(batcher.predict, ["a"])
        network.entered.wait(10)
        with pytest.raises(DeadlineExceeded):
            batcher.predict(["b"])
        with pytest.raises(DeadlineExceeded):
            batcher.predict(["c"])  # and not QueueFull: b has left its place
        network.open.set()
        assert answers(first) == ["a"]
    assert network.calls == [["a"]]
    assert answers_after(batcher)


@given(st.lists(st.lists(st.text(min_size=1), min_size=1, max_size=6), max_size=30))
@settings(deadline=None, max_examples=50)
def test_each_answer_goes_to_its_own_caller(requests: list[list[str]]) -> None:
    def slow_echo(queries: list[str]) -> list[Prediction]:
        time.sleep(0.001)  # the others come meanwhile
        return echo(queries)

    batcher = batcher_of(slow_echo, queued=1000)
    with ThreadPoolExecutor(16) as threads:
        assert [answers(future) for future in [threads.submit(batcher.predict, each) for each in requests]] == requests


def answers_after(batcher: Batcher) -> bool:
    return [prediction.answer for prediction in batcher.predict(["z"])] == ["z"]
