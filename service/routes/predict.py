"""POST /predict and /predict/batch."""

import socket
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Blueprint, Request, Response, request
from pydantic import TypeAdapter

from service.body import parse, validate
from service.problems import Problem
from service.repository import Repository, Served
from service.schemas import Answer, BatchRequest, BatchResponse, Choice, Limits, Model, PredictRequest, PredictResponse
from service.settings import Settings

ESTABLISHED = 1  # TCP_ESTABLISHED in Linux's include/net/tcp_states.h

PREDICTED, BATCH = TypeAdapter(PredictResponse), TypeAdapter(BatchResponse)

Asked = TypeVar("Asked", PredictRequest, BatchRequest)
Answered = TypeVar("Answered", PredictResponse, BatchResponse)


def predict_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The routes over the artifacts that `repository` serves."""
    routes = Blueprint("predict", __name__)

    def limits(served: Served) -> Limits:
        return Limits(served.artifact.metadata, settings.max_batch_queries)

    def read(schema: type[Asked]) -> tuple[Served, Asked]:
        """The version that the body names, and the body, held against it."""
        served = repository.find()
        named: dict[str, Any] = {}
        try:
            document = parse(request, settings.max_body_bytes)
            choice = validate(document, Choice, limits(served))
            served = repository.find(choice.model, choice.version)
            named = choice.model_dump(exclude_none=True)
            return served, validate(document, schema, limits(served))
        except Problem as problem:
            problem.example = named | schema.example(served.artifact.metadata.query_example)
            raise

    @routes.post("/predict")
    def predict() -> Response:
        (artifact, batcher), body = read(PredictRequest)
        [prediction] = batcher.predict([body.query], _is_connected(request))
        alphabet = artifact.metadata.alphabet if body.characters else None
        return _json(PREDICTED, PredictResponse.of(body.query, prediction, alphabet, model=Model.of(artifact.metadata)))

    @routes.post("/predict/batch")
    def predict_batch() -> Response:
        (artifact, batcher), body = read(BatchRequest)
        alphabet = artifact.metadata.alphabet if body.characters else None
        answered = zip(body.queries, batcher.predict(body.queries, _is_connected(request)), strict=True)
        answers = [Answer.of(query, prediction, alphabet) for query, prediction in answered]
        return _json(BATCH, BatchResponse(predictions=answers, model=Model.of(artifact.metadata)))

    return routes


def _json(schema: TypeAdapter[Answered], answer: Answered) -> Response:
    return Response(schema.dump_json(answer, exclude_none=True), mimetype="application/json")


def _is_connected(request: Request) -> Callable[[], bool]:
    """Whether the client has not closed its end, where that can be told: under gunicorn on Linux (tcp(7))."""
    client = request.environ.get("gunicorn.socket")

    def told() -> bool:
        if client is None or not hasattr(socket, "TCP_INFO"):
            return True
        [state] = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state == ESTABLISHED)

    return told
