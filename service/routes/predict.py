"""POST /predict and /predict/batch."""

from flask import Blueprint, Response, request
from pydantic import BaseModel

from service.artifact import Metadata
from service.body import Schema, read
from service.problems import Problem
from service.repository import Repository
from service.schemas import Answer, BatchRequest, BatchResponse, Limits, Model, PredictRequest, PredictResponse
from service.settings import Settings


def predict_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The routes over the artifact that `repository` serves."""
    routes = Blueprint("predict", __name__)

    def read_body(schema: type[Schema], metadata: Metadata, example: dict[str, object]) -> Schema:
        try:
            return read(request, schema, Limits(metadata, settings.max_batch_queries), settings.max_body_bytes)
        except Problem as problem:
            problem.example = example
            raise

    @routes.post("/predict")
    def predict() -> Response:
        artifact, batcher = repository.current()
        metadata = artifact.metadata
        body = read_body(PredictRequest, metadata, {"query": metadata.query_example})
        [prediction] = batcher.predict([body.query])
        alphabet = metadata.alphabet if body.characters else None
        return _json(PredictResponse.of(body.query, prediction, alphabet, model=Model.of(metadata)))

    @routes.post("/predict/batch")
    def predict_batch() -> Response:
        artifact, batcher = repository.current()
        metadata = artifact.metadata
        body = read_body(BatchRequest, metadata, {"queries": [metadata.query_example]})
        alphabet = metadata.alphabet if body.characters else None
        answered = zip(body.queries, batcher.predict(body.queries), strict=True)
        answers = [Answer.of(query, prediction, alphabet) for query, prediction in answered]
        return _json(BatchResponse(predictions=answers, model=Model.of(metadata)))

    return routes


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(exclude_none=True), mimetype="application/json")
