"""Asks a version the queries of a prediction log again, and compares its answers with those that were given."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from service.errors import ModelUnavailable
from service.telemetry.accuracy import RightAnswer


class LoggedAnswer(BaseModel):
    """A line of the log: the fields that are compared. `milliseconds` are those in the queue and in inference."""

    model: str
    version: int
    query: str
    answer: str
    milliseconds: float


class Comparison(NamedTuple):
    """The number of queries, of answers that agree, and of queries whose right answer is known; the right answers
    before and now; the mean milliseconds before and now."""

    queries: int
    agreed: int
    known: int
    right_before: int
    right_now: int
    milliseconds_before: float
    milliseconds_now: float

    def sentences(self) -> Iterator[str]:
        """The comparison, in lines."""
        yield f"{self.agreed:,} of {self.queries:,} answers agree"
        yield f"right: {self.right_before:,} before, {self.right_now:,} now, of {self.known:,} that can be checked"
        yield f"milliseconds, mean: {self.milliseconds_before:.3f} before, {self.milliseconds_now:.3f} now"


def read_log(folder: Path, model: str) -> list[LoggedAnswer]:
    """Read the answers of a model from the files of a log, the oldest first, and skip lines that were broken off.

    Raises ModelUnavailable if there are none.
    """
    files = sorted(folder.glob("predictions-*.ndjson*"), key=lambda file: file.stat().st_mtime)
    found = []
    for line in (line for file in files for line in file.read_text(errors="replace").splitlines()):
        try:
            answer = LoggedAnswer.model_validate_json(line)
        except ValidationError:
            continue
        if answer.model == model:
            found.append(answer)
    if not found:
        raise ModelUnavailable(f"{folder} has no answers of {model}: set ADDER_PREDICTION_LOG for the service")
    return found


def replay(
    logged: Iterable[LoggedAnswer], ask: Callable[[str], str | None], right_answer: RightAnswer | None
) -> Comparison:
    """Ask each query again. `ask` returns the answer, or None if the version refuses the query."""
    queries = agreed = known = right_before = right_now = 0
    before = now = 0.0
    for each in logged:
        started = time.monotonic()
        answer = ask(each.query)
        now += 1000 * (time.monotonic() - started)
        before += each.milliseconds
        queries += 1
        agreed += answer == each.answer
        right = None if right_answer is None else right_answer(each.query)
        if right is not None:
            known += 1
            right_before += each.answer == right
            right_now += answer == right
    return Comparison(queries, agreed, known, right_before, right_now, before / queries, now / queries)
