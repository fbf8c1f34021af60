"""What a client may send that is no proper request."""

import json
import socket
from collections.abc import Callable

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.end_to_end.conftest import Service

BODY = b'{"query": "123+456"}'
POST = b"POST /predict HTTP/1.1\r\nHost: adder\r\nConnection: close\r\nContent-Type: application/json\r\n"


def problem(response: bytes) -> tuple[int, str]:
    """The status of a raw response that is a problem document, and the document's type."""
    head, body = response.split(b"\r\n\r\n", 1)
    document = json.loads(body)
    assert b"content-type: application/problem+json" in head.lower()
    assert head.startswith(f"HTTP/1.1 {document['status']} ".encode())
    assert document["detail"]
    return document["status"], document["type"]


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (POST + b"Content-Length: 99\r\n\r\n" + BODY, 400, "/problems/incomplete"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "/problems/incomplete"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345678\r\n0\r\n\r\n", 400, "/problems/incomplete"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + BODY, 400, "/problems/incomplete"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n", 400, "/problems/incomplete"),
        (POST + b"Content-Length: 2000000\r\n\r\n" + b" " * 1000, 413, "/problems/too-large"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n100018\r\n" + b" " * 0x100018 + b"\r\n0\r\n\r\n",
            413,
            "/problems/too-large",
        ),
        (POST + b"Content-Length: x\r\n\r\n", 400, "/problems/bad-request"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "/problems/bad-request"),
        (POST + b"bad header\r\n\r\n", 400, "/problems/bad-request"),
        (b"POST /predict HTTP/9.9\r\n\r\n", 400, "/problems/bad-request"),
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400, "/problems/bad-request"),
        (POST + b"Transfer-Encoding: foo\r\n\r\n", 501, "/problems/not-implemented"),
        (b"\x16\x03\x01\r\n\r\n", 400, "/problems/bad-request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "/problems/request-uri-too-long"),
        (POST + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431, "/problems/request-header-fields-too-large"),
    ],
)
def test_a_broken_request_is_a_problem(service: Service, request_: bytes, status: int, kind: str) -> None:
    assert problem(service.send(request_)) == (status, kind)


def test_a_chunked_body_is_read(service: Service) -> None:
    response = service.send(POST + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + BODY + b"\r\n0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK")


def test_a_connection_survives_a_refused_request(service: Service) -> None:
    with requests.Session() as session:
        for _ in range(3):
            refused = session.post(f"{service.url}/predict", data=b"{", headers={"content-type": "application/json"})
            assert refused.status_code == 400
            assert session.post(f"{service.url}/predict", json={"query": "1+1"}).status_code == 200


def test_a_client_that_leaves_disturbs_nobody(service: Service) -> None:
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.sendall(POST + b"Content-Length: 20\r\n\r\n" + BODY)
        connection.close()
    assert service.post("/predict", {"query": "1+1"}).status_code == 200


def test_a_header_does_not_move_the_application(service: Service) -> None:
    for header in ("SCRIPT_NAME", "PATH_INFO"):
        response = requests.get(f"{service.url}/health/live", headers={header: "/elsewhere"}, timeout=30)
        assert response.status_code in (200, 400)


def test_an_unread_body_gets_no_second_answer(service: Service) -> None:
    response = service.send(b"POST /x HTTP/1.1\r\nHost: adder\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert response.startswith(b"HTTP/1.1 404")
    assert response.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("said", [b"", b"GET /health/live HTTP/1.1\r\nHost: adder\r\nConnection: close\r\n\r\n"])
def test_clients_that_only_stay_connected_cost_nobody_else(start: Callable[..., Service], said: bytes) -> None:
    service = start(workers=1).ready()
    connections = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(60)]
    for connection in connections:
        connection.sendall(said)
    for _ in range(10):
        assert requests.get(f"{service.url}/health/live", timeout=20).status_code == 200
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("begun", [b"POST /pre", POST + b"Content-Length: 20\r\n\r\n{"])
def test_slow_clients_cost_nobody_else(start: Callable[..., Service], begun: bytes) -> None:
    service = start(workers=1, receive_seconds=2).ready()
    slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(8)]
    for connection in slow:
        connection.sendall(begun)
    assert service.post("/predict", {"query": "1+1"}).status_code == 200
    for connection in slow:
        connection.close()


def test_a_slow_body_is_answered_as_one_that_was_cut_short(start: Callable[..., Service]) -> None:
    service = start(workers=1, receive_seconds=1).ready()
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as slow:
        slow.sendall(POST + b"Content-Length: 20\r\n\r\n{")
        received = b""
        while piece := slow.recv(65536):
            received += piece
    assert problem(received) == (400, "/problems/incomplete")


def test_who_does_not_read_the_answer_costs_nobody_else(start: Callable[..., Service]) -> None:
    service = start(workers=1, receive_seconds=1, deadline_seconds=1).ready()
    body = json.dumps({"queries": ["123+456"] * 4096, "characters": True}).encode()
    request = POST.replace(b"/predict", b"/predict/batch") + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    deaf = [socket.socket() for _ in range(4)]
    for connection in deaf:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(request)
    assert service.post("/predict", {"query": "1+1"}).status_code == 200
    for connection in deaf:
        connection.close()


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_body_gives_a_500(service: Service, body: bytes) -> None:
    response = service.send(POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert problem(response)[0] in (400, 422)


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_give_a_500(service: Service, request_: bytes) -> None:
    response = service.send(request_ + b"\r\n\r\n")
    if response:  # an empty line before the end of a connection is no request
        assert problem(response)[0] in (400, 404, 405, 414, 431)


def test_a_body_without_end_is_not_read_to_its_end(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(2**28))
