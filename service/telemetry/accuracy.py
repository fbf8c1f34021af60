"""Live accuracy: compares answers with the true sum, off the path of the request.

This is the only module of the service that adds numbers. No response waits for it or depends on it.
"""

from collections import Counter
from collections.abc import Callable
from itertools import repeat
from typing import Any

import gevent

from service.models.engines.model_output import ModelOutput
from service.models.event_loop import LOWEST_PRIORITY

MAX_PENDING = 16_384  # answers that wait to be compared; more are dropped
DELAY_SECONDS = 0.1  # answers are collected and compared together, which takes less time
COMPARED_AT_ONCE = 64  # in one turn of the event loop: about 50 microseconds


class AccuracyMonitor:
    """Compares the answers of one model version when the event loop is idle, and drops answers if it is never idle."""

    def __init__(self, report: Callable[[str, int, int], None]) -> None:
        """`report` receives the lengths of the operands, like "3+1", and the numbers of right and wrong answers."""
        self._report = report
        # Strings only: whole outputs would use memory, and time of the garbage collector.
        self._queries: list[str] = []
        self._answers: list[str] = []
        self._answer_length = 0
        self._timer: Any = None

    def add(self, queries: list[str], outputs: list[ModelOutput]) -> bool:
        """Queue answers for comparison. Returns whether there was room for them."""
        if not self._queries:
            self._start(outputs[0])
        elif len(self._queries) + len(queries) > MAX_PENDING:
            return False
        self._queries += queries
        self._answers += [output.answer for output in outputs]
        return True

    def _start(self, output: ModelOutput) -> None:
        self._answer_length = len(output.probabilities)
        if self._timer is None:
            loop = gevent.get_hub().loop
            self._timer = loop.timer(DELAY_SECONDS, ref=False)
            # Behind the sockets, and behind the batcher's poll, which is an idle watcher too.
            self._idle = loop.idle(ref=False, priority=LOWEST_PRIORITY)
        self._timer.start(self._idle.start, self._compare)

    def _compare(self) -> None:
        some = slice(-COMPARED_AT_ONCE, None)
        outcomes = Counter(map(compare, self._queries[some], self._answers[some], repeat(self._answer_length)))
        del self._queries[some], self._answers[some]
        for left, right in {(left, right) for left, right, _ in outcomes if left}:
            self._report(f"{left}+{right}", outcomes[left, right, True], outcomes[left, right, False])
        if not self._queries:
            self._idle.stop()


def compare(query: str, answer: str, answer_length: int) -> tuple[int, int, bool]:
    """Return the lengths of both operands, and whether the answer is their sum, or the last `answer_length` digits of
    it. Lengths are 0 for a query in which /explain has hidden a character."""
    left, _, right = query.partition("+")
    if not (left.isdecimal() and right.isdecimal()):
        return 0, 0, False
    return len(left), len(right), str(int(left) + int(right))[-answer_length:] == answer
