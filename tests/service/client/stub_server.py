"""An HTTP server on a local port that sends the responses a test gives it, valid or not."""

import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any


class StubServer(ThreadingHTTPServer):
    """Sends each request the next of `responses`; the last one repeats."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StubRequest)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.responses: list[Callable[[StubRequest], None]] = []
        self.requests: list[StubRequest] = []
        self.connections = 0

    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.requests]


class StubRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StubServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(self)
        responses = self.server.responses
        (responses.pop(0) if len(responses) > 1 else responses[0])(self)

    do_GET = do_POST  # noqa: N815  # the names that http.server requires

    def log_message(self, *_: object) -> None:
        pass

    def send_head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def send(content: bytes, status: int = 200, **headers: object) -> Callable[[StubRequest], None]:
    def respond(request: StubRequest) -> None:
        request.send_head(status, Content_Length=len(content), **headers)
        request.wfile.write(content)

    return respond


def send_json(content: Any, status: int = 200, **headers: object) -> Callable[[StubRequest], None]:
    return send(json.dumps(content).encode(), status, **headers)


def send_chunks(*chunks: bytes) -> Callable[[StubRequest], None]:
    """The last chunk repeats until the client disconnects, unless it is empty, which ends the body."""

    def respond(request: StubRequest) -> None:
        request.send_head(Transfer_Encoding="chunked")
        for number in count():
            chunk = chunks[min(number, len(chunks) - 1)]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if not chunk:
                return

    return respond


def send_endless(start: bytes, piece: bytes) -> Callable[[StubRequest], None]:
    """Send raw bytes: a start, and then the same again and again until the client disconnects."""

    def respond(request: StubRequest) -> None:
        request.wfile.write(start)
        while True:
            request.wfile.write(piece)

    return respond


def disconnect(request: StubRequest) -> None:
    request.close_connection = True
