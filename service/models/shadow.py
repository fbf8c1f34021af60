"""A shadow: a version that gets a copy of the queries of another, whose answers no client sees."""

from collections.abc import Callable
from contextlib import suppress

import gevent

from service.errors import Problem
from service.models.batcher import Batcher
from service.models.engines.model_output import ModelOutput
from service.models.event_loop import LOWEST_PRIORITY
from service.models.metadata import Task

MAX_PENDING = 4096  # queries that wait to be asked; more are dropped
ASKED_AT_ONCE = 32  # which holds the event loop for about a millisecond

Report = Callable[[int, int, int], None]


class Shadow:
    """Asks a version when the event loop is idle, and compares its answers with those that were given."""

    def __init__(self, batcher: Batcher, task: Task, report: Report) -> None:
        """`batcher` and `task` are those of the version. `report` receives the numbers of answers that agree, of those
        that differ, and of queries that were dropped."""
        self._batcher = batcher
        self._task = task
        self._report = report
        self._pending: list[tuple[str, str]] = []  # query and answer
        self._is_asking = False

    def add(self, queries: list[str], outputs: list[ModelOutput]) -> None:
        """Copy queries and their answers; drop them if too many wait."""
        if len(self._pending) + len(queries) > MAX_PENDING:
            self._report(0, 0, len(queries))
            return
        self._pending += zip(queries, [output.answer for output in outputs], strict=True)
        if not self._is_asking:
            self._is_asking = True
            gevent.spawn(self._ask)

    def _ask(self) -> None:
        try:
            while self._pending:
                _wait_until_idle()
                some = self._pending[:ASKED_AT_ONCE]
                del self._pending[:ASKED_AT_ONCE]
                self._compare(some)
        finally:
            self._is_asking = False

    def _compare(self, some: list[tuple[str, str]]) -> None:
        asked = [each for each in some if self._task.pattern.fullmatch(each[0])]
        outputs: list[ModelOutput] = []
        if asked:
            with suppress(Problem):  # it has its own metric
                outputs = self._batcher.predict([query for query, _ in asked]).outputs
        agreed = sum(answer == output.answer for (_, answer), output in zip(asked, outputs, strict=False))
        self._report(agreed, len(outputs) - agreed, len(some) - len(outputs))


def _wait_until_idle() -> None:
    """Return when no other greenlet has anything to do."""
    hub = gevent.get_hub()
    hub.wait(hub.loop.idle(priority=LOWEST_PRIORITY))
