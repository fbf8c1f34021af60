"""POST and GET /v1/models/<model>...: predict, classify and regress, status, metadata."""

from functools import partial
from typing import Any, NoReturn

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel
from pydantic_core import to_json
from werkzeug.routing import BaseConverter

from service.errors import InvalidArgument, ModelNotFound
from service.models.engines.model_output import ModelOutput
from service.models.event_loop import item_done
from service.models.queries import Queries
from service.models.repository import Repository, ServedModel
from service.openapi.operations import BODY_ERRORS, INFERENCE_ERRORS, LOOKUP_ERRORS, documented
from service.rest.body import receive, validate
from service.rest.connection import request_context
from service.rest.inference import infer
from service.rest.media_types import JSON
from service.rest.problem_details import register_error_documents
from service.routes.dialect_inputs import version_number
from service.routes.tensorflow_serving.inputs import SIGNATURE, input_texts, load_document
from service.routes.tensorflow_serving.schemas import (
    ColumnsResponse,
    MetadataResponse,
    RowsResponse,
    StatusResponse,
    TensorFlowServingRequest,
)
from service.settings import Settings

LABEL = {"label": {"description": "A label in the model's serving.json.", "type": "string", "examples": ["stable"]}}
METHOD = {"method": {"enum": ["classify", "regress"]}}

documented_here = partial(documented, error_documents=True)


class _PredictRequest(BaseModel):
    """The queries: one of the two fields is set."""

    instances: Queries = []
    inputs: Queries = []


class Named(BaseConverter):
    """A part of a path, up to the colon in front of a method."""

    regex = "[^/:]+"
    part_isolating = True


class TensorFlowServing:
    """The endpoints of the API. No model classifies or regresses."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._repository = repository
        self._settings = settings

    @documented_here(
        "Answer queries",
        RowsResponse | ColumnsResponse,
        TensorFlowServingRequest,
        variables=LABEL,
        problems=(InvalidArgument, *BODY_ERRORS, *INFERENCE_ERRORS),
    )
    def predict(self, model: str, version: str | None = None, label: str | None = None) -> Response:
        """The response to rows has rows, the response to columns has columns."""
        context = request_context()
        served = self._find(model, version, label, request_id=context.stats.request_id)
        texts = input_texts(load_document(receive(request, self._settings.max_body_bytes)))
        body = validate(texts, _PredictRequest, served.limits)
        rows = [_row(output) for output in infer(served, body.instances or body.inputs, context)]
        if body.instances:
            return Response(to_json({"predictions": rows}), mimetype=JSON)
        columns = {name: [row[name] for row in rows] for name in ModelOutput._fields}
        return Response(to_json({"outputs": columns}), mimetype=JSON)

    @documented_here(
        "Refuse classification and regression",
        None,
        dict[str, Any],
        variables=LABEL | METHOD,
        problems=(InvalidArgument, *LOOKUP_ERRORS),
    )
    def refuse(self, model: str, method: str, version: str | None = None, label: str | None = None) -> NoReturn:
        """No model has a signature for classification or regression."""
        self._find(model, version, label)
        kind = {"classify": "classification", "regress": "regression"}[method]
        raise InvalidArgument(
            f"Expected {kind} signature method_name to be tensorflow/serving/{method}. Was: tensorflow/serving/predict"
        )

    @documented_here(
        "Report the state of a model's versions",
        StatusResponse,
        variables=LABEL,
        problems=(InvalidArgument, *LOOKUP_ERRORS),
    )
    def status(self, model: str, version: str | None = None, label: str | None = None) -> Response:
        """Every version in the artifacts folder, and those that are unloaded while requests still use them."""
        number = version_number(version)
        if label is not None:
            number = self._find(model, version, label).artifact.metadata.version
        found = [
            status
            for status in self._repository.statuses()
            if status.model == model and number in (None, status.version)
        ]
        if not found:
            versions = "any versions" if version is None else f"version {version}"
            self._find(model, version, label, f"Could not find {versions} of model {model}")
        return jsonify(
            model_version_status=[
                {"version": str(status.version), "state": status.state, "status": _error(status.reason)}
                for status in found
            ]
        )

    @documented_here(
        "Show the signatures of a model", MetadataResponse, variables=LABEL, problems=(InvalidArgument, *LOOKUP_ERRORS)
    )
    def metadata(self, model: str, version: str | None = None, label: str | None = None) -> Response:
        """The SignatureDef of `serving_default`."""
        artifact = self._find(model, version, label).artifact
        return jsonify(
            model_spec={"name": model, "signature_name": "", "version": str(artifact.metadata.version)},
            metadata={"signature_def": {"signature_def": {SIGNATURE: artifact.signature_def}}},
        )

    def _find(
        self,
        model: str,
        version: str | None,
        label: str | None,
        not_found: str = "",
        request_id: str | None = None,
    ) -> ServedModel:
        try:
            return self._repository.find(model, version_number(version), label, request_id)
        except ModelNotFound as problem:
            if label is not None:
                raise InvalidArgument(f"Unrecognized servable version label: {label}") from problem
            servable = f"Latest({model})" if version is None else f"Specific({model}, {version})"
            sentence = not_found or f"Servable not found for request: {servable}"
            raise problem.replace(detail=sentence) from problem


def tensorflow_serving_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The routes of TensorFlow Serving: each for the newest version, for a given version, and for a label."""
    endpoints = TensorFlowServing(repository, settings)
    routes = Blueprint("tensorflow_serving", __name__, url_prefix="/v1/models")
    routes.record(lambda state: state.app.url_map.converters.update(named=Named))
    register_error_documents(routes)
    for path in ("/<named:model>", "/<named:model>/versions/<named:version>", "/<named:model>/labels/<named:label>"):
        routes.post(f"{path}:predict")(endpoints.predict)
        routes.post(f"{path}:<any(classify, regress):method>")(endpoints.refuse)
        routes.get(path)(endpoints.status)
        routes.get(f"{path}/metadata")(endpoints.metadata)
    return routes


def _error(reason: str) -> dict[str, str]:
    """A StatusProto (status.proto)."""
    return {"error_code": "FAILED_PRECONDITION" if reason else "OK", "error_message": reason}


def _row(output: ModelOutput) -> dict[str, Any]:
    item_done()
    return output._asdict() | {"probabilities": output.probabilities.tolist()}
