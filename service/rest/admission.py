"""Admits large requests to a worker before their bodies are read: some at a time, first come, first served.

So a refusal is cheaper than an answer, and no burst of batches takes the worker from the requests that it has admitted.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gevent.event import Event

from service.errors import ClientDisconnected, Problem, QueueFull
from service.models.batcher import NO_LIMITS, WaitLimits
from service.rest.connection import request_context
from service.rest.media_types import LINE_TYPES
from service.settings import Settings
from service.telemetry.records import RequestStats

QUERY_BYTES = 6  # of a body, at least: `"1+1",`
COMPRESSION = 4  # of a body of queries in gzip, about
UNKNOWN_QUERIES = 1024  # of a body in chunks, whose length is not known before its end
SMALL_QUERIES = 64  # about one call of the model: not worth a wait

TICKET = "adder.ticket"  # of an admitted request, in its environ

PATIENCE_SECONDS = 2.0  # that a request waits for its turn before it is refused
REFUSAL_SECONDS = 0.005  # between two refusals: clients that come back at once do not get the worker's time
LEASE_SECONDS = 0.5  # a request that takes longer to arrive makes room for the next


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that waits or is admitted. `since` is the time of the start of either."""

    queries: int
    since: float
    is_received: Callable[[], bool]
    wake: Event = field(default_factory=Event)


class Admission:
    """Admits requests as long as they have at most `max_queries` together. The others wait in one line, and are refused
    from its front."""

    def __init__(self, max_queries: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds, and never goes back."""
        self._max_queries = max_queries
        self._clock = clock
        self._line: deque[Ticket] = deque()
        self._admitted: set[Ticket] = set()
        self._last_refusal = self._last_end = -math.inf
        self._seconds_per_query = 0.0

    def enter(
        self, queries: int, limits: WaitLimits = NO_LIMITS, is_received: Callable[[], bool] = lambda: True
    ) -> Ticket:
        """Return when a request with so many queries is admitted.

        `is_received` returns whether its body has been received. Raises QueueFull, or ClientDisconnected if the client
        has disconnected during the wait.
        """
        ticket = Ticket(queries, self._clock(), is_received)
        if self._line or not self._has_room(queries):
            self._wait(ticket, limits)
            ticket.since = self._clock()
        self._admitted.add(ticket)
        self._wake_first()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Make room for the next, at the end of an admitted request."""
        self._admitted.discard(ticket)
        now = self._clock()
        if self._line:  # while some wait, the ends of two requests are as far apart as one takes
            seconds = (now - max(self._last_end, ticket.since)) / ticket.queries
            self._seconds_per_query += (seconds - self._seconds_per_query) / 8
        self._last_end = now
        self._wake_first()

    def _wait(self, ticket: Ticket, limits: WaitLimits) -> None:
        self._line.append(ticket)
        try:
            while self._line[0] is not ticket or not self._has_room(ticket.queries):
                self._look_again(ticket, limits)
            if not limits.is_connected():
                raise ClientDisconnected
        finally:
            self._line.remove(ticket)
            self._wake_first()

    def _look_again(self, ticket: Ticket, limits: WaitLimits) -> None:
        """Wait until the ticket may be admitted. Raises QueueFull at the end of its time."""
        now, end, lease_end = self._clock(), ticket.since + limits.timeout_seconds, math.inf
        if self._line[0] is ticket:
            end = min(end, max(ticket.since + PATIENCE_SECONDS, self._last_refusal + REFUSAL_SECONDS))
            lease_end = min(map(_lease_end, self._admitted))
        if now >= end:
            self._last_refusal = now
            before = sum(each.queries for each in (*self._admitted, *self._line))
            raise QueueFull(before, self._max_queries, before * self._seconds_per_query)
        ticket.wake.clear()
        seconds = min(end, lease_end) - now
        ticket.wake.wait(None if math.isinf(seconds) else seconds)

    def _has_room(self, queries: int) -> bool:
        now = self._clock()
        self._admitted = {ticket for ticket in self._admitted if now < _lease_end(ticket)}
        admitted = sum(ticket.queries for ticket in self._admitted)
        return not admitted or admitted + queries <= self._max_queries

    def _wake_first(self) -> None:
        if self._line:
            self._line[0].wake.set()


def _lease_end(ticket: Ticket) -> float:
    return math.inf if ticket.is_received() else ticket.since + LEASE_SECONDS


class LargeRequests:
    """Admits each large request before its route is called."""

    def __init__(self, settings: Settings, observe: Callable[[Problem], object]) -> None:
        """`observe` receives each refusal."""
        self._admission = Admission(settings.max_queued_queries)
        self._settings = settings
        self._observe = observe

    def enter(self, stats: RequestStats) -> None:
        """Return when the current request is admitted, at once if it is small. Raises as `Admission.enter` does, and
        BadHeader."""
        queries = min(_most_queries(stats.request.environ), self._settings.max_batch_queries)
        if queries <= SMALL_QUERIES or stats.request.mimetype in LINE_TYPES:  # lines are read as they are answered
            return
        context = request_context()
        seconds = min(context.limits.timeout_seconds, self._settings.deadline_seconds)
        limits = context.limits._replace(timeout_seconds=seconds)
        try:
            stats.request.environ[TICKET] = self._admission.enter(queries, limits, lambda: stats.queries > 0)
        except Problem as problem:
            self._observe(problem)
            raise
        context.extend_deadline()

    def leave(self, stats: RequestStats) -> None:
        """Make room for the next, at the end of a request."""
        if ticket := stats.request.environ.pop(TICKET, None):
            self._admission.leave(ticket)


def _most_queries(environ: dict[str, Any]) -> int:
    """About as many queries as a body can have, by its headers."""
    length = environ.get("CONTENT_LENGTH")  # request.content_length is slower
    if not length:
        return UNKNOWN_QUERIES if "HTTP_TRANSFER_ENCODING" in environ else 0
    return int(length) * (COMPRESSION if "HTTP_CONTENT_ENCODING" in environ else 1) // QUERY_BYTES
