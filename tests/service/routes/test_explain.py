from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from service.models.engines.model_output import ModelOutput
from tests.service.conftest import METADATA, SHA256, StandIn, app_of


class Reads(StandIn):
    """Each character of the answer is a copy of one of the query, and as likely as 0.8 where that can be read; where it
    is hidden, 0.1."""

    def answer(self, query: str) -> ModelOutput:
        probabilities = np.zeros((4, 12), np.float32)
        for place, character in enumerate(query[:2]):
            probabilities[place, METADATA.alphabet.index(character)] = 0.8
            if character == " ":
                probabilities[place] = 0.1
        probabilities[2:, METADATA.alphabet.index(" ")] = 1
        return ModelOutput(query[:2], 0.64, probabilities)


def test_the_matrix_says_which_character_matters_to_which(tmp_path: Path) -> None:
    response = app_of(Reads(), tmp_path).test_client().post("/explain", json={"query": "12+3"})
    explained = response.get_json()
    matrix = explained.pop("matrix")
    assert np.array(matrix) == pytest.approx(np.array([[0.7, 0, 0], [0, 0.7, 0], [0, 0, 0], [0, 0, 0]]))
    assert explained == {
        "query": "12+3",
        "answer": "12",
        "confidence": 0.64,
        "hidden": ["1", "2", "+", "3"],
        "characters": ["1", "2", " "],
        "model": {"name": "adder", "version": 1, "sha256": SHA256},
    }


def test_a_bad_query_is_refused_as_everywhere(client: FlaskClient) -> None:
    problem = client.post("/explain", json={"query": "1"}).get_json(force=True)
    assert (problem["status"], problem["example"]) == (422, {"query": "123+456"})
