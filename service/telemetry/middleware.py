"""What every reply carries: who asked, how long it took, and that it is not to be kept."""

import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Request, Response, g, request

from service.telemetry.records import Ended, Receipt

REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


Tell = Callable[[Ended], object]


def register(app: Flask, *tell: Tell) -> None:
    """Give every reply of `app` its X-Request-ID, echoed or made, its Server-Timing (in milliseconds, as its W3C
    specification has it), and Cache-Control where it has none; and tell of each as `when_ended` does."""

    def add(response: Response) -> Response:
        asked, of = _now()
        _add(response, of)
        _tell_when_ended(response, asked, of, tell)
        return response

    app.before_request(_begin)
    app.after_request(add)  # one function for both: each costs, and each look at a proxy does


def when_ended(app: Flask, tell: Tell) -> None:
    """Tell of each request before its answer is sent, or where that is streamed, when that has ended."""

    def end(response: Response) -> Response:
        _tell_when_ended(response, *_now(), [tell])
        return response

    app.after_request(end)


def make_request_id() -> str:
    """One that nobody guesses."""
    return secrets.token_hex(16)


def _now() -> tuple[Request, Any]:
    """The request, and what is known of it (`g`), behind their proxies."""
    return request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]


def _begin() -> None:
    asked, of = _now()
    of.begun = time.monotonic()
    wanted = asked.environ.get("HTTP_X_REQUEST_ID", "")
    of.request_id = wanted if REQUEST_ID.fullmatch(wanted) else make_request_id()


def _add(response: Response, of: Any) -> None:
    total = time.monotonic() - of.begun
    receipt: Receipt | None = of.get("receipt")
    timing = f"total;dur={1000 * total:.3f}"
    if receipt is not None:
        queue, network = 1000 * receipt.queue_seconds, 1000 * receipt.network_seconds
        timing = f"queue;dur={queue:.3f}, network;dur={network:.3f}, {timing}"
    headers = response.headers
    if "Cache-Control" not in [name for name, _ in headers]:  # `in headers` takes five times as long
        headers.add("Cache-Control", "no-store")
    headers.add("X-Request-ID", of.request_id)
    headers.add("Server-Timing", timing)


def _tell_when_ended(response: Response, asked: Request, of: Any, tell: Iterable[Tell]) -> None:
    def ended() -> None:
        seconds = time.monotonic() - of.begun
        told = Ended(asked, of.request_id, response.status_code, of.begun, seconds, of.get("receipt"))
        for each in tell:
            each(told)

    if response.is_streamed:
        response.call_on_close(ended)
    else:
        ended()
