"""Many waiting requests -> one call of the network."""

import logging
from collections import deque
from collections.abc import Callable
from threading import Event, Lock

from service.artifact import Prediction
from service.problems import DeadlineExceeded, NetworkFailed, QueueFull

log = logging.getLogger(__name__)


class _Waiting:
    """A request's queries, and what became of them; `woken` is set when they are answered, or when it is its turn to
    lead."""

    __slots__ = ("failed", "predictions", "queries", "woken")

    def __init__(self, queries: list[str]) -> None:
        self.queries = queries
        self.predictions: list[Prediction] | None = None
        self.failed = False
        self.woken = Event()


class Batcher:
    """Threads of one process share calls of `network`.

    There is no timer and no thread of its own: a request that finds the network idle calls it at once. Those that come
    while it is busy wait, and the first of them then leads: it takes along those behind it, to `shared_call_queries`
    queries in all. A request with more has a call of its own.
    """

    def __init__(
        self,
        network: Callable[[list[str]], list[Prediction]],
        shared_call_queries: int,
        max_queued_queries: int,
        deadline_seconds: float,
    ) -> None:
        self._network = network
        self._shared_call_queries = shared_call_queries
        self._max_queued_queries = max_queued_queries
        self._deadline_seconds = deadline_seconds
        self._lock = Lock()
        self._queue: deque[_Waiting] = deque()
        self.queued_queries = 0
        self._busy = False

    def predict(self, queries: list[str]) -> list[Prediction]:
        """One prediction for each query, in order.

        Raises QueueFull, DeadlineExceeded, or NetworkFailed where the call that had these queries failed.
        """
        waiting = _Waiting(queries)
        with self._lock:
            if self.queued_queries + len(queries) > self._max_queued_queries:
                raise QueueFull(self.queued_queries, self._max_queued_queries)
            self._queue.append(waiting)
            self.queued_queries += len(queries)
            if not self._busy:
                self._busy = True
                waiting.woken.set()
        if not waiting.woken.wait(self._deadline_seconds):
            self._give_up(waiting)
        if waiting.predictions is None and not waiting.failed:
            self._lead()
        if waiting.predictions is None:
            raise NetworkFailed
        return waiting.predictions

    def _lead(self) -> None:
        """Call the network for the caller, which is the first in the queue, and for those behind it."""
        taken = self._take()
        try:
            predictions = iter(self._network([query for waiting in taken for query in waiting.queries]))
            for waiting in taken:
                waiting.predictions = [next(predictions) for _ in waiting.queries]
        except Exception:
            log.exception("the network failed")
            for waiting in taken:
                waiting.failed = True
        finally:
            with self._lock:
                if self._queue:
                    self._queue[0].woken.set()
                else:
                    self._busy = False
            for waiting in taken:
                waiting.woken.set()

    def _take(self) -> list[_Waiting]:
        with self._lock:
            taken = [self._queue.popleft()]
            queries = len(taken[0].queries)
            while self._queue and queries + len(self._queue[0].queries) <= self._shared_call_queries:
                queries += len(self._queue[0].queries)
                taken.append(self._queue.popleft())
            self.queued_queries -= queries
            return taken

    def _give_up(self, waiting: _Waiting) -> None:
        """Raise DeadlineExceeded, unless its turn came at the last moment."""
        with self._lock:
            if waiting.woken.is_set():
                return
            if waiting in self._queue:
                self._queue.remove(waiting)
                self.queued_queries -= len(waiting.queries)
        raise DeadlineExceeded(self._deadline_seconds)
