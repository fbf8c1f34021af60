import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import Failing, app_of


def answered(client: FlaskClient, body: bytes, **more: Any) -> list[Any]:
    response = client.post("/predict/batch", data=body, content_type="application/x-ndjson", **more)
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    assert response.text.endswith("\n") or not response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_each_line_is_answered_as_a_request_of_its_own(client: FlaskClient) -> None:
    lines = [
        {"query": "1+2"},
        {"query": " 3 + 4", "alternatives": 1, "min_confidence": 0.9},
        {"query": "5+6", "version": 1},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert answered(client, body) == [client.post("/predict", json=line).get_json() for line in lines]


def test_a_bad_line_has_its_problem_in_its_place(client: FlaskClient) -> None:
    first, *problems, last = answered(
        client,
        b"""{"query":"1+2"}
x
{"query":"1+2+3"}
{"query":"1+2","model":"none"}
["1+2"]
{"query":"3+4"}
""",
    )
    assert [first["answer"], last["answer"]] == ["1", "3"]
    assert [problem["type"].removeprefix("/problems/") for problem in problems] == [
        "unreadable", "invalid", "model-not-found", "invalid",
    ]  # fmt: skip
    assert problems[1]["errors"][0]["pointer"] == "#/query"


def test_empty_lines_are_none(client: FlaskClient) -> None:
    assert len(answered(client, b'\n\n{"query":"1+2"}\r\n  \n{"query":"1+2"}\n\n')) == 2
    assert answered(client, b"") == []


def test_a_failed_call_is_a_problem_of_its_lines(tmp_path: Path) -> None:
    lines = answered(app_of(Failing(), tmp_path).test_client(), b'{"query":"1+2"}\n' * 3)
    assert [line["type"] for line in lines] == ["/problems/inference-failed"] * 3


def test_a_service_that_has_loaded_nothing_is_not_ready_for_lines_either(tmp_path: Path) -> None:
    client = create_app(Settings(artifacts=tmp_path)).test_client()
    response = client.post("/predict/batch", data=b'{"query":"1+2"}', content_type="application/x-ndjson")
    assert (response.status_code, response.mimetype) == (503, "application/problem+json")


def test_a_body_that_ends_early_is_told_after_what_came(client: FlaskClient) -> None:
    *answers, problem = answered(client, b'{"query":"1+2"}\n{"query":', environ_overrides={"CONTENT_LENGTH": "100"})
    assert [answer["answer"] for answer in answers] == ["1"]
    assert (problem["type"], problem["detail"][:22]) == ("/problems/incomplete", "the body has 25 bytes,")


def test_a_line_has_a_limit(client: FlaskClient) -> None:
    body = b'{"query":"1+2"}\n' + b" " * 200_000 + b'{"query":"1+2"}\n'
    *answers, problem = answered(client, body)
    assert [answer["answer"] for answer in answers] == ["1"]
    assert (problem["type"], problem["detail"]) == ("/problems/unreadable", "a line has more than 1000 bytes")


class Endless:
    """A body that is asked for no more than is wanted."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return b'{"query":"1+2"}\n' * (size // 16)


def test_no_more_is_read_than_was_answered(client: FlaskClient) -> None:
    body = Endless()
    response = client.post(
        "/predict/batch", content_type="application/x-ndjson", environ_overrides={"wsgi.input": body}, buffered=False
    )
    blocks = iter(response.iter_encoded())
    for number in range(1, 3):
        assert [next(blocks).count(b"\n") for _ in range(64)] == [64] * 64
        assert body.given == number * 65_536
    response.close()


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"Request-Timeout": "soon"}, 400, "/problems/bad-header"),
        ({"Content-Encoding": "gzip"}, 415, "/problems/wrong-content-encoding"),
    ],
)
def test_a_bad_header_is_told_once(client: FlaskClient, headers: dict[str, str], status: int, problem: str) -> None:
    response = client.post("/predict/batch", data=b"x", content_type="application/x-ndjson", headers=headers)
    assert (response.status_code, response.get_json(force=True)["type"]) == (status, problem)


@given(st.lists(st.binary(max_size=40), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_that_is_not_empty_is_answered(client: FlaskClient, lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    assert len(answered(client, body)) == sum(bool(line.strip()) for line in body.split(b"\n"))


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537])
def test_a_line_may_lie_across_two_reads(client: FlaskClient, length: int) -> None:
    lines = [b'{"query":"%d+1"}' % (number % 1000) for number in range(length // 15)]
    answers = answered(client, b"\n".join(lines))
    assert [answer["answer"] for answer in answers] == [str(number % 1000) for number in range(len(lines))]
