"""What a request's connection tells and is told under gunicorn."""

import socket
import time
from collections.abc import Callable
from typing import Any

from flask import Request

from service.models.event_loop import let_the_loop_look

ESTABLISHED = 1  # TCP_ESTABLISHED in Linux's include/net/tcp_states.h

# Of each connection of this process, when the request it is at was handed to the application, or last got further.
begun: dict[Any, float | None] = {}


def is_connected(request: Request) -> Callable[[], bool]:
    """Whether the client has not closed its end, where that can be told: under gunicorn on Linux (tcp(7))."""
    client = request.environ.get("gunicorn.socket")

    def told() -> bool:
        if client is None or not hasattr(socket, "TCP_INFO"):
            return True
        [state] = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state == ESTABLISHED)

    return told


def goes_on(request: Request) -> None:
    """The request got further: its time limits begin anew, and others may go on. For bodies of any length."""
    client = request.environ.get("gunicorn.socket")
    if client in begun:
        begun[client] = time.monotonic()
    let_the_loop_look()
