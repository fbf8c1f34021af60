"""The statistics of a request: one object, filled on the way of the request and observed once at its end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Request

from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput
from service.models.repository import ServedModel

# Receives the id of a request, name and version of the model, queries, and their outputs with the times.
PredictionLogger = Callable[[str, tuple[str, str], list[str], BatchResult[ModelOutput]], object]


@dataclass(slots=True)
class RequestStats:
    """The statistics of a request. Times are in seconds, `started` and `inference_started` of the monotonic clock.

    `served` is the first model version that the request was sent to; `queries`, `queue_seconds` and
    `inference_seconds` are summed over all calls, and `batch_size` is that of the last. `problem` is the type of
    the problem document, if the response is one. `status` and `seconds` are set at the end. `log` is that of
    predictions, if there is one.
    """

    request: Request
    request_id: str
    started: float
    log: PredictionLogger | None = None
    served: ServedModel | None = None
    inference_started: float = 0.0
    queries: int = 0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    batch_size: int = 0
    status: int = 0
    problem: str = ""
    seconds: float = 0.0

    def add(self, result: BatchResult[Any]) -> None:
        """Add the times of a call of the model."""
        self.queue_seconds += result.queue_seconds
        self.inference_seconds += result.inference_seconds
        self.batch_size = result.batch_size


RequestObserver = Callable[[RequestStats], object]
