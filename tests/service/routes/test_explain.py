from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from service.models.engines.model_output import ModelOutput
from tests.service.conftest import SHA256, TASK, StandIn, app_of


class Copying(StandIn):
    """Answers with the first two characters of the query, each with probability 0.8, or 0.1 if it is hidden."""

    def answer(self, query: str) -> ModelOutput:
        probabilities = np.zeros((4, 12), np.float32)
        for place, character in enumerate(query[:2]):
            probabilities[place, TASK.alphabet.index(character)] = 0.8
            if character == " ":
                probabilities[place] = 0.1
        probabilities[2:, TASK.alphabet.index(" ")] = 1
        return ModelOutput(query[:2], 0.64, probabilities)


def test_the_matrix_has_the_falls_of_the_probabilities(tmp_path: Path) -> None:
    response = app_of(Copying(), tmp_path).test_client().post("/explain", json={"query": "12+3"})
    explanation = response.get_json()
    matrix = explanation.pop("matrix")
    assert np.array(matrix) == pytest.approx(np.array([[0.7, 0, 0], [0, 0.7, 0], [0, 0, 0], [0, 0, 0]]))
    assert explanation == {
        "query": "12+3",
        "answer": "12",
        "confidence": 0.64,
        "hidden": ["1", "2", "+", "3"],
        "characters": ["1", "2", ""],
        "model": {"name": "adder", "version": 1, "sha256": SHA256},
    }


def test_the_layers_are_split_into_what_is_repeated_and_what_changes(client: FlaskClient) -> None:
    explanation = client.post("/explain", json={"query": "12+3", "layers": True}).get_json()
    layers = explanation["layers"]
    assert explanation["characters"] == ["1", "2", ""]
    assert layers["alphabet"] == [*"0123456789+", ""]
    assert (layers["repeated"], layers["states"]) == ([4], [[1], [2], [3]])
    assert [max(row) for row in layers["probabilities"]] == [0.5, 0.5, 0.5]
    assert [len(row) for row in layers["probabilities"]] == [12, 12, 12]


def test_an_invalid_query_is_refused(client: FlaskClient) -> None:
    problem = client.post("/explain", json={"query": "1"}).get_json(force=True)
    assert (problem["status"], problem["example"]) == (422, {"query": "123+456"})
