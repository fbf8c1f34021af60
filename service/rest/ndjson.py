"""NDJSON: lines of queries in a body of any length, answered line by line in constant memory."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from flask import Response, request, stream_with_context
from pydantic import RootModel, TypeAdapter

from service.errors import Problem, Unreadable, WrongContentEncoding, to_json
from service.models.engines.model_output import ModelOutput
from service.models.event_loop import item_done
from service.models.repository import Repository, ServedModel
from service.rest.body import Line, encoding_of, load, read_lines
from service.rest.connection import RequestContext, request_context
from service.rest.inference import build_response, infer, resolve_model
from service.rest.media_types import NDJSON, UNBUFFERED
from service.rest.schemas import PredictRequest, PredictResponse
from service.settings import Settings

RESPONSE = TypeAdapter(PredictResponse)


class ParsedLine(NamedTuple):
    """The number of a line, from 1 on, and its body with the version that it names, or its problem."""

    number: int
    parsed: tuple[ServedModel, PredictRequest] | Problem


class NdjsonBody(RootModel[Any]):
    """Text: any number of lines, each a body of POST /predict."""

    @classmethod
    def examples(cls, query: str) -> dict[str, str]:
        """Bodies for the OpenAPI document, by title."""
        return {"two queries": 2 * f"{json.dumps(PredictRequest.example(query))}\n"}


def answer_lines(repository: Repository, settings: Settings) -> Response:
    """Answer each line, which is a body of POST /predict, with a line: its response or its problem document, in order.
    A problem has the number of its line; a blank line has no answer.

    A client that sends more than the sockets buffer must read while it sends, as curl does. Raises ModelUnavailable,
    BadHeader, or WrongContentEncoding: lines are not decompressed.
    """
    # Before the status 200 is sent: otherwise each line would repeat the problem.
    repository.find()
    context = request_context()
    if (encoding := encoding_of(request)) != "identity":
        raise WrongContentEncoding(encoding)

    def parse(line: Line) -> ParsedLine:
        item_done()
        if line.text is None:
            limit = settings.max_body_bytes
            return ParsedLine(line.number, Unreadable(f"the line has more than {limit} bytes, the limit of a body"))
        try:
            read = partial(load, line.text)
            return ParsedLine(line.number, resolve_model(repository, read, PredictRequest, context.stats.request_id))
        except Problem as problem:
            return ParsedLine(line.number, problem)

    def answer_blocks() -> Iterator[bytes]:
        number = 1
        try:
            for block in read_lines(request, settings.max_body_bytes):
                number = block[-1].number + 1
                context.extend_deadline()
                yield b"".join(_answer_block([parse(line) for line in block], context))
                context.extend_deadline()
        except Problem as problem:
            yield _problem_line(problem, number)

    return Response(stream_with_context(answer_blocks()), mimetype=NDJSON, headers=UNBUFFERED)


def _answer_block(block: list[ParsedLine], context: RequestContext) -> Iterator[bytes]:
    """Answer a block of lines, with one inference for each version that the lines name."""
    queries: dict[ServedModel, list[str]] = {}
    for _, parsed in block:
        if not isinstance(parsed, Problem):
            served, body = parsed
            queries.setdefault(served, []).append(body.query)
    outputs = {served: _infer(served, texts, context) for served, texts in queries.items()}
    for number, parsed in block:
        item_done()
        try:
            if isinstance(parsed, Problem):
                raise parsed
            yield _response_line(*parsed, next(outputs[parsed[0]]), context)
        except Problem as problem:
            yield _problem_line(problem, number)


def _infer(served: ServedModel, queries: list[str], context: RequestContext) -> Iterator[ModelOutput | Problem]:
    try:
        return iter(infer(served, queries, context))
    except Problem as problem:
        return repeat(problem)


def _response_line(
    served: ServedModel, body: PredictRequest, output: ModelOutput | Problem, context: RequestContext
) -> bytes:
    """Raises the problem of the inference, or of the alternatives."""
    if isinstance(output, Problem):
        raise output
    context.start_waiting()  # for alternatives: each line has its own deadline
    return RESPONSE.dump_json(build_response(served, body, output, context), exclude_none=True) + b"\n"


def _problem_line(problem: Problem, number: int) -> bytes:
    document = problem.document()
    document["line"] = number
    return to_json(document).encode() + b"\n"
