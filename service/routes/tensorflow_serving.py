"""TensorFlow Serving's REST API, in its words (its g3doc/api_rest.md and util/json_tensor.cc): /v1/models/..."""

import binascii
import json
from itertools import islice
from typing import Any

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel
from pydantic_core import to_json
from werkzeug.routing import BaseConverter

from service.errors import InvalidArgument, UnknownModel, Unreadable
from service.models.artifact import Prediction
from service.models.queries import Queries
from service.models.repository import Repository, Served
from service.openapi.operations import ASKING, FINDING, READING, described
from service.rest.body import load, receive, validate
from service.rest.inference import ask
from service.rest.media_types import JSON
from service.routes.tensor_schemas import (
    ColumnsResponse,
    MetadataResponse,
    RowsResponse,
    StatusResponse,
    TensorFlowServingRequest,
)
from service.routes.tensors import text_of, version_number
from service.settings import Settings

INPUT, SIGNATURE = "query", "serving_default"
LABEL = {"label": {"description": "No version has one.", "type": "string"}}
METHOD = {"method": {"enum": ["classify", "regress"]}}


class _PredictRequest(BaseModel):
    """By rows or by columns: one of them is there."""

    instances: Queries = []
    inputs: Queries = []


class Named(BaseConverter):
    """A part of a path without a colon, behind which stands what is to be done."""

    regex = "[^/:]+"
    part_isolating = True


def tensorflow_serving_routes(repository: Repository, settings: Settings) -> Blueprint:
    """Predict, status and metadata of the versions that `repository` serves. None has a label, and none classifies or
    regresses."""
    routes = Blueprint("tensorflow_serving", __name__, url_prefix="/v1/models")
    routes.record(lambda state: state.app.url_map.converters.update(named=Named))

    def find(model: str, version: str | None, label: str | None, missing: str = "") -> Served:
        if label is not None:
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        try:
            return repository.find(model, version_number(version))
        except UnknownModel as problem:
            wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
            problem.detail = missing or f"Servable not found for request: {wanted}"
            raise

    @routes.post("/<named:model>:predict")
    @routes.post("/<named:model>/versions/<named:version>:predict")
    @routes.post("/<named:model>/labels/<named:label>:predict")
    @described(
        "Answer queries",
        RowsResponse | ColumnsResponse,
        TensorFlowServingRequest,
        variables=LABEL,
        problems=(InvalidArgument, *READING, *ASKING),
    )
    def predict(model: str, version: str | None = None, label: str | None = None) -> Response:
        served = find(model, version, label)
        texts = _texts(_load(receive(request, settings.max_body_bytes)))
        asked = validate(texts, _PredictRequest, served.limits)
        rows = [_row(prediction) for prediction in ask(served, asked.instances or asked.inputs)]
        columns = {name: [row[name] for row in rows] for name in Prediction._fields}
        answer = {"predictions": rows} if asked.instances else {"outputs": columns}
        return Response(to_json(answer), mimetype=JSON)

    @routes.post("/<named:model>:<any(classify, regress):method>")
    @routes.post("/<named:model>/versions/<named:version>:<any(classify, regress):method>")
    @routes.post("/<named:model>/labels/<named:label>:<any(classify, regress):method>")
    @described(
        "Refuse what the models do not do",
        None,
        dict[str, Any],
        variables=LABEL | METHOD,
        problems=(InvalidArgument, *FINDING),
    )
    def refuse(model: str, method: str, version: str | None = None, label: str | None = None) -> Response:
        find(model, version, label)
        kind = {"classify": "classification", "regress": "regression"}[method]
        raise InvalidArgument(
            f"Expected {kind} signature method_name to be tensorflow/serving/{method}. Was: tensorflow/serving/predict"
        )

    @routes.get("/<named:model>")
    @routes.get("/<named:model>/versions/<named:version>")
    @routes.get("/<named:model>/labels/<named:label>")
    @described(
        "Tell which versions of a model answer", StatusResponse, variables=LABEL, problems=(InvalidArgument, *FINDING)
    )
    def status(model: str, version: str | None = None, label: str | None = None) -> Response:
        wanted = "any versions" if version is None else f"version {version}"
        found = find(model, version, label, f"Could not find {wanted} of model {model}").artifact
        ok = {"error_code": "OK", "error_message": ""}
        return jsonify(
            model_version_status=[
                {"version": str(each.metadata.version), "state": "AVAILABLE", "status": ok}
                for each in ([found] if version is not None else repository.all())
                if each.metadata.name == model
            ]
        )

    @routes.get("/<named:model>/metadata")
    @routes.get("/<named:model>/versions/<named:version>/metadata")
    @routes.get("/<named:model>/labels/<named:label>/metadata")
    @described(
        "Show the signatures of a model", MetadataResponse, variables=LABEL, problems=(InvalidArgument, *FINDING)
    )
    def metadata(model: str, version: str | None = None, label: str | None = None) -> Response:
        artifact = find(model, version, label).artifact
        return jsonify(
            model_spec={"name": model, "signature_name": "", "version": str(artifact.metadata.version)},
            metadata={"signature_def": {"signature_def": {SIGNATURE: artifact.signature_def}}},
        )

    return routes


def _load(body: bytes) -> dict[str, Any]:
    """The document: an object, for the signature that can be called."""
    try:
        document = load(body)
    except Unreadable as problem:
        problem.detail = f"JSON Parse error: {problem.detail}"
        raise
    if not isinstance(document, dict):
        raise InvalidArgument(f"JSON Value: {_shown(document)} Is not object")
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise InvalidArgument(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    if signature not in ("", SIGNATURE):
        raise InvalidArgument(f'Serving signature name: "{signature}" not found in signature def')
    return document


def _texts(document: dict[str, Any]) -> dict[str, list[str]]:
    """The document, with nothing but the texts of its queries."""
    if "instances" in document and "inputs" in document:
        raise InvalidArgument(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in document:
        return {"instances": _rows(document)}
    if "inputs" in document:
        return {"inputs": _column(document["inputs"])}
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _rows(document: dict[str, Any]) -> list[str]:
    """The text of each instance: all are values, or all are objects with the input by its name."""
    instances = document["instances"]
    if not isinstance(instances, list):
        raise InvalidArgument(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
    if not instances:
        raise InvalidArgument(f"JSON Value: {_shown(document)} No values in 'instances' array")
    are_objects = _names_inputs(instances[0])
    texts = []
    for index, instance in enumerate(instances):
        if _names_inputs(instance) != are_objects:
            expected = "object but got list" if are_objects else "value/list but got object"
            raise InvalidArgument(f"Expecting {expected} at item {index} of input list")
        failed = f"Failed to process element: {index} of 'instances' list."
        if are_objects and list(instance) != [INPUT]:
            raise InvalidArgument(f"{failed} JSON object: {_shown(instance)} keys must be equal to: {INPUT}")
        try:
            texts.append(_text(instance[INPUT] if are_objects else instance))
        except InvalidArgument as problem:
            raise InvalidArgument(f"{failed} Error: INVALID_ARGUMENT: {problem.detail}") from problem
    return texts


def _column(column: Any) -> list[str]:
    """The text of each element of the input, by its name or not."""
    if _names_inputs(column):
        if INPUT not in column:
            raise InvalidArgument(f"Missing named input: {INPUT} in 'inputs' object.")
        column = column[INPUT]
    if not isinstance(column, list):
        raise InvalidArgument(f"Expecting shape [-1] but got: [], by JSON Value: {_shown(column)}")
    return [_text(value) for value in column]


def _names_inputs(value: object) -> bool:
    return isinstance(value, dict) and not (list(value) == ["b64"] and isinstance(value["b64"], str))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        raise InvalidArgument(f"Expecting shape [] but got: [{len(value)}]")
    if not isinstance(value, dict):
        kind = "Null" if value is None else str(value) if isinstance(value, bool) else "Number"
        raise InvalidArgument(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: string")
    if _names_inputs(value):
        raise InvalidArgument(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    encoded: str = value["b64"]
    try:
        padded = encoded.encode() + b"=" * (-len(encoded) % 4)  # which may be left out
        return text_of(binascii.a2b_base64(padded, strict_mode=True))
    except ValueError as error:
        raise InvalidArgument("Unable to base64 decode") from error


def _shown(value: object) -> str:
    """The beginning of its JSON: what is long or deep is not written to its end."""
    return "".join(islice(json.JSONEncoder().iterencode(value), 30))[:100]


def _row(prediction: Prediction) -> dict[str, Any]:
    return prediction._asdict() | {"probabilities": prediction.probabilities.tolist()}
