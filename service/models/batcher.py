"""Many waiting requests -> one call of the network."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gevent.event import Event

from service.errors import ClientLeft, DeadlineExceeded, NetworkFailed, Problem, QueueFull
from service.models.artifact import Prediction
from service.models.event_loop import let_the_loop_look

log = logging.getLogger(__name__)

LOOKS_AFTER_SECONDS = 1.0  # a request that has waited so long may have lost its client


class Answered(NamedTuple):
    """One prediction for each query, in order; the time until the first of them was taken into a call, that of all
    calls that had some of them, and how many queries the last of those calls had."""

    predictions: list[Prediction]
    queue_seconds: float
    network_seconds: float
    batch_queries: int


class Observer(Protocol):
    """Who is told of the calls and the queue."""

    def called(self, queries: int) -> None:
        """The network has answered so many at once."""

    def queued(self, queries: int) -> None:
        """So many wait."""

    def answered(self, queries: list[str], answered: Answered) -> None:
        """A request's queries have been answered."""

    def refused(self, problem: Problem) -> None:
        """A request's queries have not been answered."""


class _Waiting:
    """A request's queries, and what became of them; `woken` is set when that is known, or when it is its turn to
    lead."""

    __slots__ = (
        "arrived", "batch_queries", "begun", "deadline", "deadline_seconds", "is_wanted", "looks", "network_seconds",
        "predictions", "problem", "queries", "queue_seconds", "woken",
    )  # fmt: skip

    def __init__(self, queries: list[str], deadline_seconds: float, is_wanted: Callable[[], bool]) -> None:
        self.arrived = now = time.monotonic()
        self.queries = queries
        self.deadline_seconds = deadline_seconds
        self.deadline, self.looks = now + deadline_seconds, now + LOOKS_AFTER_SECONDS
        self.is_wanted = is_wanted
        self.begun = 0  # so many of the queries have been taken into calls
        self.queue_seconds = self.network_seconds = 0.0
        self.batch_queries = 0
        self.predictions: list[Prediction] = []
        self.problem: Problem | None = None
        self.woken = Event()

    @property
    def is_settled(self) -> bool:
        return self.problem is not None or len(self.predictions) == len(self.queries)


class Batcher:
    """Greenlets of one process share calls of `network`, which takes up to `call_queries` queries.

    There is no timer, and no greenlet of its own: the first request that comes lets the loop look once for others, and
    leads: it calls the network for all. Between two calls the loop looks again. A request with more queries than a call
    takes is spread over many, behind whatever came meanwhile.
    """

    def __init__(
        self,
        network: Callable[[list[str]], list[Prediction]],
        call_queries: int,
        max_queued_queries: int,
        deadline_seconds: float,
        observer: Observer,
    ) -> None:
        self._network = network
        self._observer = observer
        self._call_queries = call_queries
        self._max_queued_queries = max_queued_queries
        self._deadline_seconds = deadline_seconds
        self._queue: deque[_Waiting] = deque()
        self._leader: _Waiting | None = None
        self.queued_queries = 0

    def predict(
        self, queries: list[str], is_wanted: Callable[[], bool] = lambda: True, within_seconds: float = math.inf
    ) -> Answered:
        """Raises QueueFull, DeadlineExceeded after `within_seconds` or the batcher's deadline, ClientLeft where
        `is_wanted` has said no after a long wait, or NetworkFailed where a call that had some of these queries failed.
        What has not been begun by then is not computed. `queries` are at least one.
        """
        if self.queued_queries + len(queries) > self._max_queued_queries:
            raise QueueFull(self.queued_queries, self._max_queued_queries)
        waiting = _Waiting(queries, min(within_seconds, self._deadline_seconds), is_wanted)
        self._queue.append(waiting)
        self._add_queued(len(queries))
        if self._leader is None:
            self._leader = waiting
        try:
            if self._leader is not waiting:
                waiting.woken.wait()
            while not waiting.is_settled:
                let_the_loop_look()
                self._call()
        finally:
            self._leave(waiting)
        if waiting.problem is not None:
            raise waiting.problem
        return Answered(waiting.predictions, waiting.queue_seconds, waiting.network_seconds, waiting.batch_queries)

    def _leave(self, waiting: _Waiting) -> None:
        """Let the front lead where this one led; and work no more for one whose greenlet was killed."""
        if not waiting.is_settled:
            if waiting in self._queue:
                self._queue.remove(waiting)
            self._give_up(waiting, ClientLeft())
        if self._leader is waiting:
            self._leader = self._queue[0] if self._queue else None
            if self._leader is not None:
                self._leader.woken.set()

    def _call(self) -> None:
        taken = self._take()
        if not taken:
            return
        begun = time.monotonic()
        try:
            predictions = iter(self._network([query for _, queries in taken for query in queries]))
            for waiting, queries in taken:
                waiting.predictions += [next(predictions) for _ in queries]
        except Exception:
            log.exception("the network failed")
            for waiting, _ in taken:
                self._give_up(waiting, NetworkFailed())
            return
        seconds, batch_queries = time.monotonic() - begun, sum([len(queries) for _, queries in taken])
        self._observer.called(batch_queries)
        for waiting, _ in taken:
            waiting.network_seconds += seconds
            waiting.batch_queries = batch_queries
            if waiting.is_settled:
                waiting.woken.set()
        last, _ = taken[-1]
        if not last.is_settled:
            # What came meanwhile goes first, unless the next call has room for all that is left.
            rest = len(last.queries) - last.begun
            (self._queue.append if rest > self._call_queries else self._queue.appendleft)(last)

    def _take(self) -> list[tuple[_Waiting, list[str]]]:
        """What the next call has room for, of those at the front who still wait for it. Of the last, that may be but
        some."""
        taken: list[tuple[_Waiting, list[str]]] = []
        room, now = self._call_queries, time.monotonic()
        while self._queue and room:
            waiting = self._queue.popleft()
            if now > waiting.deadline:
                self._give_up(waiting, DeadlineExceeded(waiting.deadline_seconds))
            elif now > waiting.looks and not waiting.is_wanted():
                self._give_up(waiting, ClientLeft())
            else:
                if not waiting.begun:
                    waiting.queue_seconds = now - waiting.arrived
                queries = waiting.queries[waiting.begun : waiting.begun + room]
                waiting.begun += len(queries)
                self._add_queued(-len(queries))
                room -= len(queries)
                taken.append((waiting, queries))
        return taken

    def _add_queued(self, queries: int) -> None:
        self.queued_queries += queries
        self._observer.queued(self.queued_queries)

    def _give_up(self, waiting: _Waiting, problem: Problem) -> None:
        """Settle one that is not in the queue any more with a problem, and free its places."""
        self._add_queued(waiting.begun - len(waiting.queries))
        waiting.problem = problem
        waiting.woken.set()
