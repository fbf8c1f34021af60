from collections.abc import Callable

import gevent
import numpy as np
import pytest

from service.errors import InferenceError
from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput
from service.models.shadow import ASKED_AT_ONCE, MAX_PENDING, Shadow
from tests.service.conftest import TASK, wait_until


def outputs(*answers: str) -> list[ModelOutput]:
    return [ModelOutput(answer, 1.0, np.zeros([4, 12], np.float32)) for answer in answers]


class StubBatcher:
    """Answers a query with its first character."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.problem: Exception | None = None

    def predict(self, queries: list[str]) -> BatchResult[ModelOutput]:
        self.calls.append(queries)
        if self.problem is not None:
            raise self.problem
        return BatchResult(outputs(*(query[0] for query in queries)), 0, 0, len(queries))


class Counted:
    """A shadow, its batcher, and what it has reported."""

    def __init__(self) -> None:
        self.batcher = StubBatcher()
        self.agreed, self.differed, self.dropped = 0, 0, 0
        self.shadow = Shadow(self.batcher, TASK, self._report)  # type: ignore[arg-type]

    def _report(self, agreed: int, differed: int, dropped: int) -> None:
        self.agreed += agreed
        self.differed += differed
        self.dropped += dropped

    def counts(self) -> tuple[int, int, int]:
        return self.agreed, self.differed, self.dropped

    def until(self, *counts: int) -> None:
        wait_until(lambda: self.counts() == counts)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_answers_are_compared_after_they_were_given(counted: Counted) -> None:
    counted.shadow.add(["1+2", "3+4", "5+6"], outputs("1", "7", "5"))
    assert counted.batcher.calls == []
    counted.until(2, 1, 0)
    counted.shadow.add(["1+2"], outputs("1"))
    counted.until(3, 1, 0)


def test_many_queries_are_asked_in_pieces(counted: Counted) -> None:
    counted.shadow.add(["1+2"] * (ASKED_AT_ONCE + 1), outputs(*["1"] * (ASKED_AT_ONCE + 1)))
    counted.until(ASKED_AT_ONCE + 1, 0, 0)
    assert [len(call) for call in counted.batcher.calls] == [ASKED_AT_ONCE, 1]


def test_other_greenlets_come_first(counted: Counted) -> None:
    counted.shadow.add(["1+2"], outputs("1"))
    turns = 0

    def busy() -> None:
        nonlocal turns
        while turns < 100:
            gevent.sleep(0)
            turns += 1

    gevent.spawn(busy).join()
    assert turns == 100
    assert counted.batcher.calls == []
    counted.until(1, 0, 0)


def test_queries_are_dropped_and_counted(counted: Counted) -> None:
    counted.shadow.add(["1+2"] * MAX_PENDING, outputs(*["1"] * MAX_PENDING))
    counted.shadow.add(["1+2"], outputs("1"))
    assert counted.counts() == (0, 0, 1)
    counted.until(MAX_PENDING, 0, 1)


def test_a_query_of_another_task_is_not_asked(counted: Counted) -> None:
    counted.shadow.add(["1234+5", "1+2"], outputs("1239", "1"))
    counted.until(1, 0, 1)
    assert counted.batcher.calls == [["1+2"]]


@pytest.mark.parametrize("queries", [1, 40])
def test_a_shadow_that_fails_harms_nobody(counted: Counted, queries: int) -> None:
    counted.batcher.problem = InferenceError()
    counted.shadow.add(["1+2"] * queries, outputs(*["1"] * queries))
    counted.until(0, 0, queries)


def test_it_goes_on_after_an_unexpected_error(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Callable[[], object]] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *error: failed.append(error[1]))
    counted.batcher.problem = RuntimeError()
    counted.shadow.add(["1+2"], outputs("1"))
    wait_until(lambda: bool(failed))
    counted.batcher.problem = None
    counted.shadow.add(["1+2"], outputs("1"))
    counted.until(1, 0, 0)
