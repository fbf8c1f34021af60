"""What Prometheus is told."""

from collections import Counter as Tallies
from collections import deque
from typing import TYPE_CHECKING, Any

import gevent
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from service.artifact import Artifact, Prediction
from service.batcher import Answered
from service.connection import LAST
from service.problems import DeadlineExceeded, Problem, QueueFull
from service.shared_values import all_workers

if TYPE_CHECKING:
    from service.receipt import Ended

SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1)
QUERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
MOST_UNCHECKED = 16_384  # queries whose answers wait to be held against the sums; those beyond never are
GATHER_SECONDS = 0.1  # until they are looked at: together they take less
AT_ONCE = 64  # of them in one turn of the loop: some 50 microseconds

OF = ("model", "version")


class Metrics:
    """Those of one application, in one process: a new one after `share`, in a worker."""

    def __init__(self) -> None:
        ours: dict[str, Any] = {"namespace": "adder", "registry": (registry := CollectorRegistry())}
        seconds, live = ours | {"buckets": SECONDS}, ours | {"multiprocess_mode": "livesum"}
        same = ours | {"multiprocess_mode": "livemax"}  # what every worker says alike
        self._registry = registry
        self.requests = Counter("requests", "Requests answered.", ["route", *OF, "status"], **ours)
        self.request_seconds = Histogram(
            "request_seconds", "From a request's headers to the end of its answer.", ["route", *OF], **seconds
        )
        self.queries = Counter("queries", "Queries that the network answered.", OF, **ours)
        self.queue_seconds = Histogram("queue_seconds", "Of a request's queries before the network.", OF, **seconds)
        self.network_seconds = Histogram("network_seconds", "Of the calls that had a request's queries.", OF, **seconds)
        self.batch_queries = Histogram("batch_queries", "In one call of the network.", OF, buckets=QUERIES, **ours)
        self.queued = Gauge("queued_queries", "Queries that wait for the network now.", OF, **live)
        self.rejected = Counter("rejected", "Requests that found the queue full.", OF, **ours)
        self.expired = Counter("expired", "Requests that the network did not answer in time.", OF, **ours)
        self.answers = Counter("answers", "Answers held against the sum.", [*OF, "digits", "outcome"], **ours)
        self.dropped = Counter("answers_dropped", "Answers that nobody had time to hold against it.", OF, **ours)
        self.info = Gauge("model_info", "What is served.", [*OF, "sha256", "network"], **same)
        self.exact_match = Gauge("artifact_exact_match", "Right answers' share, evaluated.", [*OF, "part"], **same)
        self.workers = Gauge("workers", "Processes that there should be.", **same)
        self.workers_ready = Gauge("workers_ready", "Processes that can answer.", **live)
        self.checks = Checks()
        self._without = Tally(self, "", "")

    def serve(self, artifact: Artifact) -> "Tally":
        """For a version that serves from now on: what counts what it does."""
        metadata = artifact.metadata
        model, version = metadata.name, str(metadata.version)
        self.info.labels(model, version, artifact.sha256, metadata.network).set(1)
        if metadata.evidence is not None:
            for part in ("domain", "train", "validation", "held_out"):
                share: float = getattr(metadata.evidence, part).exact_match
                self.exact_match.labels(model, version, part).set(share)
        tally = Tally(self, model, version)
        tally.begin()
        return tally

    def ended(self, ended: "Ended") -> None:
        """A request has been answered."""
        tally = self._without if ended.receipt is None else ended.receipt.served.tally
        rule = ended.request.url_rule
        tally.ended("" if rule is None else rule.rule, ended.status, ended.seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All of it over all workers, in a form that this Accept header takes, and that form's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(all_workers() or self._registry), content_type


class Tally:
    """What one version does, in numbers. What is looked up by labels is kept: that takes 2 microseconds each time."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._metrics, self._of = metrics, (model, version)
        self._requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def begin(self) -> None:
        """From now on it is asked: what has not happened yet has happened 0 times."""
        metrics, of = self._metrics, self._of
        self._queries, self._dropped = metrics.queries.labels(*of), metrics.dropped.labels(*of)
        self._rejected, self._expired = metrics.rejected.labels(*of), metrics.expired.labels(*of)
        self._queue, self._network = metrics.queue_seconds.labels(*of), metrics.network_seconds.labels(*of)
        self._batch, self._queued = metrics.batch_queries.labels(*of), metrics.queued.labels(*of)
        self._answers: dict[str, tuple[Counter, Counter]] = {}

    def ended(self, route: str, status: int, seconds: float) -> None:
        """A request to this route has been answered."""
        if (known := self._requests.get((route, status))) is None:
            known = self._requests[route, status] = (
                self._metrics.requests.labels(route, *self._of, str(status)),
                self._metrics.request_seconds.labels(route, *self._of),
            )
        requests, request_seconds = known
        requests.inc()
        request_seconds.observe(seconds)

    def called(self, queries: int) -> None:
        """The network has answered so many at once."""
        self._batch.observe(queries)

    def queued(self, queries: int) -> None:
        """So many wait."""
        self._queued.set(queries)

    def refused(self, problem: Problem) -> None:
        """A request's queries have not been answered."""
        if isinstance(problem, QueueFull):
            self._rejected.inc()
        elif isinstance(problem, DeadlineExceeded):
            self._expired.inc()

    def answered(self, queries: list[str], answered: Answered) -> None:
        """A request's queries have been answered, and how right that is may be found out later."""
        self._queries.inc(len(queries))
        self._queue.observe(answered.queue_seconds)
        self._network.observe(answered.network_seconds)
        if not self._metrics.checks.put(self, queries, answered.predictions):
            self._dropped.inc(len(queries))

    def checked(self, digits: str, right: int, wrong: int) -> None:
        """So many answers to queries with operands of such lengths are the sum, and so many are not."""
        if (known := self._answers.get(digits)) is None:
            known = self._answers[digits] = (
                self._metrics.answers.labels(*self._of, digits, "right"),
                self._metrics.answers.labels(*self._of, digits, "wrong"),
            )
        known[0].inc(right)
        known[1].inc(wrong)


class Checks:
    """Holds answers against the sums when the loop has nothing better to do, and drops them when it never has.

    This is the one place that adds, and nobody who answers waits for it or hears of it.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tally, list[str], list[Prediction]]] = deque()
        self._queries = 0
        self._timer: Any = None

    def put(self, tally: Tally, queries: list[str], predictions: list[Prediction]) -> bool:
        """For later; whether there is room."""
        if self._queries + len(queries) > MOST_UNCHECKED:
            return False
        self._queries += len(queries)
        self._waiting.append((tally, queries, predictions))
        if self._timer is None:
            loop = gevent.get_hub().loop
            self._timer = loop.timer(GATHER_SECONDS, ref=False)
            # Behind the sockets, and behind the batcher's own look at them, which is idle too.
            self._idle = loop.idle(ref=False, priority=LAST)
        if len(self._waiting) == 1:
            self._timer.start(self._idle.start, self._check)
        return True

    def _check(self) -> None:
        found: Tallies[tuple[Tally, int, int, bool]] = Tallies()
        room = AT_ONCE
        while self._waiting and room:
            tally, queries, predictions = self._waiting.popleft()
            if len(queries) > room:
                self._waiting.appendleft((tally, queries[room:], predictions[room:]))
            places = len(predictions[0].probabilities)
            for query, prediction in zip(queries[:room], predictions, strict=False):
                found[tally, *_check(query, prediction.answer, places)] += 1
            room -= min(room, len(queries))
        self._queries -= AT_ONCE - room
        for tally, left, right in {(tally, left, right) for tally, left, right, _ in found if left}:
            tally.checked(f"{left}+{right}", found[tally, left, right, True], found[tally, left, right, False])
        if not self._waiting:
            self._idle.stop()


def _check(query: str, answer: str, room: int) -> tuple[int, int, bool]:
    """The lengths of the operands, and whether the answer is their sum, or the end of it that there is room for; 0 and
    0 for what is no query, but one with a character that /explain has hidden."""
    left, _, right = query.partition("+")
    if not (left.isdecimal() and right.isdecimal()):
        return 0, 0, False
    return len(left), len(right), str(int(left) + int(right))[-room:] == answer
