"""Other requests run while a request with many queries is read, validated and answered."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.models import event_loop
from tests.service.conftest import StandIn, app_of, polls_during

COUNT = 300
GOOD, BAD = ["1+2"] * COUNT, ["x"] * COUNT
TENSOR = {"name": "query", "shape": [COUNT], "datatype": "BYTES"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A client of an application in which each piece of work has taken too long."""
    monkeypatch.setattr(event_loop, "PIECE_SECONDS", -math.inf)
    monkeypatch.setattr(event_loop, "PIECE_ITEMS", 1)
    return app_of(StandIn(), tmp_path).test_client()


@pytest.mark.parametrize(
    ("path", "body", "polls"),
    [
        ("/predict/batch", {"queries": GOOD}, 2 * COUNT),  # validated and answered
        ("/predict/batch", {"queries": GOOD, "characters": True}, 2 * COUNT),
        ("/predict/batch", {"queries": BAD}, 2 * COUNT),  # validated and reported
        ("/predict/batch", {"queries": BAD, "on_error": "report"}, 2 * COUNT),
        ("/v1/models/adder:predict", {"instances": GOOD}, 2 * COUNT),
        ("/v1/models/adder:predict", {"inputs": BAD}, 2 * COUNT),
        ("/v2/models/adder/infer", {"inputs": [TENSOR | {"data": GOOD}]}, COUNT),
    ],
)
def test_others_run_between_two_queries(client: FlaskClient, path: str, body: Any, polls: int) -> None:
    assert polls_during(lambda: client.post(path, json=body)) >= polls


@pytest.mark.parametrize(("line", "polls"), [('{"query":"1+2"}', 3 * COUNT), ("x", 3 * COUNT), ("", COUNT)])
def test_others_run_between_two_lines(client: FlaskClient, line: str, polls: int) -> None:
    def send() -> None:
        client.post("/predict/batch", data=f"{line}\n" * COUNT, content_type="application/x-ndjson")

    assert polls_during(send) >= polls  # each is read, parsed and answered


class SmallPieces:
    """A body that arrives byte by byte."""

    def __init__(self, body: str) -> None:
        self._rest = iter(body.encode())

    def read(self, _size: int = -1) -> bytes:
        return bytes(islice(self._rest, 1))


@pytest.mark.parametrize(
    ("path", "content_type"), [("/predict", "application/json"), ("/predict/batch", "application/x-ndjson")]
)
def test_others_run_while_a_body_arrives_in_small_pieces(client: FlaskClient, path: str, content_type: str) -> None:
    body = json.dumps({"query": "1+2"}) + " " * 1000
    environ = {"wsgi.input": SmallPieces(body)}

    def send() -> None:
        response = client.post(path, content_type=content_type, environ_overrides=environ)
        assert '"answer":"1"' in response.text

    assert polls_during(send) >= len(body) // 64


def test_a_list_of_empty_arrays_is_refused_before_it_is_parsed(client: FlaskClient) -> None:
    body = '{"queries":[' + "[]," * 100_000 + "[]]}"
    refused = client.post("/predict/batch", data=body, content_type="application/json")
    assert refused.status_code == 400
    assert "the body has 100003 arrays and objects, far more than a request of its length" in refused.text
