import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.service.conftest import SHA256, StandIn, app_of


def events(response: TestResponse) -> list[tuple[str, Any]]:
    """The events of a stream: (name, data)."""
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    *blocks, rest = response.text.split("\n\n")
    assert rest == ""
    fields = [tuple(line.split(": ", 1)[1] for line in block.split("\n")) for block in blocks]
    return [(name, json.loads(data)) for name, data in fields]


def test_each_character_is_an_event_and_the_last_is_done(client: FlaskClient) -> None:
    *characters, done = events(client.post("/predict/stream", json={"query": " 12 + 3"}))
    prediction = client.post("/predict", json={"query": "12+3", "characters": True}).get_json()
    assert characters == [("character", character) for character in prediction["characters"]]
    assert [data["character"] for _, data in characters] == ["1", "2", ""]
    model = {"name": "adder", "version": 1, "sha256": SHA256}
    assert done == ("done", {"query": "12+3", "answer": "12", "confidence": 0.125, "model": model})


def test_a_stream_by_get_has_the_same_events(client: FlaskClient) -> None:
    arguments = {"query": "12+3", "model": "adder", "version": "1"}
    assert events(client.get("/predict/stream", query_string=arguments)) == events(
        client.post("/predict/stream", json={"query": "12+3"})
    )


@pytest.mark.parametrize(
    ("arguments", "status", "detail"),
    [
        ({}, 422, "#/query: Field required"),
        ({"query": "1 2"}, 422, "#/query: '1 2' is not a query: write two whole numbers with one '+' between them"),
        ({"query": "1+2", "version": "x"}, 422, "#/version: Input should be a valid integer"),
        ({"query": "1+2", "version": "9" * 5000}, 422, "#/version: Input should be a valid integer"),
        ({"query": "1+2", "characters": "true"}, 422, "#/characters: it is not a field: they are model, version, "),
        ({"query": "1+2", "version": "7"}, 404, "no model 'adder' with version 7 exists"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_a_problem(
    client: FlaskClient, arguments: dict[str, str], status: int, detail: str
) -> None:
    response = client.get("/predict/stream", query_string=arguments)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert detail in response.get_json(force=True)["detail"]


@pytest.mark.parametrize("failing_step", [0, 1])
def test_a_failed_step_is_reported_when_it_fails(tmp_path: Path, failing_step: int) -> None:
    class Failing(StandIn):
        def decode(self, query: str) -> Iterator[npt.NDArray[np.float32]]:
            for step, probabilities in enumerate(super().decode(query)):
                if step == failing_step:
                    raise RuntimeError(query)
                yield probabilities

    response = app_of(Failing(), tmp_path).test_client().post("/predict/stream", json={"query": "1+2"})
    if failing_step == 0:
        assert (response.status_code, response.get_json(force=True)["type"]) == (500, "/problems/inference-failed")
    else:
        assert [name for name, _ in events(response)] == ["character", "problem"]
