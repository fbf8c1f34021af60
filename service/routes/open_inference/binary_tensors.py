"""Reads and writes JSON followed by binary tensors (Triton's docs/protocol/extension_binary_data.md)."""

import re
from typing import Any

import numpy as np
from flask import Response
from pydantic_core import to_json

from service.errors import BadHeader, FieldError, Invalid
from service.models.artifact import Artifact
from service.models.engines.model_output import ModelOutput
from service.rest.body import load
from service.rest.media_types import JSON
from service.routes.dialect_inputs import text_of
from service.routes.open_inference.schemas import InferRequest, RequestedOutput

JSON_LENGTH = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"


def load_document(body: bytes, json_length: str | None) -> Any:
    """Parse the JSON of a request, and put the binary data that follows it in the place of its input's data.

    `json_length` is the header JSON_LENGTH. A body without JSON is one query, answered in binary. Raises BadHeader,
    Invalid, Unreadable or DuplicateKey.
    """
    if json_length is None:
        json_length = str(len(body))
    elif not re.fullmatch("[0-9]{1,18}", json_length) or int(json_length) > len(body):
        rule = f"send the length of the JSON, at most the {len(body)} bytes of the body"
        raise BadHeader(JSON_LENGTH, json_length, rule)
    elif int(json_length) == 0:
        query = {"name": "query", "datatype": "BYTES", "shape": [1], "data": [text_of(body)]}
        return {"inputs": [query], "parameters": {"binary_data_output": True}}
    document, binary = load(body[: int(json_length)]), body[int(json_length) :]
    following = f"{len(binary)} bytes follow the JSON, and"
    match document:
        case {"inputs": [{"parameters": {"binary_data_size": announced}} as tensor]}:
            if "data" in tensor:
                raise _invalid("/data", "the data is in binary too: send one of them, or leave binary_data_size out")
            if announced != len(binary):
                raise _invalid("/parameters/binary_data_size", f"{following} binary_data_size is {announced}")
            tensor["data"] = _elements(binary)
        case _ if binary:
            raise _invalid("/parameters/binary_data_size", f"{following} binary_data_size is missing")
    return document


def _elements(binary: bytes) -> list[str]:
    """Parse BYTES elements: each follows its length in four bytes, little-endian. Raises Invalid."""
    texts: list[str] = []
    start = 0
    while start < len(binary):
        begin = start + 4
        if begin > len(binary):
            rest = len(binary) - start
            raise _invalid("/data", f"element {len(texts)} in binary ends after {rest} of 4 bytes of its length")
        length = int.from_bytes(binary[start:begin], "little")
        start = begin + length
        if start > len(binary):
            rest = len(binary) - begin
            raise _invalid("/data", f"element {len(texts)} in binary has {rest} of its {length} bytes")
        texts.append(text_of(binary[begin:start]))
    return texts


def _invalid(field: str, detail: str) -> Invalid:
    return Invalid([FieldError(pointer=f"#/inputs/0{field}", detail=detail)], 1)


def build_response(body: InferRequest, request_id: str, artifact: Artifact, outputs: list[ModelOutput]) -> Response:
    """Build the response with the outputs that the request names, by default all; binary outputs follow the JSON."""
    tensors = []
    for output in body.outputs or [
        RequestedOutput(name="answer"),
        RequestedOutput(name="confidence"),
        RequestedOutput(name="probabilities"),
    ]:
        in_binary = output.parameters.binary_data
        tensors.append(
            _tensor(
                output.name,
                [getattr(each, output.name) for each in outputs],
                body.parameters.binary_data_output if in_binary is None else in_binary,
            )
        )
    document = {
        "model_name": artifact.metadata.name,
        "model_version": str(artifact.metadata.version),
        "id": body.id or request_id,
        "outputs": [tensor for tensor, _ in tensors],
    }
    head, binary = to_json(document), b"".join(binary for _, binary in tensors)
    if not binary:
        return Response(head, mimetype=JSON)
    return Response(head + binary, mimetype=BINARY, headers={JSON_LENGTH: str(len(head))})


def _tensor(name: str, values: list[Any], in_binary: bool) -> tuple[dict[str, Any], bytes]:
    """An output in JSON, and its binary data, which is empty unless `in_binary`."""
    array = np.array(values, object if name == "answer" else "<f4")
    tensor = {"name": name, "datatype": "BYTES" if name == "answer" else "FP32", "shape": list(array.shape)}
    if not in_binary:
        return tensor | {"data": array.ravel().tolist()}, b""
    if name == "answer":
        binary = b"".join(len(value).to_bytes(4, "little") + value.encode("ascii") for value in values)
    else:
        binary = array.tobytes()
    return tensor | {"parameters": {"binary_data_size": len(binary)}}, binary
