"""Reads the inputs of a request with the rules and error messages of TensorFlow Serving (its util/json_tensor.cc)."""

import binascii
import json
from itertools import islice
from typing import Any

from service.errors import InvalidArgument, Unreadable
from service.rest.body import load
from service.routes.dialect_inputs import text_of

INPUT, SIGNATURE = "query", "serving_default"


def load_document(body: bytes) -> dict[str, Any]:
    """Parse the body: an object that names no other signature than `serving_default`.

    Raises InvalidArgument, Unreadable or DuplicateKey.
    """
    try:
        document = load(body)
    except Unreadable as problem:
        raise problem.replace(detail=f"JSON Parse error: {problem.detail}") from problem
    if not isinstance(document, dict):
        raise InvalidArgument(f"JSON Value: {_excerpt(document)} Is not object")
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise InvalidArgument(
            f"JSON Value: {_excerpt(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    if signature not in ("", SIGNATURE):
        raise InvalidArgument(f'Serving signature name: "{signature}" not found in signature def')
    return document


def input_texts(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return the queries of a document by "instances" or "inputs". Raises InvalidArgument."""
    if "instances" in document and "inputs" in document:
        raise InvalidArgument(
            f"JSON Value: {_excerpt(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in document:
        return {"instances": _rows(document)}
    if "inputs" in document:
        return {"inputs": _column(document["inputs"])}
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _rows(document: dict[str, Any]) -> list[str]:
    """The text of each instance: all are values, or all are objects with the input by name."""
    instances = document["instances"]
    if not isinstance(instances, list):
        raise InvalidArgument(f"JSON Value: {_excerpt(document)} Expecting 'instances' to be an list/array")
    if not instances:
        raise InvalidArgument(f"JSON Value: {_excerpt(document)} No values in 'instances' array")
    are_objects = _names_inputs(instances[0])
    texts = []
    for index, instance in enumerate(instances):
        if _names_inputs(instance) != are_objects:
            expected = "object but got list" if are_objects else "value/list but got object"
            raise InvalidArgument(f"Expecting {expected} at item {index} of input list")
        failed = f"Failed to process element: {index} of 'instances' list."
        if are_objects and list(instance) != [INPUT]:
            raise InvalidArgument(f"{failed} JSON object: {_excerpt(instance)} keys must be equal to: {INPUT}")
        try:
            texts.append(_text(instance[INPUT] if are_objects else instance))
        except InvalidArgument as problem:
            raise InvalidArgument(f"{failed} Error: INVALID_ARGUMENT: {problem.detail}") from problem
    return texts


def _column(column: Any) -> list[str]:
    """The text of each element of the input, with its name or without."""
    if _names_inputs(column):
        if INPUT not in column:
            raise InvalidArgument(f"Missing named input: {INPUT} in 'inputs' object.")
        column = column[INPUT]
    if not isinstance(column, list):
        raise InvalidArgument(f"Expecting shape [-1] but got: [], by JSON Value: {_excerpt(column)}")
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
        raise InvalidArgument(f"JSON Value: {_excerpt(value)} Type: {kind} is not of expected type: string")
    if _names_inputs(value):
        raise InvalidArgument(f"JSON Value: {_excerpt(value)} not formatted correctly for base64 data")
    encoded: str = value["b64"]
    try:
        padded = encoded.encode() + b"=" * (-len(encoded) % 4)  # the padding may be missing
        return text_of(binascii.a2b_base64(padded, strict_mode=True))
    except ValueError as error:
        raise InvalidArgument("Unable to base64 decode") from error


def _excerpt(value: object) -> str:
    """At most the first 100 characters of the value in JSON. A long or deep value is not encoded to its end."""
    return "".join(islice(json.JSONEncoder().iterencode(value), 30))[:100]
