"""Queries line by line, in a body of any length and in constant memory: application/x-ndjson, there and back."""

from collections.abc import Iterator
from functools import partial
from itertools import repeat

from flask import Response, request, stream_with_context
from pydantic import TypeAdapter

from service.errors import Problem, WrongContentEncoding
from service.models.artifact import Prediction
from service.models.repository import Repository, Served
from service.rest.body import encoding_of, lines, load
from service.rest.connection import goes_on
from service.rest.inference import answer, ask, choose, within_seconds
from service.rest.media_types import NDJSON
from service.rest.schemas import PredictRequest, PredictResponse
from service.settings import Settings

LINE = TypeAdapter(PredictResponse)

Read = tuple[Served, PredictRequest] | Problem


def answer_lines(repository: Repository, settings: Settings) -> Response:
    """For each line, which is a body of POST /predict, a line: its answer or its problem document, in order.

    A client that sends more than the sockets hold must read while it sends, as curl does. Raises BrokenArtifact where
    nothing could be loaded, BadHeader, or WrongContentEncoding, since lines are not unpacked.
    """
    # Else each line would tell it, behind a status of 200.
    repository.find()
    within_seconds()
    if (encoding := encoding_of(request)) != "identity":
        raise WrongContentEncoding(encoding)

    def read(line: bytes) -> Read:
        try:
            return choose(repository, partial(load, line), PredictRequest)
        except Problem as problem:
            return problem

    def answered() -> Iterator[bytes]:
        try:
            for block in lines(request, settings.max_body_bytes):
                goes_on(request)
                yield b"".join(_answered([read(line) for line in block]))
                goes_on(request)
        except Problem as problem:
            yield _problem(problem)

    return Response(stream_with_context(answered()), mimetype=NDJSON)


def _answered(block: list[Read]) -> Iterator[bytes]:
    """The network is asked once for each version that the lines name."""
    queries: dict[Served, list[str]] = {}
    for each in block:
        if not isinstance(each, Problem):
            served, body = each
            queries.setdefault(served, []).append(body.query)
    predictions = {served: _ask(served, asked) for served, asked in queries.items()}
    for each in block:
        yield _problem(each) if isinstance(each, Problem) else _answer(*each, next(predictions[each[0]]))


def _ask(served: Served, queries: list[str]) -> Iterator[Prediction | Problem]:
    try:
        return iter(ask(served, queries))
    except Problem as problem:
        return repeat(problem)


def _answer(served: Served, body: PredictRequest, prediction: Prediction | Problem) -> bytes:
    if isinstance(prediction, Problem):
        return _problem(prediction)
    try:
        return LINE.dump_json(answer(served, body, prediction), exclude_none=True) + b"\n"
    except Problem as problem:
        return _problem(problem)


def _problem(problem: Problem) -> bytes:
    return problem.to_json().encode() + b"\n"
