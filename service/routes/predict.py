"""POST /predict and /predict/batch."""

from flask import Blueprint, Response, request
from pydantic import TypeAdapter

from service.errors import FieldError, Invalid
from service.models.queries import Broken
from service.models.repository import Repository
from service.openapi.operations import ASKING_BY_BODY, described
from service.rest import ndjson
from service.rest.inference import answer, ask, choose_by_body
from service.rest.media_types import JSON, NDJSON
from service.rest.schemas import Answer, BatchRequest, BatchResponse, Lines, Model, PredictRequest, PredictResponse
from service.settings import Settings

PREDICTED, BATCH = TypeAdapter(PredictResponse), TypeAdapter(BatchResponse)


def predict_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The routes over the artifacts that `repository` serves."""
    routes = Blueprint("predict", __name__)

    @routes.post("/predict")
    @described(
        "Answer a query",
        PredictResponse,
        PredictRequest,
        problems=ASKING_BY_BODY,
    )
    def predict() -> Response:
        served, body = choose_by_body(repository, settings, PredictRequest)
        [prediction] = ask(served, [body.query])
        answered = answer(served, body, prediction)
        return Response(PREDICTED.dump_json(answered, exclude_none=True), mimetype="application/json")

    @routes.post("/predict/batch")
    @described(
        "Answer many queries, in order",
        {JSON: BatchResponse, NDJSON: str},
        {JSON: BatchRequest, NDJSON: Lines},
        problems=ASKING_BY_BODY,
    )
    def predict_batch() -> Response:
        """As application/x-ndjson, each line is a body of POST /predict, and its answer or its problem is a line."""
        if request.mimetype == NDJSON:
            return ndjson.answer_lines(repository, settings)
        served, body = choose_by_body(repository, settings, BatchRequest)
        valid = [query for query in body.queries if not isinstance(query, Broken)]
        predictions = iter(ask(served, valid))
        alphabet = served.artifact.metadata.alphabet
        answers = [
            Invalid([FieldError(pointer=f"#/queries/{index}", detail=query)], 1).document()
            if isinstance(query, Broken)
            else Answer.of(query, next(predictions), body, alphabet)
            for index, query in enumerate(body.queries)
        ]
        answered = BatchResponse(predictions=answers, model=Model.of(served.artifact))
        return Response(BATCH.dump_json(answered, exclude_none=True), mimetype="application/json")

    return routes
