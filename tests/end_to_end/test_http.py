"""Malformed requests, and clients that are slow, leave early or do not read."""

import json
import re
import shlex
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.end_to_end.conftest import PREDICT_HEAD, Service, receive_all

BODY = b'{"query": "123+456"}'


def problem(response: bytes) -> tuple[int, str]:
    """Return the status and the type of a raw response, which must be a problem document."""
    head, body = response.split(b"\r\n\r\n", 1)
    document = json.loads(body)
    assert b"content-type: application/problem+json" in head.lower()
    assert head.startswith(f"HTTP/1.1 {document['status']} ".encode())
    assert document["detail"]
    return document["status"], document["type"]


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (PREDICT_HEAD + b"Content-Length: 99\r\n\r\n" + BODY, 400, "/problems/incomplete"),
        (PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "/problems/incomplete"),
        (PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345678\r\n0\r\n\r\n", 400, "/problems/incomplete"),
        (PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + BODY, 400, "/problems/incomplete"),
        (PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n", 400, "/problems/incomplete"),
        (PREDICT_HEAD + b"Content-Length: 2000000\r\n\r\n" + b" " * 1000, 413, "/problems/too-large"),
        (
            PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n100018\r\n" + b" " * 0x100018 + b"\r\n0\r\n\r\n",
            413,
            "/problems/too-large",
        ),
        (PREDICT_HEAD + b"Content-Length: x\r\n\r\n", 400, "/problems/bad-request"),
        (PREDICT_HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "/problems/bad-request"),
        (PREDICT_HEAD + b"bad header\r\n\r\n", 400, "/problems/bad-request"),
        (b"POST /predict HTTP/9.9\r\n\r\n", 400, "/problems/bad-request"),
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400, "/problems/bad-request"),
        (PREDICT_HEAD + b"Transfer-Encoding: foo\r\n\r\n", 501, "/problems/not-implemented"),
        (PREDICT_HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "/problems/not-implemented"),
        (b"GET //health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "/problems/not-found"),
        (
            b"GET /models/adder/%D9%A2/encoder.png HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            404,
            "/problems/not-found",
        ),
        (b"\x16\x03\x01\r\n\r\n", 400, "/problems/bad-request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "/problems/request-uri-too-long"),
        (PREDICT_HEAD + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431, "/problems/request-header-fields-too-large"),
    ],
)
def test_a_malformed_request_gets_a_problem_document(service: Service, request_: bytes, status: int, kind: str) -> None:
    assert problem(service.send(request_)) == (status, kind)


def test_a_chunked_body_is_read(service: Service) -> None:
    response = service.send(PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + BODY + b"\r\n0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK")


def test_a_chunked_body_of_single_bytes_is_read(service: Service) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b" " * 50_000 + BODY)
    response = service.send(PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.9\r\nHost: x\r\nConnection: close\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Protocol: http\r\nX-Forwarded-Ssl: off\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/openmetrics-text; version=\r\n",
    ],
)
def test_what_the_service_does_not_use_refuses_no_request(service: Service, head: bytes) -> None:
    assert service.send(head + b"\r\n").startswith(b"HTTP/1.1 200 OK")


def test_a_connection_stays_open_after_a_bad_request(service: Service) -> None:
    with requests.Session() as session:
        for _ in range(3):
            refused = session.post(f"{service.url}/predict", data=b"{", headers={"content-type": "application/json"})
            assert refused.status_code == 400
            assert session.post(f"{service.url}/predict", json={"query": "1+1"}).status_code == 200


def test_clients_that_leave_early_disturb_no_other(service: Service) -> None:
    for _ in range(100):
        connection = service.connect()
        connection.sendall(PREDICT_HEAD + b"Content-Length: 20\r\n\r\n" + BODY)
        connection.close()
    assert service.post("/predict", {"query": "1+1"}).status_code == 200


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain", "/predict/stream"])
def test_the_command_for_an_empty_body_works(service: Service, path: str) -> None:
    detail = requests.post(service.url + path, timeout=20).json()["detail"]
    command = shlex.split(detail[detail.index("curl ") :])
    sent = subprocess.run([*command, "-sS", "--fail-with-body"], capture_output=True, check=True, text=True)
    assert '"answer":"579"' in sent.stdout


def test_a_header_does_not_change_the_mount_point(service: Service) -> None:
    for header in ("SCRIPT_NAME", "PATH_INFO"):
        response = requests.get(f"{service.url}/health/live", headers={header: "/elsewhere"}, timeout=30)
        assert response.status_code in (200, 400)


def test_an_unread_malformed_body_gets_no_second_answer(service: Service) -> None:
    response = service.send(b"POST /x HTTP/1.1\r\nHost: adder\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert response.startswith(b"HTTP/1.1 404")
    assert response.count(b"HTTP/1.1") == 1


def test_the_next_request_is_answered_behind_an_unread_body(service: Service) -> None:
    unread = b"POST /nothing HTTP/1.1\r\nHost: adder\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000
    response = service.send(unread + b"0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: adder\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"404", b"200"]


@pytest.mark.parametrize("sent", [b"", b"GET /health/live HTTP/1.1\r\nHost: adder\r\nConnection: close\r\n\r\n"])
def test_idle_connections_delay_no_other_client(service: Service, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(service.connect()).sendall(sent)
        for _ in range(10):
            assert requests.get(f"{service.url}/health/live", timeout=20).status_code == 200


@pytest.mark.parametrize("sent", [b"POST /pre", PREDICT_HEAD + b"Content-Length: 20\r\n\r\n{"])
def test_slow_clients_delay_no_other_client(service: Service, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(service.connect()).sendall(sent)
        assert service.post("/predict", {"query": "1+1"}).status_code == 200


def test_a_body_that_comes_too_slowly_is_incomplete(short_limits: Service) -> None:
    with short_limits.connect() as slow:
        slow.sendall(PREDICT_HEAD + b"Content-Length: 20\r\n\r\n{")
        response = receive_all(slow)
    assert problem(response) == (400, "/problems/incomplete")
    assert b"nothing came for ADDER_RECEIVE_SECONDS" in response


def test_clients_that_do_not_read_delay_no_other_client(service: Service) -> None:
    body = json.dumps({"queries": ["999+999"] * 4096, "characters": True}).encode()
    head = PREDICT_HEAD.replace(b"/predict", b"/predict/batch") + f"Content-Length: {len(body)}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(20)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(head + body)
            assert connection.recv(1) == b"H"  # the rest, 4 MB, is more than the buffers of both sides hold
        assert service.post("/predict", {"query": "1+1"}).status_code == 200


@pytest.mark.parametrize("length", [300_000, 3_000_000])
def test_a_slow_reader_gets_its_answer_whatever_it_sends(service: Service, length: int) -> None:
    expected = service.get("/openapi.json").content
    with socket.socket() as connection:
        connection.settimeout(20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.port))
        head = f"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        received = connection.recv(1)  # the answer is on its way, and now comes the body
        connection.sendall(bytes(length))
        while piece := connection.recv(256):
            received += piece
    assert received.endswith(expected)


def test_clients_that_never_read_are_gone_in_time(short_limits: Service) -> None:
    [worker] = short_limits.workers()

    def open_files() -> int:
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))

    before = open_files()
    head = PREDICT_HEAD.replace(b"/predict", b"/predict/batch").replace(b"json", b"x-ndjson")
    lines = b'{"query":"1+2","characters":true}\n' * 10_000
    with ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(short_limits.connect())
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(head + f"Content-Length: {len(lines)}\r\n\r\n".encode() + lines)
            if number % 2:
                connection.close()
        short_limits.until(lambda: open_files() > before)
        short_limits.until(lambda: open_files() <= before)
    assert short_limits.post("/predict", {"query": "1+1"}).status_code == 200


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bodies_get_400_or_422(service: Service, body: bytes) -> None:
    response = service.send(PREDICT_HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert problem(response)[0] in (400, 422)


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_get_no_500(service: Service, request_: bytes) -> None:
    response = service.send(request_ + b"\r\n\r\n")
    if response:  # an empty line gets none
        assert problem(response)[0] in (400, 404, 405, 414, 431)


def test_an_endless_body_is_not_read_to_its_end(service: Service) -> None:
    with service.connect() as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(2**28))
