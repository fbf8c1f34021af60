import pytest
from gunicorn.workers.ggevent import GeventWorker

from service.worker import PunctualWorker


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
    monkeypatch: pytest.MonkeyPatch, loaded: list[int], accepts: bool
) -> None:
    monkeypatch.setattr(GeventWorker, "__init__", lambda _: None)
    worker = PunctualWorker()
    worker.slot, worker.loaded = 1, loaded
    assert worker.may_accept() == accepts
