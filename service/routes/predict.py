"""POST /predict and POST /predict/batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request
from pydantic import TypeAdapter

from service.errors import ProblemDocument
from service.models.event_loop import give_way
from service.models.queries import InvalidQuery
from service.models.repository import Repository
from service.openapi.operations import JSON_INFERENCE_ERRORS, documented
from service.rest.body import parse
from service.rest.connection import request_context
from service.rest.inference import build_batch_response, build_response, infer, resolve_model
from service.rest.media_types import JSON, LINE_TYPES, NDJSON
from service.rest.ndjson import NdjsonBody, answer_lines
from service.rest.schemas import Answer, BatchRequest, BatchResponse, PredictRequest, PredictResponse
from service.settings import Settings

PREDICT_RESPONSE, BATCH_RESPONSE = TypeAdapter(PredictResponse), TypeAdapter(BatchResponse)
PREDICTIONS = TypeAdapter(Sequence[Answer | ProblemDocument])
DUMPED_PREDICTIONS = 256  # at once: with characters it takes about five milliseconds


def predict_routes(repository: Repository, settings: Settings) -> Blueprint:
    """Answers to one query, and to many."""
    routes = Blueprint("predict", __name__)

    def read() -> Any:
        return parse(request, settings.max_body_bytes)

    @routes.post("/predict")
    @documented("Answer a query", PredictResponse, PredictRequest, problems=JSON_INFERENCE_ERRORS)
    def predict() -> Response:
        context = request_context()
        served, body = resolve_model(repository, read, PredictRequest, context.stats.request_id)
        [output] = infer(served, [body.query], context)
        response = build_response(served, body, output, context)
        return Response(PREDICT_RESPONSE.dump_json(response, exclude_none=True), mimetype=JSON)

    @routes.post("/predict/batch")
    @documented(
        "Answer many queries, in order",
        {JSON: BatchResponse, NDJSON: str},
        {JSON: BatchRequest, NDJSON: NdjsonBody},
        problems=JSON_INFERENCE_ERRORS,
    )
    def predict_batch() -> Response:
        """As application/x-ndjson, each line is a body of POST /predict, and is answered with a line: its response or
        its problem."""
        if request.mimetype in LINE_TYPES:
            return answer_lines(repository, settings)
        context = request_context()
        served, body = resolve_model(repository, read, BatchRequest, context.stats.request_id)
        valid = [query for query in body.queries if not isinstance(query, InvalidQuery)]
        response = build_batch_response(served, body, infer(served, valid, context))
        return Response(_dump_batch(response), mimetype=JSON)

    return routes


def _dump_batch(response: BatchResponse) -> bytes:
    """Encode a response in slices: other requests run in between."""
    slices = []
    for start in range(0, len(response.predictions), DUMPED_PREDICTIONS):
        if start:
            give_way()
        part = response.predictions[start : start + DUMPED_PREDICTIONS]
        slices.append(PREDICTIONS.dump_json(part, exclude_none=True)[1:-1])
    rest = BATCH_RESPONSE.dump_json(replace(response, predictions=[]), exclude_none=True)
    return rest.replace(b"[]", b"[%b]" % b",".join(slices), 1)
