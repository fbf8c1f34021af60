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
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    *each, end = response.text.split("\n\n")
    assert end == ""
    named = [tuple(line.split(": ", 1)[1] for line in event.split("\n")) for event in each]
    return [(name, json.loads(body)) for name, body in named]


def test_each_character_is_an_event_and_the_answer_the_last(client: FlaskClient) -> None:
    *characters, done = events(client.post("/predict/stream", json={"query": " 12 + 3"}))
    [asked] = client.post("/predict/batch", json={"queries": ["12+3"], "characters": True}).get_json()["predictions"]
    assert characters == [("character", character) for character in asked["characters"]]
    assert [body["character"] for _, body in characters] == ["1", "2", " "]
    model = {"name": "adder", "version": 1, "sha256": SHA256}
    assert done == ("done", {"query": "12+3", "answer": "12", "confidence": 0.125, "model": model})


def test_a_browser_asks_by_get(client: FlaskClient) -> None:
    asked = {"query": "12+3", "model": "adder", "version": "1"}
    by_get = events(client.get("/predict/stream", query_string=asked))
    assert by_get == events(client.post("/predict/stream", json={"query": "12+3"}))


@pytest.mark.parametrize(
    ("asked", "status", "detail"),
    [
        ({}, 422, "#/query: Field required"),
        ({"query": "1 2"}, 422, "#/query: '1 2' is not a query: write two whole numbers with one '+' between, like"),
        ({"query": "1+2", "version": "x"}, 422, "#/version: Input should be a valid integer"),
        ({"query": "1+2", "version": "9" * 5000}, 422, "#/version: Input should be a valid integer"),
        ({"query": "1+2", "characters": "true"}, 422, "#/characters: Extra inputs are not permitted"),
        ({"query": "1+2", "version": "7"}, 404, "no model 'adder' with version 7 exists"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_problem_and_no_stream(
    client: FlaskClient, asked: dict[str, str], status: int, detail: str
) -> None:
    response = client.get("/predict/stream", query_string=asked)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert detail in response.get_json(force=True)["detail"]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_is_told_when_it_comes(tmp_path: Path, failing: int) -> None:
    class Fails(StandIn):
        def decode(self, query: str) -> Iterator[npt.NDArray[np.float32]]:
            for place, probabilities in enumerate(super().decode(query)):
                if place == failing:
                    raise RuntimeError(query)
                yield probabilities

    response = app_of(Fails(), tmp_path).test_client().post("/predict/stream", json={"query": "1+2"})
    if failing == 0:
        assert (response.status_code, response.get_json(force=True)["type"]) == (500, "/problems/inference-failed")
    else:
        assert [name for name, _ in events(response)] == ["character", "problem"]
