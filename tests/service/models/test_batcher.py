from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import gevent
import gevent.socket
import numpy as np
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ClientDisconnected, DeadlineExceeded, InferenceError, Problem, QueueFull
from service.models import batcher as batcher_module
from service.models.batcher import Batcher, BatchResult, RequestTerms
from service.models.engines.model_output import ModelOutput

Queries = list[str]
Asked: TypeAlias = "gevent.Greenlet[..., BatchResult[ModelOutput]]"


def echo(queries: Queries) -> list[ModelOutput]:
    return [ModelOutput(query, 1.0, np.zeros((4, 12), np.float32)) for query in queries]


class Seen:
    """What a batcher tells of itself."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.depths: list[int] = []
        self.called, self.queue_changed = self.calls.append, self.depths.append

    def answered(self, queries: Queries, result: BatchResult[ModelOutput]) -> None: ...

    def failed(self, problem: Problem) -> None: ...


def batcher_of(
    network: Callable[[Queries], list[ModelOutput]], queued: int = 100, seconds: float = 10, seen: Seen | None = None
) -> Batcher:
    return Batcher(network, max_batch_size=4, max_queue_size=queued, deadline_seconds=seconds, observer=seen or Seen())


class Gate:
    """A network that waits to be let through, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[Queries] = []
        self.open = Event()

    def __call__(self, queries: Queries) -> list[ModelOutput]:
        self.calls.append(queries)
        assert self.open.wait(10)
        if "fail" in queries:
            raise RuntimeError("fail")
        return echo(queries)


def ask(batcher: Batcher, *requests: Queries) -> list[Asked]:
    """Each in a greenlet of its own, in this order in the queue, as far as they get until they wait."""
    asked = [gevent.spawn(batcher.predict, queries) for queries in requests]
    gevent.sleep(0.01)
    return asked


def answers(asked: Asked) -> Queries:
    return [prediction.answer for prediction in asked.get(timeout=10).outputs]


def still_works(batcher: Batcher) -> bool:
    return answers(gevent.spawn(batcher.predict, ["z"])) == ["z"] and batcher.queue_size == 0


@pytest.mark.timeout(20)
def test_a_lone_request_waits_for_no_company() -> None:
    batcher = batcher_of(echo)
    for _ in range(10_000):  # a timer of 2 ms would not be done with them
        batcher.predict(["a"])


def test_what_one_turn_of_the_loop_brings_shares_a_call() -> None:
    network = Gate()
    network.open.set()
    asked = ask(batcher_of(network), ["a"], ["b"], ["c"])
    assert [answers(each) for each in asked] == [["a"], ["b"], ["c"]]
    assert network.calls == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("queries", "calls"), [("a", [["a", "x"]]), ("abcdef", [["a", "b", "c", "d"], ["e", "f", "x"]])]
)
def test_what_has_come_by_a_socket_shares_a_call(queries: str, calls: list[Queries]) -> None:
    gate = Gate()
    gate.open.set()
    batcher = batcher_of(gate)
    here, there = gevent.socket.socketpair()
    with here, there:
        asked = gevent.spawn(lambda: batcher.predict([there.recv(1).decode()]))
        gevent.sleep(0.01)
        here.send(b"x")
        batcher.predict(list(queries))
        assert answers(asked) == ["x"]
    assert gate.calls == calls


def test_what_waits_while_the_network_is_busy_shares_the_next_call() -> None:
    network = Gate()
    batcher = batcher_of(network)
    asked = ask(batcher, ["a"]) + ask(batcher, ["b"], ["c", "d"], ["e"])
    network.open.set()
    assert [answers(each) for each in asked] == [["a"], ["b"], ["c", "d"], ["e"]]
    assert network.calls == [["a"], ["b", "c", "d", "e"]]


def test_a_call_takes_no_more_than_it_may_and_the_rest_comes_next() -> None:
    network = Gate()
    batcher = batcher_of(network)
    asked = ask(batcher, ["a"]) + ask(batcher, ["b", "c", "d"], ["e", "f"], list("ghi"))
    network.open.set()
    assert [answers(each) for each in asked] == [["a"], ["b", "c", "d"], ["e", "f"], list("ghi")]
    assert network.calls == [["a"], ["b", "c", "d", "e"], ["f", "g", "h", "i"]]


def test_a_large_request_lets_the_others_between() -> None:
    network = Gate()
    batcher = batcher_of(network)
    asked = ask(batcher, list("abcdefghij")) + ask(batcher, ["x"])
    network.open.set()
    assert answers(asked[0]) == list("abcdefghij")
    assert network.calls == [list("abcd"), ["x", *"efg"], list("hij")]


def test_a_failed_call_fails_its_own_requests_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    network = Gate()
    batcher = batcher_of(network)
    asked = ask(batcher, ["a"]) + ask(batcher, ["b"], ["fail"], list("cdefgh"), ["i"])
    network.open.set()
    assert answers(asked[0]) == ["a"]
    for each in asked[1:4]:  # the last of them had but two of its queries in that call
        with pytest.raises(InferenceError):
            each.get(timeout=10)
    assert answers(asked[4]) == ["i"]
    assert network.calls == [["a"], ["b", "fail", "c", "d"], ["i"]]
    assert "RuntimeError: fail" in caplog.text
    assert still_works(batcher)


def test_too_few_predictions_are_a_failure() -> None:
    batcher = batcher_of(lambda queries: echo(queries[:1]))
    for each in ask(batcher, ["a"], ["b"]):
        with pytest.raises(InferenceError):
            each.get(timeout=10)
    assert still_works(batcher)


def test_the_queue_is_bounded() -> None:
    network = Gate()
    batcher = batcher_of(network, queued=3)
    ask(batcher, ["a"])
    ask(batcher, ["b", "c"])
    with pytest.raises(QueueFull, match="2 queries are in the queue, and the limit is 3"):
        batcher.predict(["d", "e"])
    network.open.set()
    assert still_works(batcher)


def test_who_waits_too_long_leaves_and_is_not_worked_for() -> None:
    network = Gate()
    batcher = batcher_of(network, seconds=0.05)
    asked = ask(batcher, ["a"]) + ask(batcher, ["b"], list("cdefgh"))
    gevent.sleep(0.1)
    network.open.set()
    assert answers(asked[0]) == ["a"]
    for each in asked[1:]:
        with pytest.raises(DeadlineExceeded):
            each.get(timeout=10)
    assert network.calls == [["a"]]
    assert still_works(batcher)


def test_a_client_that_left_is_not_worked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "LIVENESS_CHECK_SECONDS", 0)
    network = Gate()
    batcher = batcher_of(network)
    [first] = ask(batcher, ["a"])
    left = gevent.spawn(batcher.predict, ["b"], RequestTerms(is_connected=lambda: False))
    stayed = gevent.spawn(batcher.predict, ["c"], RequestTerms(is_connected=lambda: True))
    gevent.sleep(0.01)
    network.open.set()
    with pytest.raises(ClientDisconnected):
        left.get(timeout=10)
    assert (answers(first), answers(stayed)) == (["a"], ["c"])
    assert network.calls == [["a"], ["c"]]
    assert still_works(batcher)


def test_who_is_killed_while_it_leads_leaves_the_network_to_the_next() -> None:
    network = Gate()
    batcher = batcher_of(network)
    [killed, *others] = ask(batcher, ["a"]) + ask(batcher, ["b"])
    killed.kill()
    network.open.set()
    assert answers(others[0]) == ["b"]
    assert still_works(batcher)


@pytest.mark.parametrize("which", [0, 1])
def test_who_is_killed_before_a_call_leaves_the_network_to_the_others(which: int) -> None:
    batcher = batcher_of(echo)
    asked = [gevent.spawn(batcher.predict, [query]) for query in "abc"]
    for greenlet in asked:
        greenlet.start()
    gevent.sleep(0)  # the first leads, and lets the loop look
    asked.pop(which).kill()
    assert [answers(each) for each in asked] == [[query] for query in "abc" if query != "abc"[which]]
    assert still_works(batcher)


@given(st.lists(st.lists(st.text("abcx"), min_size=1, max_size=20), max_size=30), st.integers(0, 100))
@settings(deadline=None, max_examples=100)
def test_each_answer_goes_to_its_own_caller(requests: list[Queries], queued: int) -> None:
    def network(queries: Queries) -> list[ModelOutput]:
        assert 1 <= len(queries) <= 4
        gevent.sleep(0)  # the others come meanwhile
        if "x" in queries:
            raise RuntimeError
        return echo(queries)

    batcher = batcher_of(network, queued=queued)
    asked = [gevent.spawn(batcher.predict, queries) for queries in requests]
    gevent.joinall(asked, timeout=10)
    may_fail = sum(map(len, requests)) > queued or any("x" in queries for queries in requests)
    for queries, each in zip(requests, asked, strict=True):
        with suppress(*[Problem] if may_fail else []):  # but never another's
            assert answers(each) == queries
    assert batcher.queue_size == 0
    if queued:
        assert still_works(batcher)


def test_it_tells_what_each_call_has_and_how_many_wait() -> None:
    gate, seen = Gate(), Seen()
    batcher = batcher_of(gate, seen=seen)
    asked = ask(batcher, ["a"]) + ask(batcher, ["b", "c"], ["d", "e", "f"])
    assert seen.depths[-1] == 5
    gate.open.set()
    assert [len(answers(each)) for each in asked] == [1, 2, 3]
    assert (seen.calls, seen.depths[-1]) == ([1, 4, 1], 0)
    assert [each.get().batch_size for each in asked] == [1, 4, 1]
