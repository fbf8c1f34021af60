import math

import gevent
import gevent.socket
import pytest

from service.models import event_loop
from service.models.event_loop import extend_deadline, give_way, may_have_requests, poll_event_loop, request_started
from tests.service.conftest import polls_during


def test_a_poll_returns_after_the_sockets_were_served() -> None:
    received: list[bytes] = []

    def serve(server: gevent.socket.socket) -> None:
        while data := server.recv(1):
            received.append(data)

    pairs = [gevent.socket.socketpair() for _ in range(3)]
    servers = [gevent.spawn(serve, server) for _, server in pairs]
    gevent.sleep(0)  # each waits in its socket
    for client, _ in pairs:
        client.send(b"x")
    assert received == []
    poll_event_loop()
    assert received == [b"x"] * 3
    for client, _ in pairs:
        client.close()
    gevent.joinall(servers, timeout=10)
    for _, server in pairs:
        server.close()


def test_a_poll_waits_for_no_socket_and_no_timer() -> None:
    fired: list[bool] = []
    timer = gevent.spawn_later(3600, fired.append, True)
    client, server = gevent.socket.socketpair()
    with client, server:
        waiting = gevent.spawn(server.recv, 1)
        poll_event_loop()
        assert not waiting.ready()
        client.close()
        waiting.join(10)
    assert not fired
    timer.kill()


def test_a_poll_runs_greenlets_that_are_ready() -> None:
    started: list[int] = []
    for number in range(3):
        gevent.spawn(started.append, number)
    poll_event_loop()
    assert started == [0, 1, 2]


@pytest.mark.parametrize(
    ("connections", "unpolled_seconds", "may_have"),
    [
        (0, math.inf, True),  # without gunicorn
        (1, math.inf, False),
        (1, -math.inf, True),  # a new connection may have come since the last poll
        (2, math.inf, True),
    ],
)
def test_only_one_connection_just_polled_has_no_request(
    monkeypatch: pytest.MonkeyPatch, connections: int, unpolled_seconds: float, may_have: bool
) -> None:
    monkeypatch.setattr(event_loop, "UNPOLLED_SECONDS", unpolled_seconds)
    for connection in range(connections):
        monkeypatch.setitem(request_started, connection, None)
    assert may_have_requests() == may_have


def test_a_poll_renews_the_time_of_the_last_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(request_started, "client", None)
    before = gevent.get_hub().loop.now()
    while gevent.get_hub().loop.now() == before:
        poll_event_loop()


@pytest.mark.parametrize(("piece_seconds", "polls"), [(-math.inf, 3), (math.inf, 0)])
def test_long_work_gives_way_after_some_time(monkeypatch: pytest.MonkeyPatch, piece_seconds: float, polls: int) -> None:
    monkeypatch.setattr(event_loop, "PIECE_SECONDS", piece_seconds)

    def work() -> None:
        for _ in range(3):
            give_way()

    assert polls_during(work) == polls


def test_long_work_of_several_requests_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "PIECE_SECONDS", -math.inf)
    pieces: list[tuple[str, int]] = []

    def work(name: str) -> None:
        for _ in range(3):
            give_way()
            pieces.append((name, gevent.get_hub().loop.iteration))

    gevent.joinall([gevent.spawn(work, name) for name in "abc"], timeout=10)
    assert [name for name, _ in pieces] == [*"abcabcabc"]
    assert len({turn for _, turn in pieces}) == 9  # one piece in each turn of the loop


def test_extend_deadline_starts_the_time_limits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(request_started, "client", -math.inf)
    monkeypatch.setitem(request_started, "other client", -math.inf)
    extend_deadline("client")
    assert [math.isfinite(started or 0) for started in request_started.values()] == [True, False]


def test_extend_deadline_adds_no_unknown_client() -> None:
    extend_deadline(None)  # as without gunicorn
    assert request_started == {}
