"""POST /explain: which character of a query matters to which character of its answer, and what the layers hand on."""

from functools import partial

import numpy as np
from flask import Blueprint, Response, request
from pydantic import TypeAdapter

from service.models.repository import Repository, ServedModel
from service.openapi.operations import JSON_INFERENCE_ERRORS, documented
from service.rest.body import parse
from service.rest.connection import RequestContext, request_context
from service.rest.inference import infer, resolve_model
from service.rest.media_types import JSON
from service.rest.schemas import ExplainRequest, ExplainResponse, Layers, ModelVersion
from service.settings import Settings

EXPLAIN_RESPONSE = TypeAdapter(ExplainResponse)


def explain_routes(repository: Repository, settings: Settings) -> Blueprint:
    """Explanations by occlusion (Zeiler and Fergus 2014, section 4.2), and by the numbers of the layers."""
    routes = Blueprint("explain", __name__)

    @routes.post("/explain")
    @documented(
        "Report which character of the query matters to which character of the answer",
        ExplainResponse,
        ExplainRequest,
        problems=JSON_INFERENCE_ERRORS,
    )
    def explain() -> Response:
        context = request_context()
        read = partial(parse, request, settings.max_body_bytes)
        served, body = resolve_model(repository, read, ExplainRequest, context.stats.request_id)
        response = _explain(served, body, context)
        return Response(EXPLAIN_RESPONSE.dump_json(response, exclude_none=True), mimetype=JSON)

    return routes


def _explain(served: ServedModel, body: ExplainRequest, context: RequestContext) -> ExplainResponse:
    query, task = body.query, served.artifact.metadata.task
    # A hidden character is replaced by the padding behind a query.
    occluded = [query[:place] + task.end + query[place + 1 :] for place in range(len(query))]
    output, *others = infer(served, [query, *occluded], context)
    steps = output.steps  # (T, V)
    tokens = steps.argmax(axis=-1)  # (T,)
    places = np.arange(len(tokens))
    layers = None
    if body.layers:
        result = served.batcher.call(
            partial(served.artifact.engine.states, query, tokens), context.limits, is_admitted=True
        )
        context.stats.add(result)
        layers = Layers.of(result.outputs[0], steps, task.characters)
    return ExplainResponse(
        query=query,
        answer=output.answer,
        confidence=output.confidence,
        hidden=list(query),
        characters=[task.characters[token] for token in tokens],
        matrix=[(steps[places, tokens] - other.probabilities[places, tokens]).tolist() for other in others],
        layers=layers,
        model=ModelVersion.of(served.artifact),
    )
