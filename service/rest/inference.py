"""From a validated body to the model and back: the one way for all routes. Every call of the model passes its queue."""

import math
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from service.errors import Problem
from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput
from service.models.repository import Repository, ServedModel
from service.rest.body import validate
from service.rest.connection import RequestContext
from service.rest.schemas import Alternative, ModelSelector, ModelVersion, PredictRequest, PredictResponse

RequestT = TypeVar("RequestT", bound=ModelSelector)
T = TypeVar("T")


def resolve_model(
    repository: Repository, read: Callable[[], Any], schema: type[RequestT]
) -> tuple[ServedModel, RequestT]:
    """Read the body, resolve the model it names, validate it by that model's limits.

    Raises ModelUnavailable, or with an example that works ModelNotFound, Invalid, and what `read` raises.
    """
    served = repository.find()
    named: dict[str, Any] = {}
    try:
        document = read()
        selector = validate(document, ModelSelector, served.limits)
        served = repository.find(selector.model, selector.version)
        named = selector.model_dump(exclude_none=True)
        return served, validate(document, schema, served.limits)
    except Problem as problem:
        example = named | schema.example(served.artifact.metadata.query_example)
        raise problem.replace(example=example) from problem


def infer(served: ServedModel, queries: list[str], context: RequestContext) -> list[ModelOutput]:
    """One output for each valid query, in order; the list may be empty. Raises as `Batcher.call` does."""
    _start(served, len(queries), context)
    if not queries:
        return []
    result = served.batcher.predict(queries, context.terms)
    context.stats.add(result)
    return result.outputs


def infer_characters(
    served: ServedModel, query: str, context: RequestContext
) -> Generator[npt.NDArray[np.float32], None, ModelOutput]:
    """The probabilities [V] of one character of the answer after the other, the end included if the answer has room for
    it. Returns the whole output.

    The first step passes the limit of the queue; the others of an admitted request do not. Raises as `Batcher.call`
    does.
    """
    _start(served, 1, context)
    decoder, steps = served.artifact.engine.decode(query), list[npt.NDArray[np.float32]]()
    queue_seconds = inference_seconds = 0.0
    while True:
        result = served.batcher.call(partial(next, decoder, None), context.terms, is_admitted=bool(steps))
        context.stats.add(result)
        queue_seconds += result.queue_seconds
        inference_seconds += result.inference_seconds
        [probabilities] = result.outputs
        if probabilities is None:
            break
        yield probabilities
        steps.append(probabilities)
    alphabet = served.artifact.metadata.alphabet
    answer = "".join([alphabet[step.argmax()] for step in steps]).rstrip(alphabet[served.artifact.metadata.end])
    output = ModelOutput(answer, math.prod([float(step.max()) for step in steps]), np.stack(steps))
    served.observer.answered([query], BatchResult([output], queue_seconds, inference_seconds, 1))
    return output


def build_response(
    served: ServedModel, body: PredictRequest, output: ModelOutput, context: RequestContext
) -> PredictResponse:
    """Build the response of /predict. Raises as `Batcher.call` does if the body asks for alternatives, which share the
    deadline of the inference before."""
    alternatives = None
    if body.alternatives is not None:
        result = served.batcher.call(
            partial(served.artifact.engine.k_best, body.query, body.alternatives), context.terms
        )
        context.stats.add(result)
        [best] = result.outputs
        alternatives = [Alternative(answer=answer, probability=probability) for answer, probability in best]
    alphabet, model = served.artifact.metadata.alphabet, ModelVersion.of(served.artifact)
    return PredictResponse.of(body.query, output, body, alphabet, alternatives=alternatives, model=model)


def _start(served: ServedModel, queries: int, context: RequestContext) -> None:
    context.start_waiting()
    stats = context.stats
    if stats.served is None:
        stats.served, stats.inference_started = served, time.monotonic()
    stats.queries += queries
