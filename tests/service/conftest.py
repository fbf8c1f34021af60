"""A stand-in for the network, so that what is around it can be tested without TensorFlow."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.app import create_app
from service.artifact import Artifact, Golden, Metadata, Prediction
from service.settings import Settings

METADATA = Metadata(
    format_version=1,
    name="adder",
    version=1,
    alphabet="0123456789+ ",
    largest_operand=999,
    query_pattern=r"^(0|[1-9][0-9]{0,2})\+(0|[1-9][0-9]{0,2})$",
    query_example="123+456",
    batch_sizes=[1, 8],
    golden=[Golden(query="123+456", answer="579")],
)


class StandIn:
    """Answers a query with its own first character: nobody can take that for a sum, or for another query's answer."""

    metadata = METADATA

    def predict(self, queries: list[str]) -> list[Prediction]:
        return [self.answer(query) for query in queries]

    def answer(self, query: str) -> Prediction:
        probabilities = np.full((4, 12), 0.01, np.float32)
        probabilities[[0, 1, 2, 3], [int(query[0]), 11, 11, 11]] = 0.5
        return Prediction(query[0], 0.25, probabilities)


def app_of(network: Any, tmp_path: Path, **settings: Any) -> Flask:
    """An application that has loaded `network`."""
    (tmp_path / "adder" / "1").mkdir(parents=True)
    app = create_app(Settings(artifacts=tmp_path, **settings), load=lambda _: cast(Artifact, network))
    app.extensions["repository"].load()
    return app


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return app_of(StandIn(), tmp_path, max_batch_queries=10, max_body_bytes=1000).test_client()
