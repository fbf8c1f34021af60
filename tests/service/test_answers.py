from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter

from service import answers, schemas


def members(schema: type[Any]) -> set[str]:
    return set(TypeAdapter(schema).json_schema()["properties"])


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (answers.Prediction, schemas.PredictResponse),
        (answers.Character, schemas.Character),
        (answers.RunnerUp, schemas.RunnerUp),
        (answers.Alternative, schemas.Alternative),
        (answers.Explanation, schemas.ExplainResponse),
        (answers.Model, schemas.Model),
        (answers.ModelEntry, schemas.ModelEntry),
    ],
)
def test_the_client_knows_all_that_the_service_answers(answer: type, schema: type) -> None:
    assert {field.name for field in fields(answer)} == members(schema)
