"""Prometheus metrics: of requests, of each model version, and of the workers."""

from collections import Counter
from functools import partial
from typing import Any, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from service.errors import ClientDisconnected, DeadlineExceeded, InferenceError, Problem, QueueFull
from service.models.artifact import Artifact
from service.models.batcher import BatchResult
from service.models.catalog import Catalog, State
from service.models.engines.model_output import ModelOutput
from service.telemetry.accuracy import AccuracyMonitor, RightAnswer, right_answer_of
from service.telemetry.multiprocess import FastCounter, FastHistogram, all_workers
from service.telemetry.processes import ProcessesCollector
from service.telemetry.records import RequestStats
from service.worker_board import WorkerBoard

DURATION_BUCKETS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1)
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
FAILURES = (QueueFull, DeadlineExceeded, ClientDisconnected, InferenceError)
MODEL = ("model", "version")
NO_MODEL = ("", "")


class MetricTable(NamedTuple):
    """A metric, as the page shows it."""

    name: str
    help: str
    head: list[str]
    rows: list[list[str]]


class Metrics:
    """The metrics of one application in one process: created in a worker, after `multiprocess.attach`."""

    def __init__(self, board: WorkerBoard | None = None) -> None:
        """`board` is that of the workers, if there are any."""
        self._registry = CollectorRegistry()
        common: dict[str, Any] = {"namespace": "adder", "registry": self._registry}
        seconds, summed = common | {"buckets": DURATION_BUCKETS}, common | {"multiprocess_mode": "livesum"}
        equal = common | {"multiprocess_mode": "livemax"}  # the same value in every worker
        self._requests = RequestMetrics(common, seconds)
        self._processes = ProcessesCollector(board or WorkerBoard())
        self._registry.register(self._processes)
        self._versions = Gauge(
            "versions",
            "Versions by state; those that are held_back are served, and not as default.",
            ["model", "state"],
            **equal,
        )
        self._reload_failed = Gauge(
            "reload_failed",
            "1 if the artifacts folder or a serving.json cannot be used, and what was before is.",
            **equal,
        )
        self.queries = FastCounter("queries", "Queries that the model answered.", MODEL, **common)
        self.queue_duration = FastHistogram(
            "queue_duration_seconds", "Time of a request in the queue.", MODEL, **seconds
        )
        self.inference_duration = FastHistogram(
            "inference_duration_seconds", "Duration of the model calls that a request was part of.", MODEL, **seconds
        )
        self.batch_size = FastHistogram(
            "batch_size",
            "Queries in a batch: a call of the model that requests can share.",
            MODEL,
            buckets=BATCH_SIZE_BUCKETS,
            **common,
        )
        self.queue_size = Gauge("queue_size", "Queries in the queue.", MODEL, **summed)
        self.failures = FastCounter(
            "request_failures", "Calls of the model that returned no output, by reason.", [*MODEL, "reason"], **common
        )
        self.answers = FastCounter(
            "answers",
            "Answers whose right answer is known by the truth of the model's task, by the length of the query.",
            [*MODEL, "query_length", "outcome"],
            **common,
        )
        self.shadow = FastCounter(
            "shadow_answers",
            "Answers of a shadow, by outcome: agreed with the answer that was given, differed, or dropped (not asked).",
            [*MODEL, "outcome"],
            **common,
        )
        self.not_logged = FastCounter(
            "predictions_not_logged",
            "Answers that the prediction log has lost.",
            MODEL,
            **common,
        )
        self.dropped = FastCounter(
            "answers_dropped", "Answers that were not compared with right answers, for lack of time.", MODEL, **common
        )
        self.model_info = Gauge(
            "model_info", "The model versions.", [*MODEL, "sha256", "architecture", "engine", "truth"], **equal
        )
        self.exact_match = Gauge(
            "artifact_exact_match", "Share of right answers in the evaluation.", [*MODEL, "part"], **equal
        )

    def version_loaded(self, artifact: Artifact) -> "ModelMetrics":
        """Create the metrics of a version, when it is loaded."""
        metadata = artifact.metadata
        model, version = metadata.name, str(metadata.version)
        self._info(artifact).set(1)
        if metadata.evidence is not None:
            for part in ("domain", "train", "validation", "held_out"):
                share: float = getattr(metadata.evidence, part).exact_match
                self.exact_match.labels(model, version, part).set(share)
        return ModelMetrics(self, model, version, right_answer_of(artifact))

    def versions_changed(self, unloaded: list[Artifact], catalog: Catalog) -> None:
        """Record the states of all versions. The counters of an unloaded version remain."""
        for artifact in unloaded:
            self._info(artifact).set(0)
        for name, model in catalog.models.items():
            states = Counter(version.state for version in model.versions.values())
            for state in get_args(State):
                self._versions.labels(name, state).set(states[state])
        self._reload_failed.set(bool(catalog.problems()))

    def predictions_dropped(self, model: tuple[str, str], count: int) -> None:
        """Record answers of a version, by its name and number, that the prediction log has lost."""
        self.not_logged.labels(*model).inc(count)

    def observe_request(self, stats: RequestStats) -> None:
        """Record a request at its end."""
        self._requests.observe(stats)

    def _info(self, artifact: Artifact) -> Gauge:
        metadata = artifact.metadata
        truth = metadata.task.truth or "none"
        return self.model_info.labels(
            metadata.name, str(metadata.version), artifact.sha256, metadata.architecture, artifact.engine.name, truth
        )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of all workers in a format that the Accept header names, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # prometheus_client's, for a version that is none
            encode, content_type = choose_encoder("")
        return encode(self._all_workers()), content_type

    def tables(self) -> list[MetricTable]:
        """Return the metrics of all workers as tables; of a histogram, the number of values and their mean."""
        return [_table(family) for family in self._all_workers().collect() if family.samples]

    def _all_workers(self) -> CollectorRegistry:
        registry = all_workers()
        if registry is None:
            return self._registry
        registry.register(self._processes)
        return registry


def _table(family: Metric) -> MetricTable:
    names = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for sample in family.samples:
        if not sample.name.endswith(("_created", "_bucket")):
            figures = rows.setdefault(tuple(sample.labels.get(name, "") for name in names), {})
            figures[sample.name.removeprefix(family.name)] = sample.value
    if family.type != "histogram":
        cells = [[*labels, f"{value:.12g}"] for labels, figures in rows.items() for value in figures.values()]
        return MetricTable(family.name, family.documentation, [*names, "value"], cells)
    means = [
        [*labels, f"{figures['_count']:.0f}", f"{figures['_sum'] / max(1, figures['_count']):.4g}"]
        for labels, figures in rows.items()
    ]
    return MetricTable(family.name, family.documentation, [*names, "count", "mean"], means)


class RequestMetrics:
    """The number of requests and their duration. Children are cached: a look-up takes 2 microseconds."""

    def __init__(self, common: dict[str, Any], seconds: dict[str, Any]) -> None:
        self._requests = FastCounter("requests", "Requests.", ["route", *MODEL, "status"], **common)
        self._duration = FastHistogram(
            "request_duration_seconds",
            "From a request's headers to the end of its response.",
            ["route", *MODEL],
            **seconds,
        )
        self._children: dict[tuple[str, int, tuple[str, str]], tuple[FastCounter, FastHistogram]] = {}

    def observe(self, stats: RequestStats) -> None:
        """Count a request and its duration."""
        rule = stats.request.url_rule
        key = (
            "" if rule is None else rule.rule,
            stats.status,
            NO_MODEL if stats.served is None else stats.served.labels,
        )
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = self._labelled(*key)
        requests, duration = children
        requests.inc()
        duration.observe(stats.seconds)

    def _labelled(self, route: str, status: int, labels: tuple[str, str]) -> tuple[FastCounter, FastHistogram]:
        model, version = labels
        return self._requests.labels(route, model, version, str(status)), self._duration.labels(route, model, version)


class ModelMetrics:
    """The metrics of one version: the observer of its batcher. Each counter starts at 0 when the version is loaded."""

    def __init__(self, metrics: Metrics, model: str, version: str, right_answer: RightAnswer | None) -> None:
        """Without `right_answer`, no answer is compared."""
        self._queries = metrics.queries.labels(model, version)
        self._dropped = metrics.dropped.labels(model, version)
        self._queue_duration = metrics.queue_duration.labels(model, version)
        self._inference_duration = metrics.inference_duration.labels(model, version)
        self._batch_size = metrics.batch_size.labels(model, version)
        self._queue_size = metrics.queue_size.labels(model, version)
        self._failures = {
            failure.name: metrics.failures.labels(model, version, failure.name.replace("-", "_"))
            for failure in FAILURES
        }
        self._shadow = metrics.shadow
        self._answers_by_labels, self._labels = metrics.answers, (model, version)
        self._answers: dict[int, tuple[FastCounter, FastCounter]] = {}
        self._accuracy = None if right_answer is None else AccuracyMonitor(right_answer, self._compared)

    def called(self, batch_size: int) -> None:
        """Record the number of queries in a batch: a call of the model that requests can share."""
        self._batch_size.observe(batch_size)

    def queue_changed(self, size: int) -> None:
        """Record the number of queries in the queue."""
        self._queue_size.set(size)

    def answered(self, queries: list[str], result: BatchResult[ModelOutput]) -> None:
        """Record the queries of a request and their outputs."""
        self._queries.inc(len(queries))
        self._queue_duration.observe(result.queue_seconds)
        self._inference_duration.observe(result.inference_seconds)
        if self._accuracy is not None and not self._accuracy.add(queries, result.outputs):
            self._dropped.inc(len(queries))

    def failed(self, problem: Problem) -> None:
        """Record why a request has no output."""
        self._failures[problem.name].inc()

    def shadowed(self, agreed: int, differed: int, dropped: int) -> None:
        """Record how many answers of a shadow agree with those that were given, differ, or were not asked for."""
        for outcome, count in (("agreed", agreed), ("differed", differed), ("dropped", dropped)):
            self._shadow.labels(*self._labels, outcome).inc(count)

    def _compared(self, query_length: int, right: int, wrong: int) -> None:
        children = self._answers.get(query_length)
        if children is None:
            labelled = partial(self._answers_by_labels.labels, *self._labels, str(query_length))
            children = self._answers[query_length] = labelled("right"), labelled("wrong")
        children[0].inc(right)
        children[1].inc(wrong)
