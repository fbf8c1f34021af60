import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.service.conftest import Failing, app_of
from tests.service.rest.gated_model import PLACES, GatedModel, fill_queue, start_leader, statuses


def answer(client: FlaskClient, body: bytes, **options: Any) -> list[Any]:
    """The lines of the response to a body of lines."""
    response = client.post("/predict/batch", data=body, content_type="application/x-ndjson", **options)
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    assert response.text.endswith("\n") or not response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_line_has_the_response_of_post_predict(client: FlaskClient) -> None:
    lines = [
        {"query": "1+2"},
        {"query": " 3 + 4", "alternatives": 1, "min_confidence": 0.9},
        {"query": "5+6", "version": 1},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert answer(client, body) == [client.post("/predict", json=line).get_json() for line in lines]


def test_an_invalid_line_has_its_problem_in_its_place(client: FlaskClient) -> None:
    first, *problems, last = answer(
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
    assert [problem["line"] for problem in problems] == [2, 3, 4, 5]
    assert problems[0]["detail"] == "Expecting value, at column 1"


def test_blank_lines_are_counted_and_skipped(client: FlaskClient) -> None:
    first, second = answer(client, b"\n\nx\n  \ny")
    assert (first["line"], second["line"]) == (3, 5)
    assert len(answer(client, b'\n\n{"query":"1+2"}\r\n  \n{"query":"1+2"}\n\n')) == 2
    assert answer(client, b"") == []


def test_a_failed_call_is_a_problem_of_each_line(tmp_path: Path) -> None:
    lines = answer(app_of(Failing(), tmp_path).test_client(), b'{"query":"1+2"}\n' * 3)
    assert [line["type"] for line in lines] == ["/problems/inference-failed"] * 3


def test_without_a_model_the_status_is_503(broken_client: FlaskClient) -> None:
    response = broken_client.post("/predict/batch", data=b'{"query":"1+2"}', content_type="application/x-ndjson")
    assert (response.status_code, response.mimetype) == (503, "application/problem+json")


def test_an_incomplete_body_is_reported_after_its_lines(client: FlaskClient) -> None:
    *answers, problem = answer(client, b'{"query":"1+2"}\n{"query":', environ_overrides={"CONTENT_LENGTH": "100"})
    assert [answer["answer"] for answer in answers] == ["1"]
    assert (problem["type"], problem["detail"][:22]) == ("/problems/incomplete", "the body has 25 bytes,")
    assert problem["line"] == 2


def test_a_line_that_is_too_long_is_reported(client: FlaskClient) -> None:
    body = b'{"query":"1+2"}\n' + b" " * 200_000 + b'{"query":"1+2"}\n'
    before, problem, after = answer(client, body + b'{"query":"3+4"}')
    assert (before["answer"], after["answer"]) == ("1", "3")
    assert (problem["type"], problem["line"]) == ("/problems/unreadable", 2)
    assert problem["detail"] == "the line has more than 1000 bytes, the limit of a body"


def test_a_file_in_utf_16_has_one_problem(client: FlaskClient) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32-le"):
        for start in ("", " "):
            [problem] = answer(client, (start + '{"query":"1+2"}\r\n' * 3).encode(encoding))
            assert problem["detail"] == f"the body looks like {encoding[:6].upper()}: send it in UTF-8"
            assert problem["line"] == 1


@pytest.mark.parametrize("start", ["", "\n", " \n\n"])
def test_a_byte_order_mark_before_the_lines_is_ignored(client: FlaskClient, start: str) -> None:
    body = (start + '{"query":"1+2"}\n' * 2).encode("utf-8-sig")
    assert [line["answer"] for line in answer(client, body)] == ["1", "1"]
    assert answer(client, start.encode("utf-8-sig")) == []


@pytest.mark.parametrize("media", ["application/ndjson", "application/jsonl", "application/x-jsonlines"])
def test_other_names_of_the_media_type_are_known(client: FlaskClient, media: str) -> None:
    response = client.post("/predict/batch", data=b'{"query":"1+2"}\n', content_type=media)
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.text.count("\n") == 1


class EndlessBody:
    """A body without an end, which counts the bytes that are read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        self.read_bytes += size
        return b'{"query":"1+2"}\n' * (size // 16)


def test_lines_are_read_as_their_responses_are_sent(client: FlaskClient) -> None:
    body = EndlessBody()
    response = client.post(
        "/predict/batch", content_type="application/x-ndjson", environ_overrides={"wsgi.input": body}, buffered=False
    )
    blocks = iter(response.iter_encoded())
    for number in range(1, 3):
        assert [next(blocks).count(b"\n") for _ in range(64)] == [64] * 64
        assert body.read_bytes == number * 65_536
    response.close()


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"Request-Timeout": "soon"}, 400, "/problems/bad-header"),
        ({"Content-Encoding": "gzip"}, 415, "/problems/wrong-content-encoding"),
    ],
)
def test_a_bad_header_is_reported_once(client: FlaskClient, headers: dict[str, str], status: int, problem: str) -> None:
    response = client.post("/predict/batch", data=b"x", content_type="application/x-ndjson", headers=headers)
    assert (response.status_code, response.get_json(force=True)["type"]) == (status, problem)


def test_a_full_queue_is_reported_in_each_line(tmp_path: Path) -> None:
    model = GatedModel()
    app = app_of(model, tmp_path, max_batch_queries=1, max_queued_queries=PLACES)
    admitted = [start_leader(app, model), *fill_queue(app)]
    lines = answer(app.test_client(), b'{"query":"1+2"}\n{"query":"3+4","alternatives":2}\n')
    model.open()
    assert [line["type"] for line in lines] == ["/problems/queue-full"] * 2
    assert statuses(admitted) == [200] * len(admitted)


def test_alternatives_of_an_admitted_block_are_answered(tmp_path: Path) -> None:
    model = GatedModel()
    app = app_of(model, tmp_path, max_batch_queries=1, max_queued_queries=PLACES)
    body = b'{"query":"1+2"}\n{"query":"3+4","alternatives":2}\n{"query":"5+6"}\n'
    leader = start_leader(app, model, path="/predict/batch", data=body, content_type="application/x-ndjson")
    waiting = fill_queue(app)
    model.open()
    lines = [json.loads(line) for line in leader.get(timeout=10).text.splitlines()]
    assert [line["answer"] for line in lines] == ["1", "3", "5"]
    assert len(lines[1]["alternatives"]) == 2
    assert statuses(waiting) == [200] * PLACES


def test_a_deadline_is_reported_in_each_line(client: FlaskClient) -> None:
    body = b'{"query":"1+2"}\n{"query":"3+4","alternatives":2}\n'
    lines = answer(client, body, headers={"Request-Timeout": "1e-9"})
    assert [line["type"] for line in lines] == ["/problems/deadline-exceeded"] * 2


@given(st.lists(st.binary(max_size=40), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_that_is_not_blank_is_answered(client: FlaskClient, lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    assume(b"\0" not in body)  # may look like UTF-16, which has one problem for all
    assume(not body.lstrip().startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)))
    assert len(answer(client, body)) == sum(bool(line.strip()) for line in body.split(b"\n"))


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537])
def test_a_line_may_span_two_reads(client: FlaskClient, length: int) -> None:
    lines = [b'{"query":"%d+1"}' % (number % 1000) for number in range(length // 15)]
    answers = answer(client, b"\n".join(lines))
    assert [answer["answer"] for answer in answers] == [str(number % 1000) for number in range(len(lines))]
