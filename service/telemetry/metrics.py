"""What Prometheus is told."""

from collections import Counter as Tallies
from collections.abc import Callable
from itertools import repeat
from typing import Any

import gevent
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder

from service.errors import DeadlineExceeded, Problem, QueueFull
from service.models.artifact import Artifact, Prediction
from service.models.batcher import Answered
from service.models.event_loop import LAST
from service.telemetry.multiprocess import Count, Distribution, all_workers
from service.telemetry.records import Ended

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
        self.requests = Count("requests", "Requests answered.", ["route", *OF, "status"], **ours)
        self.request_seconds = Distribution(
            "request_seconds", "From a request's headers to the end of its answer.", ["route", *OF], **seconds
        )
        self.queries = Count("queries", "Queries that the network answered.", OF, **ours)
        self.queue_seconds = Distribution("queue_seconds", "How long a request waited for the network.", OF, **seconds)
        self.network_seconds = Distribution(
            "network_seconds", "How long the calls of the network took that a request was in.", OF, **seconds
        )
        self.batch_queries = Distribution(
            "batch_queries", "Queries in one call of the network.", OF, buckets=QUERIES, **ours
        )
        self.queued = Gauge("queued_queries", "Queries that wait for the network now.", OF, **live)
        self.rejected = Count("rejected", "Requests that found the queue full.", OF, **ours)
        self.expired = Count("expired", "Requests that the network did not answer in time.", OF, **ours)
        self.answers = Count("answers", "Answers, held against the sum.", [*OF, "digits", "outcome"], **ours)
        self.dropped = Count("answers_dropped", "Answers not held against it, for want of time.", OF, **ours)
        self.info = Gauge("model_info", "What is served.", [*OF, "sha256", "network"], **same)
        self.exact_match = Gauge("artifact_exact_match", "Right answers' share, as evaluated.", [*OF, "part"], **same)
        self.workers = Gauge("workers", "Processes that there should be.", **same)
        self.workers_ready = Gauge("workers_ready", "Processes that can answer.", **live)
        self._without = Tally(self, "", "")
        self._tallies: dict[Artifact, Tally] = {}

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
        self._tallies[artifact] = tally
        return tally

    def ended(self, ended: Ended) -> None:
        """A request has been answered."""
        tally = self._without if ended.receipt is None else self._tallies[ended.receipt.served.artifact]
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
        self._requests: dict[tuple[str, int], tuple[Count, Distribution]] = {}

    def begin(self) -> None:
        """From now on it is asked: what has not happened yet has happened 0 times."""
        metrics, of = self._metrics, self._of
        self._queries, self._dropped = metrics.queries.labels(*of), metrics.dropped.labels(*of)
        self._rejected, self._expired = metrics.rejected.labels(*of), metrics.expired.labels(*of)
        self._queue, self._network = metrics.queue_seconds.labels(*of), metrics.network_seconds.labels(*of)
        self._batch, self._queued = metrics.batch_queries.labels(*of), metrics.queued.labels(*of)
        self._answers: dict[str, tuple[Count, Count]] = {}
        self._put = Checks(self.checked).put

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
        if not self._put(queries, answered.predictions):
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

    def __init__(self, tell: Callable[[str, int, int], None]) -> None:
        self._tell = tell
        # Texts alone: whole predictions would keep memory from being used again, and make the garbage collector work.
        self._queries: list[str] = []
        self._answers: list[str] = []
        self._places = 0
        self._timer: Any = None

    def put(self, queries: list[str], predictions: list[Prediction]) -> bool:
        """For later; whether there is room."""
        if not self._queries:
            self._begin(predictions[0])
        elif len(self._queries) + len(queries) > MOST_UNCHECKED:
            return False
        self._queries += queries
        self._answers += [prediction.answer for prediction in predictions]
        return True

    def _begin(self, prediction: Prediction) -> None:
        self._places = len(prediction.probabilities)
        if self._timer is None:
            loop = gevent.get_hub().loop
            self._timer = loop.timer(GATHER_SECONDS, ref=False)
            # Behind the sockets, and behind the batcher's own look at them, which is idle too.
            self._idle = loop.idle(ref=False, priority=LAST)
        self._timer.start(self._idle.start, self._check)

    def _check(self) -> None:
        found = Tallies(map(_check, self._queries[-AT_ONCE:], self._answers[-AT_ONCE:], repeat(self._places)))
        del self._queries[-AT_ONCE:], self._answers[-AT_ONCE:]
        for left, right in {(left, right) for left, right, _ in found if left}:
            self._tell(f"{left}+{right}", found[left, right, True], found[left, right, False])
        if not self._queries:
            self._idle.stop()


def _check(query: str, answer: str, places: int) -> tuple[int, int, bool]:
    """The lengths of the operands, and whether the answer is their sum, or the end of it that there is room for; 0 and
    0 for what is no query, but one with a character that /explain has hidden."""
    left, _, right = query.partition("+")
    if not (left.isdecimal() and right.isdecimal()):
        return 0, 0, False
    return len(left), len(right), str(int(left) + int(right))[-places:] == answer
