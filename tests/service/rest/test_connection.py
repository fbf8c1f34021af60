import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import app_of, wait_until
from tests.service.rest.gated_model import GatedModel, queue_size, start_leader, start_request, statuses


@pytest.fixture
def connections() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Two TCP connections: (the client's end, the service's end)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs = [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(2)]
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_request_of_a_disconnected_client_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: list[tuple[socket.socket, socket.socket]]
) -> None:
    monkeypatch.setattr("service.models.batcher.LIVENESS_CHECK_SECONDS", 0)
    model = GatedModel()
    app = app_of(model, tmp_path)
    leader = start_leader(app, model)
    (disconnected, _), _ = connections
    waiting = [
        start_request(app, json={"query": "1+1"}, environ_overrides={"gunicorn.socket": end}) for _, end in connections
    ]
    wait_until(lambda: queue_size(app) == 2)
    disconnected.close()
    model.open()
    assert statuses([leader, *waiting]) == [200, 499, 200]
