"""The one way from a route to the network: which version is asked, what it answered, and how long that took."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from flask import g, request

from service.errors import BadHeader, DeadlineExceeded, NetworkFailed, Problem
from service.models.artifact import Prediction
from service.models.batcher import Answered
from service.models.repository import Repository, Served
from service.rest.body import parse, validate
from service.rest.connection import is_connected
from service.rest.schemas import Alternative, Choice, Model, PredictRequest, PredictResponse
from service.settings import Settings
from service.telemetry.records import Receipt

log = logging.getLogger(__name__)

Asked = TypeVar("Asked", bound=Choice)


def choose(repository: Repository, read: Callable[[], Any], schema: type[Asked]) -> tuple[Served, Asked]:
    """The version that the document names which `read` gives, and the document, held against it.

    Raises BrokenArtifact, or with an example that works UnknownModel, Invalid, and what `read` raises.
    """
    served = repository.find()
    named: dict[str, Any] = {}
    try:
        document = read()
        choice = validate(document, Choice, served.limits)
        served = repository.find(choice.model, choice.version)
        named = choice.model_dump(exclude_none=True)
        return served, validate(document, schema, served.limits)
    except Problem as problem:
        problem.example = named | schema.example(served.artifact.metadata.query_example)
        raise


def choose_by_body(repository: Repository, settings: Settings, schema: type[Asked]) -> tuple[Served, Asked]:
    """The same by the request's body, which is JSON."""
    return choose(repository, lambda: parse(request, settings.max_body_bytes), schema)


def ask(served: Served, queries: list[str]) -> list[Prediction]:
    """One prediction for each valid query, if there are any, in order, within the request's time.

    Raises BadHeader, or as `Batcher.predict` does.
    """
    receipt, seconds = _receipt(served, len(queries)), within_seconds()
    if not queries:
        return []
    try:
        answered = served.batcher.predict(queries, is_connected(request), seconds)
    except Problem as problem:
        served.tally.refused(problem)
        raise
    receipt.queue_seconds += answered.queue_seconds
    receipt.network_seconds += answered.network_seconds
    receipt.batch_queries = answered.batch_queries
    served.tally.answered(queries, answered)
    return answered.predictions


def answer(served: Served, body: PredictRequest, prediction: Prediction) -> PredictResponse:
    """All that the body wishes to know. Raises NetworkFailed where it wants alternatives."""
    alternatives = None
    if body.alternatives is not None:
        with _timed(_receipt(served, 0)):  # of a query that is counted
            best = served.artifact.k_best(body.query, body.alternatives)
        alternatives = [Alternative(answer=answer, probability=probability) for answer, probability in best]
    alphabet, model = served.artifact.metadata.alphabet, Model.of(served.artifact)
    return PredictResponse.of(body.query, prediction, body, alphabet, alternatives=alternatives, model=model)


def ask_by_character(served: Served, query: str) -> Generator[npt.NDArray[np.float32], None, Prediction]:
    """The probabilities [V] of one character of the answer to a valid query after the other, end included where there
    is room, as the decoder gives them; returns what they come to.

    Raises BadHeader, NetworkFailed, or DeadlineExceeded after the request's time.
    """
    receipt, decoder, steps = _receipt(served, 1), served.artifact.decode(query), []
    seconds = within_seconds()
    deadline = time.monotonic() + seconds
    while True:
        if time.monotonic() > deadline:
            problem = DeadlineExceeded(seconds)
            served.tally.refused(problem)
            raise problem
        with _timed(receipt):
            probabilities = next(decoder, None)
        if probabilities is None:
            break
        yield probabilities
        steps.append(probabilities)
    answer = "".join([served.artifact.metadata.alphabet[step.argmax()] for step in steps]).rstrip(" ")
    prediction = Prediction(answer, math.prod([float(step.max()) for step in steps]), np.stack(steps))
    served.tally.answered([query], Answered([prediction], 0.0, receipt.network_seconds, 1))
    return prediction


def within_seconds() -> float:
    """How long the request may wait for the network, as its Request-Timeout has it. Raises BadHeader."""
    asked = request.environ.get("HTTP_REQUEST_TIMEOUT")  # request.headers takes longer, and most have none
    if asked is None:
        return math.inf
    try:
        seconds = math.nan if "_" in asked else float(asked)  # which only Python reads
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise BadHeader("Request-Timeout", asked, "give it seconds above 0, like 2.5")
    return seconds


def _receipt(served: Served, queries: int) -> Receipt:
    receipt: Receipt | None = g.get("receipt")
    if receipt is None:
        receipt = g.receipt = Receipt(served)
    receipt.queries += queries
    return receipt


@contextmanager
def _timed(receipt: Receipt) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    except Exception as error:
        log.exception("the network failed")
        raise NetworkFailed from error
    finally:
        receipt.network_seconds += time.monotonic() - begun
