import gzip
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.service.conftest import StandIn, app_of


def refusal(client: FlaskClient, body: bytes, **options: Any) -> tuple[int, str, str]:
    """The status, type and detail of the problem of a body."""
    response = client.post("/predict", data=body, **{"content_type": "application/json", **options})
    problem = response.get_json(force=True)
    assert response.mimetype == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["example"] == {"query": "123+456"}
    return problem["status"], problem["type"], problem["detail"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "Expecting property name enclosed in double quotes, at column 2"),
        (b"{'query': '1+1'}", "JSON requires double quotes, and at column 2 is a single one"),
        (b"{\"query\": '1+1'}", "JSON requires double quotes, and at column 11 is a single one"),
        (b'{"query": "1+1",\n}', "Expecting property name enclosed in double quotes, at line 2 column 1"),
        (
            b'{"query": "1+1"}{"query": "2+2"}',  # what curl -d makes of a file of lines
            "Extra data, at column 17: for more than one object, send lines to /predict/batch as application/x-ndjson",
        ),
        (b'{"query": NaN}', "NaN is not JSON (RFC 8259 section 6)"),
        (b'{"query": "\xff"}', "the byte at 11 is not UTF-8"),
        ('{"query": "1+1"}'.encode("utf-16"), "the body looks like UTF-16: send it in UTF-8"),
        ('{"query": "1+1"}'.encode("utf-16-le"), "the body looks like UTF-16: send it in UTF-8"),
    ],
)
def test_a_body_that_is_not_json_is_refused(client: FlaskClient, body: bytes, detail: str) -> None:
    status, problem, message = refusal(client, body)
    assert (status, problem) == (400, "/problems/unreadable")
    assert message.startswith(detail)


@pytest.mark.parametrize("body", [b"", b" \n"])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", ""])
def test_an_empty_body_is_refused_with_a_command(client: FlaskClient, body: bytes, content_type: str) -> None:
    if body and content_type != "application/json":
        return  # the content type is refused
    assert refusal(client, body, content_type=content_type) == (
        400,
        "/problems/empty-body",
        "the body is empty: send a JSON object, as by "
        "curl http://localhost/predict -H 'content-type: application/json' "
        '-d \'{"query":"123+456"}\'',
    )


def test_a_byte_order_mark_is_ignored(client: FlaskClient) -> None:
    body = '{"query": "1+1"}'.encode("utf-8-sig")
    assert client.post("/predict", data=body, content_type="application/json").get_json()["answer"] == "1"


def test_json_with_too_many_levels_is_refused(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path).test_client()
    assert refusal(client, b"[" * 100_000) == (400, "/problems/unreadable", "arrays or objects are nested too deep")


def test_a_number_with_too_many_digits_is_refused(tmp_path: Path) -> None:
    status, problem, detail = refusal(app_of(StandIn(), tmp_path).test_client(), b'{"query": ' + b"9" * 5000 + b"}")
    assert (status, problem) == (400, "/problems/unreadable")
    assert detail == "a number has more digits than can be read"


def test_a_duplicate_key_is_refused(client: FlaskClient) -> None:
    status, problem, detail = refusal(client, b'{"query": "1+1", "query": "2+2"}')
    assert (status, problem) == (400, "/problems/duplicate-key")
    assert detail == "the key 'query' appears twice in one object: name each field once"


def test_an_object_with_too_many_keys_is_refused(tmp_path: Path) -> None:
    body = b"{" + b",".join(b'"%d":1' % key for key in range(80_000)) + b"}"
    status, problem, detail = refusal(app_of(StandIn(), tmp_path).test_client(), body)
    assert (status, problem) == (400, "/problems/unreadable")
    assert detail == "an object has 80000 keys, and at most 100 are read"


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-ndjson", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(client: FlaskClient, content_type: str) -> None:
    status, problem, detail = refusal(client, b'{"query": "1+1"}', content_type=content_type)
    assert (status, problem) == (415, "/problems/wrong-content-type")
    assert detail.endswith("or send lines to /predict/batch as application/x-ndjson, by curl with --data-binary")


def test_a_content_type_may_have_a_charset(client: FlaskClient) -> None:
    body, content_type = b'{"query": "1+1"}', "application/json; charset=utf-8"
    assert client.post("/predict", data=body, content_type=content_type).status_code == 200


def test_a_body_above_the_limit_is_refused(client: FlaskClient) -> None:
    status, problem, detail = refusal(client, b" " * 1001)
    assert (status, problem) == (413, "/problems/too-large")
    assert "send lines to /predict/batch as application/x-ndjson" in detail


def test_a_body_at_the_limit_is_read(client: FlaskClient) -> None:
    body = b'{"query": "1+1"}'.ljust(1000)
    assert client.post("/predict", data=body, content_type="application/json").status_code == 200


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_decompressed(client: FlaskClient, encoding: str, compress: Any) -> None:
    def post(body: bytes) -> Any:
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        response = client.post("/predict", data=body, headers=headers)
        return response.status_code, response.get_json(force=True)

    body = b'{"query": "12+3"}'
    assert post(compress(body))[1]["answer"] == "12"
    status, problem = post(compress(body)[:-5])
    assert (status, problem["detail"]) == (400, "the compressed body ends early: send it again")
    status, problem = post(body)
    assert (status, problem["detail"]) == (400, f"the body is not compressed with {encoding}, or is damaged")
    for decompressed_bytes in (1001, 100_000):
        status, problem = post(compress(b" " * decompressed_bytes))
        assert (status, problem["type"]) == (413, "/problems/too-large")


def test_all_members_of_gzip_are_read(client: FlaskClient) -> None:
    def post(body: bytes, encoding: str = "gzip") -> Any:
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        return client.post("/predict", data=body, headers=headers).get_json(force=True)

    members = gzip.compress(b'{"query":') + gzip.compress(b'"12+3"}')
    assert post(members)["answer"] == post(members, "x-gzip")["answer"] == "12"
    assert post(members + b"more")["detail"] == "the body is not compressed with gzip, or is damaged"
    assert post(members + gzip.compress(b"more"))["detail"].startswith("Extra data, at column 17")
    assert post(gzip.compress(b" " * 999) * 2)["type"] == "/problems/too-large"
    deflated = zlib.compress(b'{"query":"12+3"}')
    assert post(deflated * 2, "deflate")["detail"] == "the body goes on behind 1 parts compressed with deflate"


def test_too_many_members_of_gzip_are_refused(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path).test_client()
    status, _, detail = refusal(client, gzip.compress(b"") * 1001, headers={"Content-Encoding": "gzip"})
    assert (status, detail) == (400, "the body goes on behind 1000 parts compressed with gzip")


def test_decompression_stops_at_the_limit(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, max_body_bytes=100_000).test_client()
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    tracemalloc.start()
    assert refusal(client, bomb, headers={"Content-Encoding": "gzip"})[:2] == (413, "/problems/too-large")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 5_000_000


def test_another_content_encoding_is_refused(client: FlaskClient) -> None:
    status, problem, detail = refusal(client, b"{}", headers={"Content-Encoding": "br"})
    assert (status, problem) == (415, "/problems/wrong-content-encoding")
    assert detail == "the content encoding is 'br': send the body as it is, or in gzip or deflate"
