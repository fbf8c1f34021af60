"""gunicorn's own parser and readers over a socket: a new release that changes what `gunicorn_body` uses fails here."""

import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.body import Body
from gunicorn.http.errors import ParseException
from hypothesis import given, settings
from hypothesis import strategies as st

from service.rest.gunicorn_body import read_available

CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end and the server's. A read that waits for more than has arrived fails, after ten seconds."""
    client, server = socket.socketpair()
    with client, server:
        server.settimeout(10)
        yield client, server


def body_of(server: socket.socket) -> Body:
    return next(get_parser(Config(), server, ("127.0.0.1", 1))).body


def head(header: str) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("header", "pieces"),
    [
        ("Content-Length: 5", [b"ab", b"c", b"de"]),
        (CHUNKED, [b"2\r\nab\r\n", b"1\r\nc\r\n", b"2\r\nde\r\n0\r\n\r\n"]),
        (CHUNKED, [b"5\r\nab", b"c", b"de\r\n0\r\n\r\n"]),  # one chunk that arrives in pieces
        (CHUNKED, [b"2\r\nab", b"\r\n1\r\nc", b"\r\n2\r\nde\r\n0\r\n\r\n"]),
    ],
)
@pytest.mark.parametrize("with_head", [True, False])
def test_each_piece_is_returned_when_it_arrives(
    sockets: tuple[socket.socket, socket.socket], header: str, pieces: list[bytes], with_head: bool
) -> None:
    client, server = sockets
    first, *others = pieces
    client.sendall(head(header) + first if with_head else head(header))
    body = body_of(server)
    if not with_head:
        client.sendall(first)
    received = [read_available(body, 100)]
    for piece in others:
        client.sendall(piece)
        received.append(read_available(body, 100))
    assert received == [b"ab", b"c", b"de"]
    assert read_available(body, 100) == b""


@pytest.mark.parametrize(
    ("header", "content"),
    [("Content-Length: 10", b"0123456789"), (CHUNKED, b"4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n")],
)
def test_a_piece_has_at_most_one_byte_more(
    sockets: tuple[socket.socket, socket.socket], header: str, content: bytes
) -> None:
    client, server = sockets
    client.sendall(head(header) + content)
    body = body_of(server)
    pieces = list(iter(lambda: read_available(body, 3), b""))
    assert b"".join(pieces) == b"0123456789"
    assert max(map(len, pieces)) == 4


@pytest.mark.parametrize(
    ("header", "content", "error"),
    [
        (CHUNKED, b"2\r\nab\r\nz\r\n", ParseException),
        (CHUNKED, b"2\r\nab\r\n5\r\n", OSError),
    ],
)
def test_a_bad_or_interrupted_body_raises(
    sockets: tuple[socket.socket, socket.socket], header: str, content: bytes, error: type[Exception]
) -> None:
    client, server = sockets
    client.sendall(head(header) + content)
    client.shutdown(socket.SHUT_WR)
    body = body_of(server)
    with pytest.raises(error):  # noqa: PT012  the piece before the fault may be returned first
        while read_available(body, 100):
            pass


def test_a_body_shorter_than_announced_ends(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    client.sendall(head("Content-Length: 5") + b"ab")
    client.shutdown(socket.SHUT_WR)
    body = body_of(server)
    assert read_available(body, 100) == b"ab"
    assert read_available(body, 100) == b""


def test_chunks_that_have_arrived_are_returned_together(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    client.sendall(head(CHUNKED) + b"".join(b"5\r\nline\n\r\n" for _ in range(300)) + b"5\r\nlin")
    body = body_of(server)
    assert read_available(body, 60) == b"line\n" * 12
    received, reads = b"", 0
    while not received.endswith(b"lin"):
        received += read_available(body, 10_000)
        reads += 1
    assert received == b"line\n" * 288 + b"lin"
    assert reads < 5  # one for each piece that the socket had
    client.sendall(b"e\n\r\n0\r\n\r\n")
    assert (read_available(body, 100), read_available(body, 100)) == (b"e\n", b"")


def test_a_bad_chunk_does_not_lose_those_before(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    client.sendall(head(CHUNKED) + b"5\r\nline\n\r\n" * 3 + b"zz\r\nline\n\r\n")
    body = body_of(server)
    assert read_available(body, 100) == b"line\n" * 3
    with pytest.raises(ParseException):
        read_available(body, 100)


@given(st.binary(min_size=1, max_size=3000), st.data())
@settings(deadline=None)
def test_a_body_in_any_chunks_is_read_to_its_end(content: bytes, data: st.DataObject) -> None:
    wire, rest = b"", content
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        wire, rest = wire + b"%x\r\n%b\r\n" % (size, rest[:size]), rest[size:]
    client, server = socket.socketpair()
    with client, server:
        client.sendall(head(CHUNKED) + wire + b"0\r\n\r\n")
        body = body_of(server)
        assert b"".join(iter(lambda: read_available(body, 100), b"")) == content
