"""Runs before and after each request: creates its statistics, adds the headers of every response."""

import re
import secrets
import time
from collections.abc import Callable, Iterable

from flask import Flask, Response, g, request
from werkzeug.exceptions import NotFound

from service.telemetry.records import PredictionLogger, RequestObserver, RequestStats

REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


def register(
    app: Flask,
    observers: Iterable[RequestObserver],
    admit: RequestObserver = lambda _: None,
    log: PredictionLogger | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Add to every response of `app` its X-Request-ID (the request's or a new one), its Server-Timing (in milliseconds,
    as its W3C specification defines), and Cache-Control if it has none.

    `admit` is called before the route, with the statistics of the request, and may raise. Each observer receives them
    at its end, or at the end of a streamed response. `log` is the prediction log. `clock` returns seconds.
    """
    # Each function of Flask's before and after a request costs four microseconds: there is one of each.

    def begin() -> None:
        asked = request.environ.get("HTTP_X_REQUEST_ID", "")
        request_id = asked if REQUEST_ID.fullmatch(asked) else make_request_id()
        g.stats = RequestStats(request._get_current_object(), request_id, clock(), log)  # type: ignore[attr-defined]
        if request.environ["PATH_INFO"].startswith("//"):
            raise NotFound  # Werkzeug would route it as if it had one slash
        admit(g.stats)

    def finish(response: Response) -> Response:
        stats: RequestStats = g.stats
        _add_headers(response, stats, clock() - stats.started)

        def observe() -> None:
            stats.status, stats.seconds = response.status_code, clock() - stats.started
            for observer in observers:
                observer(stats)

        if response.is_streamed:
            response.call_on_close(observe)
        else:
            observe()
        return response

    app.before_request(begin)
    app.after_request(finish)


def make_request_id() -> str:
    """A random id of 32 hexadecimal digits."""
    return secrets.token_hex(16)


def _add_headers(response: Response, stats: RequestStats, seconds: float) -> None:
    timing = f"total;dur={1000 * seconds:.3f}"
    if stats.served is not None:
        queue, inference = 1000 * stats.queue_seconds, 1000 * stats.inference_seconds
        timing = f"queue;dur={queue:.3f}, inference;dur={inference:.3f}, {timing}"
    headers = response.headers
    if "Cache-Control" not in [name for name, _ in headers]:  # `in headers` takes five times as long
        headers.add("Cache-Control", "no-store")
    headers.add("X-Request-ID", stats.request_id)
    headers.add("Server-Timing", timing)
