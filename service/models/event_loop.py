"""gevent's event loop: lets a greenlet give way to the others of its process."""

import time
from collections import deque
from itertools import count
from typing import Any

import gevent
from gevent.event import Event

UNPOLLED_SECONDS = 0.001  # a new connection waits at most this much longer than a call of the model
PIECE_ITEMS = 64  # of lists, which take up to two milliseconds
PIECE_SECONDS = 0.005  # of long work, between two turns of the event loop
LOWEST_PRIORITY = -2  # libev's: runs after the watchers of the sockets

# By the socket of each open connection: when its request was handed to the application or last extended, in seconds of
# the monotonic clock; None between requests. The worker writes it.
request_started: dict[Any, float | None] = {}

# The sockets that the worker has shut for receiving: the bodies of their requests took too long.
overdue: set[Any] = set()

_turns: deque[Event] = deque()  # of requests with long work, in order
_piece_started = 0.0
_items = count(1)


def poll_event_loop() -> None:
    """Let the loop poll its sockets once and run the greenlets that have input, without waiting for more.

    `gevent.sleep(0)` returns before the loop polls.
    """
    hub = gevent.get_hub()
    idle = hub.loop.idle()
    idle.start(int)  # with an idle watcher, the loop does not wait when it polls
    try:
        hub.wait(hub.loop.check(priority=LOWEST_PRIORITY))
    finally:
        idle.close()


def give_way() -> None:
    """Between two pieces of long work: let other requests run, if the last piece began over PIECE_SECONDS ago.

    Requests with long work take turns: in each turn of the loop, one of them has a piece.
    """
    global _piece_started
    if time.monotonic() - _piece_started <= PIECE_SECONDS:
        return
    turn = Event()
    _turns.append(turn)
    try:
        if _turns[0] is not turn:
            turn.wait()
        poll_event_loop()
    finally:
        _turns.remove(turn)
        if _turns:
            _turns[0].set()
    _piece_started = time.monotonic()


def item_done() -> None:
    """Give way after each PIECE_ITEMS items of lists: a short list, which is no long work, mostly waits for no turn."""
    if next(_items) % PIECE_ITEMS == 0:
        give_way()


def may_have_requests() -> bool:
    """Whether a request may have arrived that the loop has not seen: from another open connection, or, since the last
    poll, from a new one."""
    return len(request_started) != 1 or time.time() - gevent.get_hub().loop.now() > UNPOLLED_SECONDS


def extend_deadline(client: Any) -> None:
    """Restart the time limits of the client's request: for bodies of any length, and behind a wait."""
    if client in request_started:
        request_started[client] = time.monotonic()
