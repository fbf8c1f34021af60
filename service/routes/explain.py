"""POST /explain: which character of a query matters to which character of its answer."""

import numpy as np
from flask import Blueprint, Response, request
from pydantic import TypeAdapter

from service.models.repository import Repository, ServedModel
from service.openapi.operations import JSON_INFERENCE_ERRORS, documented
from service.rest.body import parse
from service.rest.connection import RequestContext, request_context
from service.rest.inference import infer, resolve_model
from service.rest.media_types import JSON
from service.rest.schemas import ExplainResponse, ModelVersion, QueryRequest
from service.settings import Settings

EXPLAIN_RESPONSE = TypeAdapter(ExplainResponse)


def explain_routes(repository: Repository, settings: Settings) -> Blueprint:
    """Explanations by occlusion (Zeiler and Fergus 2014, section 4.2)."""
    routes = Blueprint("explain", __name__)

    @routes.post("/explain")
    @documented(
        "Report which character of the query matters to which character of the answer",
        ExplainResponse,
        QueryRequest,
        problems=JSON_INFERENCE_ERRORS,
    )
    def explain() -> Response:
        context = request_context()
        served, body = resolve_model(repository, lambda: parse(request, settings.max_body_bytes), QueryRequest)
        return Response(EXPLAIN_RESPONSE.dump_json(_explain(served, body.query, context)), mimetype=JSON)

    return routes


def _explain(served: ServedModel, query: str, context: RequestContext) -> ExplainResponse:
    task = served.artifact.metadata.task
    # A hidden character is replaced by the padding behind a query.
    occluded = [query[:place] + task.end + query[place + 1 :] for place in range(len(query))]
    output, *others = infer(served, [query, *occluded], context)
    steps = output.steps  # (T, V)
    tokens = steps.argmax(axis=-1)  # (T,)
    places = np.arange(len(tokens))
    return ExplainResponse(
        query=query,
        answer=output.answer,
        confidence=output.confidence,
        hidden=list(query),
        characters=[task.characters[token] for token in tokens],
        matrix=[(steps[places, tokens] - other.probabilities[places, tokens]).tolist() for other in others],
        model=ModelVersion.of(served.artifact),
    )
