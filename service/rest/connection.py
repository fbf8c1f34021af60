"""The connection of a request under gunicorn: whether the client is connected, and how long the request may wait."""

import math
import socket
import time
from dataclasses import dataclass

from flask import Request, g, request

from service.errors import BadHeader
from service.models.batcher import WaitLimits
from service.models.event_loop import extend_deadline
from service.telemetry.records import RequestStats

ESTABLISHED = 1  # TCP_ESTABLISHED in Linux's include/net/tcp_states.h


@dataclass(slots=True)
class RequestContext:
    """The part of an HTTP request that inference requires: its statistics, and how long it waits."""

    stats: RequestStats
    limits: WaitLimits

    def start_waiting(self) -> None:
        """Start the wait for the model: all calls until the next start have one deadline."""
        self.limits = self.limits._replace(started=time.monotonic())

    def extend_deadline(self) -> None:
        """Restart the time limits of the connection after progress."""
        extend_deadline(self.stats.request.environ.get("gunicorn.socket"))


def request_context() -> RequestContext:
    """The context of Flask's current request. Raises BadHeader for an invalid Request-Timeout."""
    current: Request = request._get_current_object()  # type: ignore[attr-defined]
    client = current.environ.get("gunicorn.socket")

    def is_connected() -> bool:
        """Whether the connection is open in both directions (tcp(7)). True without gunicorn, and on systems other than
        Linux."""
        if client is None or not hasattr(socket, "TCP_INFO"):
            return True
        [state] = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state == ESTABLISHED)

    return RequestContext(g.stats, WaitLimits(_timeout_seconds(current), is_connected))


def _timeout_seconds(current: Request) -> float:
    value = current.environ.get("HTTP_REQUEST_TIMEOUT")  # request.headers is slower
    if value is None:
        return math.inf
    try:
        seconds = math.nan if "_" in value else float(value)  # only Python reads underscores in numbers
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise BadHeader("Request-Timeout", value, "send a number of seconds above 0, like 2.5")
    return seconds
