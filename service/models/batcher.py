"""The queue in front of a model: requests that wait together share a call of it."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gevent.event import Event

from service.errors import ClientDisconnected, DeadlineExceeded, InferenceError, Problem, QueueFull
from service.models.engines.model_output import ModelOutput
from service.models.event_loop import may_have_requests, poll_event_loop

log = logging.getLogger(__name__)

FAIR_QUERIES = 8  # of a request in a call, if others wait
LIVENESS_CHECK_SECONDS = 1.0  # a client that has waited this long may have disconnected

T = TypeVar("T")


class BatchResult(NamedTuple, Generic[T]):
    """The outputs of a request, in order.

    `queue_seconds` is the time from its arrival to the first call with some of its queries, `inference_seconds` the
    duration of all calls with some of its queries, and `batch_size` the number of queries in the last of these calls.
    """

    outputs: list[T]
    queue_seconds: float
    inference_seconds: float
    batch_size: int


class Observer(Protocol):
    """Receives the events of a batcher: the interface of its metrics."""

    def called(self, batch_size: int) -> None:
        """Record the number of queries in a batch: a call of the model that requests can share."""

    def queue_changed(self, size: int) -> None:
        """Record the number of queries in the queue."""

    def answered(self, queries: list[str], result: BatchResult[ModelOutput]) -> None:
        """Record the queries of a request and their outputs."""

    def failed(self, problem: Problem) -> None:
        """Record why a request has no output."""

    def shadowed(self, agreed: int, differed: int, dropped: int) -> None:
        """Record how many answers of a shadow agree with those that were given, differ, or were not asked for."""


class WaitLimits(NamedTuple):
    """How long a request waits: at most `timeout_seconds`, and only while `is_connected` returns True.

    `started` is the start of the wait, in seconds of the batcher's clock; None stands for the time of the call.
    """

    timeout_seconds: float = math.inf
    is_connected: Callable[[], bool] = lambda: True
    started: float | None = None


NO_LIMITS = WaitLimits()


class _QueueEntry:
    """The queries of a request, and their outputs. `ready` is set when the entry is settled or becomes the leader."""

    __slots__ = (
        "arrived", "batch_size", "deadline", "function", "inference_seconds", "is_connected", "next_liveness_check",
        "outputs", "problem", "queries", "queue_seconds", "ready", "taken", "timeout_seconds",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[[Any], list[Any]],
        queries: list[Any],
        limits: WaitLimits,
        deadline_seconds: float,
        now: float,
        is_admitted: bool,
    ) -> None:
        self.arrived = now
        self.function = function
        self.queries = queries
        self.timeout_seconds = min(limits.timeout_seconds, deadline_seconds)
        self.is_connected = limits.is_connected
        started = now if limits.started is None else limits.started
        self.deadline = started + self.timeout_seconds
        self.next_liveness_check = math.inf if is_admitted else started + LIVENESS_CHECK_SECONDS
        self.taken = 0  # queries that calls have taken
        self.queue_seconds = self.inference_seconds = 0.0
        self.batch_size = 0
        self.outputs: list[Any] = []
        self.problem: Problem | None = None
        self.ready = Event()

    @property
    def is_settled(self) -> bool:
        return self.problem is not None or len(self.outputs) == len(self.queries)


class Batcher:
    """Batches the requests in a bounded queue: each waits in its own greenlet.

    There is no timer and no other greenlet. The first request polls the event loop once for further requests and then
    leads: it calls the model for all. Between two calls the leader polls again. A call has up to FAIR_QUERIES of each
    request, and more where it has room; the rest of a request goes behind the requests that arrived meanwhile.
    """

    def __init__(
        self,
        predict: Callable[[list[str]], list[ModelOutput]],
        max_batch_size: int,
        max_queue_size: int,
        deadline_seconds: float,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`predict` takes 1 to `max_batch_size` queries. `max_queue_size` is in queries. `clock` returns seconds, and
        never goes back."""
        self._predict = predict
        self._observer = observer
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._queue: deque[_QueueEntry] = deque()  # of requests that share calls
        self._calls: deque[_QueueEntry] = deque()  # of requests with a call of their own
        self._is_batch_next = True
        self._leader: _QueueEntry | None = None
        self.queue_size = 0  # in queries
        self.copy: Callable[[list[str], list[ModelOutput]], None] | None = None

    def predict(self, queries: list[str], limits: WaitLimits = NO_LIMITS) -> BatchResult[ModelOutput]:
        """Run the model on one or more queries, in calls that other requests share. `copy`, if it is set, receives the
        queries and their outputs. Raises as `call` does."""
        result: BatchResult[ModelOutput] = self._wait(self._predict, queries, limits)
        self._observer.answered(queries, result)
        if self.copy is not None:
            self.copy(queries, result.outputs)
        return result

    def call(
        self, function: Callable[[], T], limits: WaitLimits = NO_LIMITS, *, is_admitted: bool = False
    ) -> BatchResult[T]:
        """Call another function of the model, alone, after a wait in the same queue. `outputs` has one element.

        `is_admitted`: an earlier call of the same request has passed the limit of the queue and the liveness check. The
        request is then finished within its deadline.

        Raises QueueFull, DeadlineExceeded, ClientDisconnected if the client has disconnected during the wait, or
        InferenceError if the call failed. After an error no further query of the request is computed.
        """
        return self._wait(lambda _: [function()], [None], limits, is_admitted)

    def _wait(
        self, function: Callable[[Any], list[Any]], queries: list[Any], limits: WaitLimits, is_admitted: bool = False
    ) -> BatchResult[Any]:
        entry = _QueueEntry(function, queries, limits, self._deadline_seconds, self._clock(), is_admitted)
        if self.queue_size + len(queries) > self._max_queue_size and not is_admitted:
            entry.problem = QueueFull(self.queue_size, self._max_queue_size)
        else:
            self._lead_or_follow(entry)
        if entry.problem is not None:
            self._observer.failed(entry.problem)
            raise entry.problem
        return BatchResult(entry.outputs, entry.queue_seconds, entry.inference_seconds, entry.batch_size)

    def _lead_or_follow(self, entry: _QueueEntry) -> None:
        """Return when the entry is settled."""
        self._queue_of(entry).append(entry)
        self._change_queue_size(len(entry.queries))
        if self._leader is None:
            self._leader = entry
        try:
            if self._leader is not entry:
                entry.ready.wait()
            while not entry.is_settled:
                if may_have_requests():
                    poll_event_loop()
                self._call_model()
        finally:
            self._leave(entry)

    def _leave(self, entry: _QueueEntry) -> None:
        """Hand leadership to the next request; drop one whose greenlet died."""
        if not entry.is_settled:
            if entry in (queue := self._queue_of(entry)):
                queue.remove(entry)
            self._fail(entry, ClientDisconnected())
        if self._leader is entry:
            self._leader = next(chain(self._queue, self._calls), None)
            if self._leader is not None:
                self._leader.ready.set()

    def _call_model(self) -> None:
        batch = self._take()
        if not batch:
            return
        queries = [query for entry in batch for query in entry.queries[len(entry.outputs) : entry.taken]]
        size = len(queries)
        started = self._clock()
        try:
            outputs = iter(batch[0].function(queries))
            for entry in batch:
                entry.outputs += [next(outputs) for _ in range(entry.taken - len(entry.outputs))]
        except Exception:
            log.exception("inference failed")
            for entry in batch:
                if entry.problem is None:
                    self._fail(entry, InferenceError())
            return
        seconds = self._clock() - started
        if batch[0].function is self._predict:
            self._observer.called(size)
        for entry in batch:
            entry.inference_seconds += seconds
            entry.batch_size = size
            if entry.is_settled:
                entry.ready.set()
            else:
                self._queue.append(entry)  # behind the requests that arrived meanwhile

    def _take(self) -> list[_QueueEntry]:
        """Take queries up to the batch size: a few of each request in the queue, then more of the first ones. Or, in
        turns with that, take a call of its own."""
        batch: list[_QueueEntry] = []
        is_batch = bool(self._queue) and (self._is_batch_next or not self._calls)
        self._is_batch_next = not is_batch
        queue, room = (self._queue, self._max_batch_size) if is_batch else (self._calls, 1)
        now = self._clock()
        while queue and room:
            entry = queue.popleft()
            if now > entry.deadline:
                self._fail(entry, DeadlineExceeded(entry.timeout_seconds))
            elif now > entry.next_liveness_check and not entry.is_connected():
                self._fail(entry, ClientDisconnected())
            else:
                if not entry.taken:
                    entry.queue_seconds = now - entry.arrived
                room -= self._take_queries(entry, min(room, FAIR_QUERIES))
                batch.append(entry)
        for entry in batch:
            if room and entry.taken < len(entry.queries):
                room -= self._take_queries(entry, room)
        return batch

    def _take_queries(self, entry: _QueueEntry, most: int) -> int:
        """Take queries of an entry for the next call; return how many."""
        taken = min(len(entry.queries) - entry.taken, most)
        entry.taken += taken
        self._change_queue_size(-taken)
        return taken

    def _queue_of(self, entry: _QueueEntry) -> deque[_QueueEntry]:
        return self._queue if entry.function is self._predict else self._calls

    def _change_queue_size(self, queries: int) -> None:
        self.queue_size += queries
        self._observer.queue_changed(self.queue_size)

    def _fail(self, entry: _QueueEntry, problem: Problem) -> None:
        """Settle an entry that has left the queue, and free its places."""
        self._change_queue_size(entry.taken - len(entry.queries))
        entry.problem = problem
        entry.ready.set()
