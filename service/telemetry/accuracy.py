"""Live accuracy: compares answers with the right ones, off the path of the request.

This is the only module of the service that adds numbers. No response waits for it or depends on it.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent

from service.models.artifact import Artifact
from service.models.engines.model_output import ModelOutput
from service.models.event_loop import LOWEST_PRIORITY

MAX_PENDING = 16_384  # answers that wait to be compared; more are dropped
DELAY_SECONDS = 0.1  # answers are collected and compared together, which takes less time
COMPARED_AT_ONCE = 64  # in one turn of the event loop: about 100 microseconds


RightAnswer = Callable[[str], str | None]  # None for a query whose right answer is not known


def right_answer_of(artifact: Artifact) -> RightAnswer | None:
    """Return the function that finds right answers by the truth of the artifact's task; None if it has no truth."""
    match artifact.metadata.task.truth:
        case "sum":
            return partial(sum_of_groups, artifact.metadata.task.pattern, artifact.engine.answer_length)
        case "samples":
            return artifact.samples.get
        case None:
            return None


def sum_of_groups(pattern: re.Pattern[str], answer_length: int, query: str) -> str | None:
    """Return the sum of the groups of the pattern that are numbers, or its last `answer_length` digits; None for a
    query in which /explain has hidden a character."""
    match = pattern.fullmatch(query)
    if match is None or "".join(groups := match.groups("")) != query:
        return None
    return str(sum([int(group) for group in groups if group.isdecimal()]))[-answer_length:]


class AccuracyMonitor:
    """Compares the answers of one model version when the event loop is idle, and drops answers if it is never idle."""

    def __init__(self, right_answer: RightAnswer, report: Callable[[int, int, int], None]) -> None:
        """`report` receives the length of queries, and the numbers of right and wrong answers to them."""
        self._right_answer = right_answer
        self._report = report
        # Strings only: whole outputs would use memory, and time of the garbage collector.
        self._queries: list[str] = []
        self._answers: list[str] = []
        self._timer: Any = None

    def add(self, queries: list[str], outputs: list[ModelOutput]) -> bool:
        """Queue answers for comparison. Returns whether there was room for them."""
        if not self._queries:
            self._start()
        elif len(self._queries) + len(queries) > MAX_PENDING:
            return False
        self._queries += queries
        self._answers += [output.answer for output in outputs]
        return True

    def _start(self) -> None:
        if self._timer is None:
            loop = gevent.get_hub().loop
            self._timer = loop.timer(DELAY_SECONDS, ref=False)
            # Behind the sockets, and behind the batcher's poll, which is an idle watcher too.
            self._idle = loop.idle(ref=False, priority=LOWEST_PRIORITY)
        self._timer.start(self._idle.start, self._compare)

    def _compare(self) -> None:
        some = slice(-COMPARED_AT_ONCE, None)
        outcomes: Counter[tuple[int, bool]] = Counter()
        for query, answer in zip(self._queries[some], self._answers[some], strict=True):
            right = self._right_answer(query)
            if right is not None:
                outcomes[len(query), answer == right] += 1
        del self._queries[some], self._answers[some]
        for length in {length for length, _ in outcomes}:
            self._report(length, outcomes[length, True], outcomes[length, False])
        if not self._queries:
            self._idle.stop()
