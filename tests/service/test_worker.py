import numpy as np
import pytest
from gunicorn.workers.ggevent import GeventWorker

from service.worker import PunctualWorker


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> PunctualWorker:
    monkeypatch.setattr(GeventWorker, "__init__", lambda _: None)
    worker = PunctualWorker()
    worker.slot = 1
    return worker


@pytest.mark.parametrize(
    ("loaded", "accepts"),
    [
        ([0, 0, 0], True),  # nobody can answer: this one may as well say so
        ([1, 0, 0], False),
        ([0, 1, 0], True),
        ([1, 1, 0], True),
    ],
)
def test_a_worker_that_has_not_loaded_leaves_connections_to_those_that_can_answer(
    worker: PunctualWorker, loaded: list[int], accepts: bool
) -> None:
    worker.loaded = np.array(loaded, np.bool_)
    assert worker.may_accept() == accepts


@pytest.mark.parametrize(
    ("loaded", "connections", "has_more"),
    [
        ([1, 1, 0], [0, 0, 0], False),
        ([1, 1, 0], [0, 1, 0], True),
        ([1, 1, 0], [8, 10, 0], False),
        ([1, 1, 0], [8, 11, 0], True),
        ([0, 1, 0], [0, 9, 0], False),  # nobody else can answer
        ([0, 0, 0], [0, 9, 0], False),
    ],
)
def test_a_worker_that_has_more_connections_lets_others_take_the_next(
    worker: PunctualWorker, loaded: list[int], connections: list[int], has_more: bool
) -> None:
    worker.loaded, worker.connections = np.array(loaded, np.bool_), np.array(connections, np.int32)
    assert worker.has_more_than_another() == has_more
