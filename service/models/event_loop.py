"""gevent's event loop: how a greenlet gives way to the others of its process."""

import time
from typing import Any

import gevent

LOWEST_PRIORITY = -2  # libev's: runs after the watchers of the sockets

# For each open connection, when its request was handed to the application, or last extended; None between requests.
request_started: dict[Any, float | None] = {}


def poll_event_loop() -> None:
    """Let the loop poll its sockets once and run what they bring, without waiting for more.

    `gevent.sleep(0)` returns before the loop polls.
    """
    hub = gevent.get_hub()
    idle = hub.loop.idle()
    idle.start(int)  # with an idle watcher, the loop does not wait when it polls
    try:
        hub.wait(hub.loop.check(priority=LOWEST_PRIORITY))
    finally:
        idle.close()


def is_alone() -> bool:
    """Whether this process has one open connection: no other request can be waiting in a socket."""
    return len(request_started) == 1


def extend_deadline(client: Any) -> None:
    """Start the time limits of the client's request again, and give way to others: for bodies of any length."""
    if client in request_started:
        request_started[client] = time.monotonic()
    poll_event_loop()
