import pytest
from gunicorn.workers.gthread import ThreadWorker

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
def test_a_worker_that_still_loads_leaves_connections_to_those_that_can_answer(
    monkeypatch: pytest.MonkeyPatch, loaded: list[int], accepts: bool
) -> None:
    asked = []
    monkeypatch.setattr(ThreadWorker, "__init__", lambda _: None)
    monkeypatch.setattr(ThreadWorker, "set_accept_enabled", lambda _, enabled: asked.append(bool(enabled)))
    worker = PunctualWorker()
    worker.age, worker.loaded = 4, loaded  # the flag at 1 is its own
    worker.set_accept_enabled(True)
    worker.set_accept_enabled(False)
    assert asked == [accepts, False]


def test_an_answered_connection_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThreadWorker, "__init__", lambda _: None)
    monkeypatch.setattr(ThreadWorker, "handle", lambda _, conn: conn)
    worker = PunctualWorker()
    assert worker.handle("connection") == "connection"
    assert worker._begun == {}
