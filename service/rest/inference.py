"""Resolves the model of a request, calls it, and builds the response, for all routes. Every call passes the queue."""

import math
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from service.errors import FieldError, Invalid, Problem, ProblemDocument
from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput
from service.models.event_loop import item_done
from service.models.queries import InvalidQuery
from service.models.repository import Repository, ServedModel
from service.rest.body import validate
from service.rest.connection import RequestContext
from service.rest.schemas import (
    Alternative,
    Answer,
    BatchRequest,
    BatchResponse,
    ModelSelector,
    ModelVersion,
    PredictRequest,
    PredictResponse,
)

RequestT = TypeVar("RequestT", bound=ModelSelector)


def resolve_model(
    repository: Repository, read: Callable[[], Any], schema: type[RequestT], request_id: str
) -> tuple[ServedModel, RequestT]:
    """Read the body, resolve the model it names, validate it by that model's limits. The id of the request decides
    whether a canary answers.

    Raises ModelUnavailable; and ModelNotFound, Invalid and the problems of `read`, each with an example that works.
    """
    served = repository.find()
    named: dict[str, Any] = {}
    try:
        document = read()
        selector = validate(document, ModelSelector, served.limits)
        served = repository.find(selector.model, selector.version, selector.label, request_id)
        named = selector.model_dump(exclude_none=True)
        return served, validate(document, schema, served.limits)
    except Problem as problem:
        example = named | schema.example(served.artifact.metadata.task.example)
        raise problem.replace(example=example) from problem


def infer(served: ServedModel, queries: list[str], context: RequestContext) -> list[ModelOutput]:
    """Return one output for each query, in order. The queries are valid; there may be none. Raises as `Batcher.call`
    does."""
    _start(served, len(queries), context)
    if not queries:
        return []
    result = served.batcher.predict(queries, context.limits)
    stats = context.stats
    stats.add(result)
    if stats.log is not None:
        stats.log(stats.request_id, served.labels, queries, result)
    return result.outputs


def infer_characters(
    served: ServedModel, query: str, context: RequestContext
) -> Generator[npt.NDArray[np.float32], None, ModelOutput]:
    """Decode the answer one character at a time: yield the probabilities of each, float32 [V], the end included if the
    answer has room for it; return the whole output.

    Each step waits in the queue. Only the first counts against its limit: an admitted request is not refused. Raises as
    `Batcher.call` does.
    """
    _start(served, 1, context)
    decoder, steps = served.artifact.engine.decode(query), list[npt.NDArray[np.float32]]()
    queue_seconds = inference_seconds = 0.0
    while True:
        result = served.batcher.call(partial(next, decoder, None), context.limits, is_admitted=bool(steps))
        context.stats.add(result)
        queue_seconds += result.queue_seconds
        inference_seconds += result.inference_seconds
        [probabilities] = result.outputs
        if probabilities is None:
            break
        yield probabilities
        steps.append(probabilities)
    alphabet = served.artifact.metadata.task.characters
    answer = "".join([alphabet[step.argmax()] for step in steps])
    output = ModelOutput(answer, math.prod([float(step.max()) for step in steps]), np.stack(steps))
    result = BatchResult([output], queue_seconds, inference_seconds, 1)
    served.observer.answered([query], result)
    if context.stats.log is not None:
        context.stats.log(context.stats.request_id, served.labels, [query], result)
    return output


def build_response(
    served: ServedModel, body: PredictRequest, output: ModelOutput, context: RequestContext
) -> PredictResponse:
    """Build the response of /predict. Alternatives are another call of the model, which has the deadline of the
    inference before and raises as `Batcher.call` does."""
    alternatives = None
    if body.alternatives is not None:
        result = served.batcher.call(
            partial(served.artifact.engine.k_best, body.query, body.alternatives), context.limits, is_admitted=True
        )
        context.stats.add(result)
        [best] = result.outputs
        alternatives = [Alternative(answer=answer, probability=probability) for answer, probability in best]
    alphabet, model = served.artifact.metadata.task.characters, ModelVersion.of(served.artifact)
    return PredictResponse.of(body.query, output, body, alphabet, alternatives=alternatives, model=model)


def build_batch_response(served: ServedModel, body: BatchRequest, outputs: list[ModelOutput]) -> BatchResponse:
    """Build the response of /predict/batch: an output for each valid query, a problem document for each invalid one."""
    remaining, alphabet = iter(outputs), served.artifact.metadata.task.characters
    predictions: list[Answer | ProblemDocument] = []
    for index, query in enumerate(body.queries):
        item_done()
        if isinstance(query, InvalidQuery):
            predictions.append(Invalid([FieldError(pointer=f"#/queries/{index}", detail=query)], 1).document())
        else:
            predictions.append(Answer.of(query, next(remaining), body, alphabet))
    return BatchResponse(predictions=predictions, model=ModelVersion.of(served.artifact))


def _start(served: ServedModel, queries: int, context: RequestContext) -> None:
    context.start_waiting()
    stats = context.stats
    if stats.served is None:
        stats.served, stats.inference_started = served, time.monotonic()
    stats.queries += queries
