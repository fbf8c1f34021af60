"""POST /explain."""

import numpy as np
from flask import Blueprint, Response
from pydantic import TypeAdapter

from service.models.repository import Repository, Served
from service.openapi.operations import ASKING_BY_BODY, described
from service.rest.inference import ask, choose_by_body
from service.rest.schemas import ExplainResponse, Model, QueryRequest
from service.settings import Settings

EXPLAINED = TypeAdapter(ExplainResponse)

HIDDEN = " "  # what the network reads where a query has ended, and so knows


def explain_routes(repository: Repository, settings: Settings) -> Blueprint:
    """Which character of a query matters to which of its answer, by occlusion (Zeiler and Fergus 2014, section 4.2)."""
    routes = Blueprint("explain", __name__)

    @routes.post("/explain")
    @described(
        "Tell which character of a query matters to which of the answer",
        ExplainResponse,
        QueryRequest,
        problems=ASKING_BY_BODY,
    )
    def explain() -> Response:
        served, body = choose_by_body(repository, settings, QueryRequest)
        return Response(EXPLAINED.dump_json(_explained(served, body.query)), mimetype="application/json")

    return routes


def _explained(served: Served, query: str) -> ExplainResponse:
    occluded = [query[:place] + HIDDEN + query[place + 1 :] for place in range(len(query))]
    prediction, *others = ask(served, [query, *occluded])
    steps = prediction.steps  # (T, V)
    tokens = steps.argmax(axis=-1)
    places = np.arange(len(tokens))
    return ExplainResponse(
        query=query,
        answer=prediction.answer,
        confidence=prediction.confidence,
        hidden=list(query),
        characters=[served.artifact.metadata.alphabet[token] for token in tokens],
        matrix=[(steps[places, tokens] - other.probabilities[places, tokens]).tolist() for other in others],
        model=Model.of(served.artifact),
    )
