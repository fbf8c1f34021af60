"""The Open Inference Protocol V2 (its specification/protocol/inference_rest.md), with tensors in JSON, or in binary as
Triton's extension has them (its docs/protocol/extension_binary_data.md): /v2/..."""

import re
from typing import Annotated, Any, Literal

import numpy as np
from flask import Blueprint, Response, g, jsonify, request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import to_json

from service.artifact import Artifact, Prediction
from service.asking import ask
from service.body import load, receive, validate
from service.problems import BadHeader, FieldError, Invalid, quoted
from service.repository import Repository, Served
from service.schemas import Limits, Queries, broken
from service.settings import Settings
from service.tensors import text_of, version_number

JSON_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {"DT_STRING": "BYTES", "DT_FLOAT": "FP32"}


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise broken("it has half of a surrogate pair: send whole characters") from error
    return text


def _queries_only(shape: list[int]) -> list[int]:
    if shape[1:] not in ([], [1]) or not shape:
        raise broken(f"{quoted(str(shape))} is not the shape of queries, [N] or [N, 1]")
    return shape


def _flat(data: object, info: ValidationInfo) -> object:
    if not isinstance(data, list):
        return data
    elements = [element for row in data for element in (row if isinstance(row, list) else [row])]
    shape = info.data.get("shape")
    if shape is not None and shape[0] != len(elements):
        raise broken(f"the shape wants {shape[0]} elements, and there are {len(elements)}")
    return elements


def _not_served(_: object) -> None:
    raise broken("it belongs to an extension that is not served: leave it out")


NotServed = Annotated[None, BeforeValidator(_not_served)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _TensorParameters(_Strict):
    """Others mean nothing here, and are passed over; these would change what a tensor is."""

    binary_data: bool | None = None
    classification: NotServed = None
    shared_memory_region: NotServed = None


class _Input(_Strict):
    name: Literal["query"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[int], AfterValidator(_queries_only)]
    parameters: _TensorParameters = _TensorParameters()
    data: Annotated[Queries, BeforeValidator(_flat)]


class _Output(_Strict):
    name: Literal["answer", "confidence", "probabilities"]
    parameters: _TensorParameters = _TensorParameters()


class _Parameters(_Strict):
    binary_data_output: bool = False


class _InferRequest(_Strict):
    id: Annotated[str, AfterValidator(_whole)] = ""
    parameters: _Parameters = _Parameters()
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[_Output], Field(max_length=3)] = []


def open_inference_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The server, its models, and inference by those that `repository` serves."""
    routes = Blueprint("open_inference", __name__, url_prefix="/v2")

    def find(model: str, version: str | None) -> Served:
        return repository.find(model, version_number(version))

    @routes.get("")
    def server() -> Response:
        return jsonify(name="neural-adder", version="unreleased", extensions=["binary_tensor_data"])

    @routes.get("/health/live")
    def live() -> Response:
        return jsonify(live=True)

    @routes.get("/health/ready")
    def ready() -> Response:
        repository.find()
        return jsonify(ready=True)

    @routes.get("/models")
    def models() -> Response:
        return jsonify(models=list(dict.fromkeys(each.metadata.name for each in repository.all())))

    @routes.post("/repository/index")
    def index() -> Response:
        there = [each.metadata for each in repository.all()]
        return jsonify(
            [{"name": each.name, "version": str(each.version), "state": "READY", "reason": ""} for each in there]
        )

    @routes.get("/models/<model>")
    @routes.get("/models/<model>/versions/<version>")
    def model_metadata(model: str, version: str | None = None) -> Response:
        signature = find(model, version).artifact.signature_def
        return jsonify(
            name=model,
            versions=[str(each.metadata.version) for each in repository.all() if each.metadata.name == model],
            platform="tensorflow_savedmodel",
            inputs=_described(signature["inputs"]),
            outputs=_described(signature["outputs"]),
        )

    @routes.get("/models/<model>/ready")
    @routes.get("/models/<model>/versions/<version>/ready")
    def model_ready(model: str, version: str | None = None) -> Response:
        find(model, version)
        return jsonify(name=model, ready=True)

    @routes.post("/models/<model>/infer")
    @routes.post("/models/<model>/versions/<version>/infer")
    def infer(model: str, version: str | None = None) -> Response:
        served = find(model, version)
        document = _document(receive(request, settings.max_body_bytes), request.headers.get(JSON_LENGTH))
        asked = validate(document, _InferRequest, Limits(served.artifact.metadata, settings.max_batch_queries))
        return _answer(asked, served.artifact, ask(served, asked.inputs[0].data))

    return routes


def _described(tensors: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": DATATYPES[tensor["dtype"]],
            "shape": [int(dimension["size"]) for dimension in tensor["tensor_shape"]["dim"]],
        }
        for name, tensor in sorted(tensors.items())
    ]


def _document(body: bytes, json_length: str | None) -> Any:
    """The request in JSON, with what follows it in binary where its input's data would be.

    A body that has no JSON is one query, answered in binary. Raises BadHeader, Invalid, or as `load` does.
    """
    if json_length is None:
        json_length = str(len(body))
    elif not re.fullmatch("[0-9]{1,18}", json_length) or int(json_length) > len(body):
        rule = f"give the length of the JSON, at most the {len(body)} bytes of the body"
        raise BadHeader(JSON_LENGTH, json_length, rule)
    elif int(json_length) == 0:
        query = {"name": "query", "datatype": "BYTES", "shape": [1], "data": [text_of(body)]}
        return {"inputs": [query], "parameters": {"binary_data_output": True}}
    document, binary = load(body[: int(json_length)]), body[int(json_length) :]
    follow = f"{len(binary)} bytes follow the JSON, and"
    match document:
        case {"inputs": [{"parameters": {"binary_data_size": announced}} as tensor]}:
            if "data" in tensor:
                raise _invalid("/data", "it is there in binary too: send one, or leave binary_data_size out")
            if announced != len(binary):
                raise _invalid("/parameters/binary_data_size", f"{follow} not so many are announced")
            tensor["data"] = _elements(binary)
        case _ if binary:
            raise _invalid("/parameters/binary_data_size", f"{follow} none are announced")
    return document


def _elements(binary: bytes) -> list[str]:
    """The texts of BYTES elements: each has its length before it, in four bytes, the lowest first. Raises Invalid."""
    texts: list[str] = []
    start = 0
    while start < len(binary):
        begin = start + 4
        if begin > len(binary):
            there = len(binary) - start
            raise _invalid("/data", f"element {len(texts)} in binary ends after {there} of 4 bytes of its length")
        length = int.from_bytes(binary[start:begin], "little")
        start = begin + length
        if start > len(binary):
            there = len(binary) - begin
            raise _invalid("/data", f"element {len(texts)} in binary has {there} of the {length} bytes of its length")
        texts.append(text_of(binary[begin:start]))
    return texts


def _invalid(field: str, detail: str) -> Invalid:
    return Invalid([FieldError(pointer=f"#/inputs/0{field}", detail=detail)], 1)


def _answer(asked: _InferRequest, artifact: Artifact, predictions: list[Prediction]) -> Response:
    """The outputs that are asked for, by default all; those that are wanted in binary follow the JSON."""
    tensors = []
    for output in asked.outputs or [_Output(name="answer"), _Output(name="confidence"), _Output(name="probabilities")]:
        in_binary = output.parameters.binary_data
        tensors.append(
            _tensor(
                output.name,
                [getattr(prediction, output.name) for prediction in predictions],
                asked.parameters.binary_data_output if in_binary is None else in_binary,
            )
        )
    answer = {
        "model_name": artifact.metadata.name,
        "model_version": str(artifact.metadata.version),
        "id": asked.id or g.request_id,
        "outputs": [tensor for tensor, _ in tensors],
    }
    head, binary = to_json(answer), b"".join(binary for _, binary in tensors)
    if not binary:
        return Response(head, mimetype="application/json")
    return Response(head + binary, mimetype="application/octet-stream", headers={JSON_LENGTH: str(len(head))})


def _tensor(name: str, values: list[Any], in_binary: bool) -> tuple[dict[str, Any], bytes]:
    """An output in JSON, and what follows the JSON of it: nothing, unless it is in binary."""
    array = np.array(values, object if name == "answer" else "<f4")
    tensor = {"name": name, "datatype": "BYTES" if name == "answer" else "FP32", "shape": list(array.shape)}
    if not in_binary:
        return tensor | {"data": array.ravel().tolist()}, b""
    if name == "answer":
        binary = b"".join(len(value).to_bytes(4, "little") + value.encode("ascii") for value in values)
    else:
        binary = array.tobytes()
    return tensor | {"parameters": {"binary_data_size": len(binary)}}, binary
