"""gevent's event loop: lets a greenlet give way to the others of its process."""

import time
from typing import Any

import gevent

UNPOLLED_SECONDS = 0.001  # a new connection waits at most this much longer than a call of the model
LOWEST_PRIORITY = -2  # libev's: runs after the watchers of the sockets

# By the socket of each open connection: when its request was handed to the application or last extended, in seconds of
# the monotonic clock; None between requests. The worker writes it.
request_started: dict[Any, float | None] = {}


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


def may_have_requests() -> bool:
    """Whether a request may have arrived that the loop has not seen: from another open connection, or, since the last
    poll, from a new one."""
    return len(request_started) != 1 or time.time() - gevent.get_hub().loop.now() > UNPOLLED_SECONDS


def extend_deadline(client: Any) -> None:
    """Restart the time limits of the client's request, and give way to others: for bodies of any length."""
    if client in request_started:
        request_started[client] = time.monotonic()
    poll_event_loop()
