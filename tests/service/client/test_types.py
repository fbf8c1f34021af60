from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from service import errors
from service.client import types
from service.client.client import BatchOptions, PredictOptions
from service.rest import schemas


def fields(schema: type[Any]) -> dict[str, Any]:
    """The JSON types of the fields, by name; of an array, the types of its items too."""
    json_schema = TypeAdapter(schema).json_schema()
    return {name: json_types(field, json_schema) for name, field in json_schema["properties"].items()}


def json_types(field: dict[str, Any], schema: dict[str, Any]) -> Any:
    if "anyOf" in field:
        return [json_types(each, schema) for each in field["anyOf"]]
    if "$ref" in field:
        return json_types(schema["$defs"][field["$ref"].removeprefix("#/$defs/")], schema)
    return [field["type"], json_types(field["items"], schema)] if "items" in field else field["type"]


@pytest.mark.parametrize(
    ("client_type", "schema"),
    [
        (types.Prediction, schemas.PredictResponse),
        (types.Character, schemas.Character),
        (types.RunnerUp, schemas.RunnerUp),
        (types.Alternative, schemas.Alternative),
        (types.Explanation, schemas.ExplainResponse),
        (types.Layers, schemas.Layers),
        (types.ModelVersion, schemas.ModelVersion),
        (types.ModelEntry, schemas.ModelEntry),
        (types.Problem, errors.ProblemDocument),
        (types.FieldError, errors.FieldError),
    ],
)
def test_client_types_have_the_fields_of_the_schemas(client_type: type, schema: type) -> None:
    client_fields, schema_fields = fields(client_type), fields(schema)
    if client_type is types.Problem:  # these are absent from the document, and None in the client
        schema_fields |= {name: [schema_fields[name], "null"] for name in ("example", "line")}
    assert client_fields == schema_fields


@pytest.mark.parametrize(
    ("options", "schema", "not_options"),
    [
        (PredictOptions, schemas.PredictRequest, {"query"}),
        (BatchOptions, schemas.BatchRequest, {"queries", "on_error"}),
    ],
)
def test_client_options_are_those_of_the_schemas(options: type, schema: type[BaseModel], not_options: set[str]) -> None:
    assert set(get_type_hints(options)) == set(schema.model_fields) - not_options
