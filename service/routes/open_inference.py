"""The Open Inference Protocol V2 (its specification/protocol/inference_rest.md), with tensors in JSON, or in binary as
Triton's extension has them (its docs/protocol/extension_binary_data.md): /v2/..."""

import re
from typing import Any

import numpy as np
from flask import Blueprint, Response, g, jsonify, request
from pydantic_core import to_json

from service.errors import BadHeader, BrokenArtifact, FieldError, Invalid, InvalidArgument
from service.models.artifact import Artifact, Prediction
from service.models.repository import Repository, Served
from service.openapi.operations import ASKING, FINDING, READING, described
from service.rest.body import load, receive, validate
from service.rest.inference import ask
from service.rest.media_types import JSON
from service.routes.tensor_schemas import (
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerModels,
    ServerReady,
    TensorMetadata,
    WantedOutput,
)
from service.routes.tensors import text_of, version_number
from service.settings import Settings

JSON_LENGTH = "Inference-Header-Content-Length"
LENGTH = {
    "description": "How many bytes of the body are JSON; what follows is in binary.",
    "schema": {"type": "integer"},
}
BINARY = "application/octet-stream"
DATATYPES = {"DT_STRING": "BYTES", "DT_FLOAT": "FP32"}


def open_inference_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The server, its models, and inference by those that `repository` serves."""
    routes = Blueprint("open_inference", __name__, url_prefix="/v2")

    def find(model: str, version: str | None) -> Served:
        return repository.find(model, version_number(version))

    @routes.get("")
    @described("Tell what serves", ServerMetadata)
    def server() -> Response:
        return jsonify(ServerMetadata(name="neural-adder", version="unreleased", extensions=["binary_tensor_data"]))

    @routes.get("/health/live")
    @described("Tell that this worker runs", ServerLive)
    def live() -> Response:
        return jsonify(ServerLive(live=True))

    @routes.get("/health/ready")
    @described("Tell that this worker can answer", ServerReady, problems=(BrokenArtifact,))
    def ready() -> Response:
        repository.find()
        return jsonify(ServerReady(ready=True))

    @routes.get("/models")
    @described("List the models", ServerModels, problems=(BrokenArtifact,))
    def models() -> Response:
        names = dict.fromkeys(each.metadata.name for each in repository.all())
        return jsonify(ServerModels(models=list(names)))

    @routes.post("/repository/index")
    @described("List the versions of all models", list[IndexEntry], problems=(BrokenArtifact,))
    def index() -> Response:
        there = [each.metadata for each in repository.all()]
        return jsonify(
            [IndexEntry(name=each.name, version=str(each.version), state="READY", reason="") for each in there]
        )

    @routes.get("/models/<model>")
    @routes.get("/models/<model>/versions/<version>")
    @described("Tell what a model takes and gives", ModelMetadata, problems=(InvalidArgument, *FINDING))
    def model_metadata(model: str, version: str | None = None) -> Response:
        signature = find(model, version).artifact.signature_def
        metadata = ModelMetadata(
            name=model,
            versions=[str(each.metadata.version) for each in repository.all() if each.metadata.name == model],
            platform="tensorflow_savedmodel",
            inputs=_tensors(signature["inputs"]),
            outputs=_tensors(signature["outputs"]),
        )
        return jsonify(metadata)

    @routes.get("/models/<model>/ready")
    @routes.get("/models/<model>/versions/<version>/ready")
    @described("Tell that a version can answer", ModelReady, problems=(InvalidArgument, *FINDING))
    def model_ready(model: str, version: str | None = None) -> Response:
        find(model, version)
        return jsonify(ModelReady(name=model, ready=True))

    @routes.post("/models/<model>/infer")
    @routes.post("/models/<model>/versions/<version>/infer")
    @described(
        "Answer queries",
        {JSON: InferResponse, BINARY: bytes},
        {JSON: InferRequest, BINARY: bytes},
        headers={JSON_LENGTH: LENGTH},
        problems=(InvalidArgument, *READING, *ASKING),
    )
    def infer(model: str, version: str | None = None) -> Response:
        """Outputs that are wanted in binary follow the JSON, as Triton's binary tensor extension has it."""
        served = find(model, version)
        document = _document(receive(request, settings.max_body_bytes), request.headers.get(JSON_LENGTH))
        asked = validate(document, InferRequest, served.limits)
        return _answer(asked, served.artifact, ask(served, asked.inputs[0].data))

    return routes


def _tensors(tensors: dict[str, Any]) -> list[TensorMetadata]:
    return [
        TensorMetadata(
            name=name,
            datatype=DATATYPES[tensor["dtype"]],
            shape=[int(dimension["size"]) for dimension in tensor["tensor_shape"]["dim"]],
        )
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


def _answer(asked: InferRequest, artifact: Artifact, predictions: list[Prediction]) -> Response:
    """The outputs that are asked for, by default all; those that are wanted in binary follow the JSON."""
    tensors = []
    for output in asked.outputs or [
        WantedOutput(name="answer"),
        WantedOutput(name="confidence"),
        WantedOutput(name="probabilities"),
    ]:
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
        return Response(head, mimetype=JSON)
    return Response(head + binary, mimetype=BINARY, headers={JSON_LENGTH: str(len(head))})


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
