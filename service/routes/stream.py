"""POST and GET /predict/stream: the answer character by character, as server-sent events."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from flask import Blueprint, Response, request, stream_with_context
from pydantic import TypeAdapter

from service.errors import DuplicateKey, Problem
from service.models.artifact import Artifact
from service.models.engines.model_output import ModelOutput
from service.models.repository import Repository
from service.openapi.operations import INFERENCE_ERRORS, JSON_INFERENCE_ERRORS, documented
from service.rest.body import parse
from service.rest.connection import request_context
from service.rest.inference import infer_characters, resolve_model
from service.rest.media_types import EVENTS, UNBUFFERED
from service.rest.schemas import Character, DoneResponse, Event, ModelVersion, QueryRequest
from service.settings import Settings

CHARACTER, DONE = TypeAdapter(Character), TypeAdapter(DoneResponse)

Step = npt.NDArray[np.float32]  # [V]: the probabilities of one character


def stream_routes(repository: Repository, settings: Settings) -> Blueprint:
    """By POST like the other routes, and by GET, the only method of a browser's EventSource."""
    routes = Blueprint("stream", __name__, url_prefix="/predict/stream")

    @routes.post("")
    @documented("Answer a query character by character", {EVENTS: Event}, QueryRequest, problems=JSON_INFERENCE_ERRORS)
    def post() -> Response:
        """An event `character` for each character of the answer, or "" for its end, with its probability and
        runners-up; then one event `done` with the answer. If inference fails in between, the last event is `problem`.
        """
        return stream(lambda: parse(request, settings.max_body_bytes))

    @routes.get("")
    @documented(
        "Answer a query character by character, for a browser's EventSource",
        {EVENTS: Event},
        arguments=QueryRequest,
        problems=(*INFERENCE_ERRORS, DuplicateKey),
    )
    def get() -> Response:
        """The same as by POST."""
        return stream(_arguments)

    def stream(read: Callable[[], Any]) -> Response:
        context = request_context()
        served, body = resolve_model(repository, read, QueryRequest, context.stats.request_id)
        steps = infer_characters(served, body.query, context)
        first = next(steps)  # before the status 200 is sent: a problem of the first step has its own status
        events = _events(served.artifact, body.query, first, steps)
        return Response(stream_with_context(events), mimetype=EVENTS, headers=UNBUFFERED)

    return routes


def _events(artifact: Artifact, query: str, step: Step, steps: Generator[Step, None, ModelOutput]) -> Iterator[bytes]:
    """The events of a stream, from its first step and the generator of the others."""
    try:
        while True:
            yield _event("character", CHARACTER.dump_json(Character.of(step, artifact.metadata.task.characters)))
            step = next(steps)
    except StopIteration as end:
        answer, confidence, _ = end.value
        done = DoneResponse(query=query, answer=answer, confidence=confidence, model=ModelVersion.of(artifact))
        yield _event("done", DONE.dump_json(done))
    except Problem as problem:
        yield _event("problem", problem.to_json().encode())


def _arguments() -> dict[str, Any]:
    """The arguments of the URL as a body, with the version as a number."""
    for name, values in request.args.lists():
        if len(values) > 1:
            raise DuplicateKey(name)
    arguments: dict[str, Any] = request.args.to_dict()
    version = arguments.get("version", "")
    if version.isascii() and version.isdigit() and len(version) < 10:
        arguments["version"] = int(version)
    return arguments


def _event(name: str, body: bytes) -> bytes:
    """An event with one line of data (the HTML standard, section 9.2.5)."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), body)
