"""/predict/stream: the answer character by character, as server-sent events."""

from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, request, stream_with_context
from pydantic import TypeAdapter

from service.errors import DuplicateKey, Problem
from service.models.repository import Repository
from service.openapi.operations import ASKING, ASKING_BY_BODY, described
from service.rest.body import parse
from service.rest.inference import ask_by_character, choose
from service.rest.media_types import EVENTS
from service.rest.schemas import Character, DoneResponse, Event, Model, QueryRequest
from service.settings import Settings

CHARACTER, DONE = TypeAdapter(Character), TypeAdapter(DoneResponse)


def stream_routes(repository: Repository, settings: Settings) -> Blueprint:
    """By POST as the other routes; by GET for a browser's EventSource, which can do no other."""
    routes = Blueprint("stream", __name__, url_prefix="/predict/stream")

    @routes.post("")
    @described("Answer a query character by character", {EVENTS: Event}, QueryRequest, problems=ASKING_BY_BODY)
    def post() -> Response:
        """An event `character` for each of the answer, " " being its end, with its probability and runners-up; then one
        event `done` with the answer. Where the network fails in between, an event `problem` is the last."""
        return stream(lambda: parse(request, settings.max_body_bytes))

    @routes.get("")
    @described(
        "Answer a query character by character, to a browser's EventSource",
        {EVENTS: Event},
        arguments=QueryRequest,
        problems=(*ASKING, DuplicateKey),
    )
    def get() -> Response:
        """The same as by POST."""
        return stream(_arguments)

    def stream(read: Callable[[], Any]) -> Response:
        served, body = choose(repository, read, QueryRequest)
        alphabet = served.artifact.metadata.alphabet
        steps = ask_by_character(served, body.query)
        first = next(steps)  # what fails before it is a problem as everywhere
        model = Model.of(served.artifact)

        def events() -> Iterator[bytes]:
            step = first
            try:
                while True:
                    yield _event("character", CHARACTER.dump_json(Character.of(step, alphabet)))
                    step = next(steps)
            except StopIteration as ended:
                answer, confidence, _ = ended.value
                done = DoneResponse(query=body.query, answer=answer, confidence=confidence, model=model)
                yield _event("done", DONE.dump_json(done))
            except Problem as problem:
                yield _event("problem", problem.to_json().encode())

        return Response(stream_with_context(events()), mimetype=EVENTS)

    return routes


def _arguments() -> dict[str, Any]:
    """Those of the URL, of which a version is a number."""
    for name, values in request.args.lists():
        if len(values) > 1:
            raise DuplicateKey(name)
    asked: dict[str, Any] = request.args.to_dict()
    version = asked.get("version", "")
    if version.isascii() and version.isdigit() and len(version) < 10:
        asked["version"] = int(version)
    return asked


def _event(name: str, body: bytes) -> bytes:
    """An event of one line (the HTML standard, section 9.2.5)."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), body)
