from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter

from service.client import types
from service.rest import schemas


def members(schema: type[Any]) -> set[str]:
    return set(TypeAdapter(schema).json_schema()["properties"])


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (types.Prediction, schemas.PredictResponse),
        (types.Character, schemas.Character),
        (types.RunnerUp, schemas.RunnerUp),
        (types.Alternative, schemas.Alternative),
        (types.Explanation, schemas.ExplainResponse),
        (types.ModelVersion, schemas.ModelVersion),
        (types.ModelEntry, schemas.ModelEntry),
    ],
)
def test_the_client_knows_all_that_the_service_answers(answer: type, schema: type) -> None:
    assert {field.name for field in fields(answer)} == members(schema)
