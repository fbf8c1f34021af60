"""What every reply carries: who asked, how long it took, and that it is not to be kept."""

import re
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from flask import Flask, Request, Response, g, request

from service.asking import Receipt

REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


class Ended(NamedTuple):
    """A request that has been answered: when it began by the monotonic clock, how long it took, and, where the network
    was asked, what for."""

    request: Request
    request_id: str
    status: int
    begun: float
    seconds: float
    receipt: Receipt | None


def register(app: Flask) -> None:
    """Give every reply of `app` its X-Request-ID, echoed or made, its Server-Timing (in milliseconds, as its W3C
    specification has it), and Cache-Control where it has none."""
    app.before_request(_begin)
    app.after_request(_add)


def when_ended(app: Flask, *tell: Callable[[Ended], object]) -> None:
    """Tell of each request before its answer is sent, or where that is streamed, when that has ended."""

    def end(response: Response) -> Response:
        asked, context = request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]

        def ended() -> None:
            seconds, receipt = time.monotonic() - context.begun, context.get("receipt")
            told = Ended(asked, context.request_id, response.status_code, context.begun, seconds, receipt)
            for each in tell:
                each(told)

        if response.is_streamed:
            response.call_on_close(ended)
        else:
            ended()
        return response

    app.after_request(end)


def cached(response: Response) -> Response:
    """To be kept, and asked for by its ETag before it is used again: for what changes only with the service."""
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def make_request_id() -> str:
    """One that nobody guesses."""
    return secrets.token_hex(16)


def _begin() -> None:
    g.begun = time.monotonic()
    asked = request.headers.get("X-Request-ID", "")
    g.request_id = asked if REQUEST_ID.fullmatch(asked) else make_request_id()


def _add(response: Response) -> Response:
    total = time.monotonic() - g.begun
    receipt: Receipt | None = g.get("receipt")
    timing = f"total;dur={1000 * total:.3f}"
    if receipt is not None:
        queue, network = 1000 * receipt.queue_seconds, 1000 * receipt.network_seconds
        timing = f"queue;dur={queue:.3f}, network;dur={network:.3f}, {timing}"
    response.headers["X-Request-ID"] = g.request_id
    response.headers["Server-Timing"] = timing
    response.headers.setdefault("Cache-Control", "no-store")
    return response
