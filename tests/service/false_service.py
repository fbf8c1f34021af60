"""A service that answers what it is told to, or worse."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any


class StubServer(ThreadingHTTPServer):
    """Gives each request the next of its answers, the last of them for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: list[Callable[[Connection], None]] = []
        self.asked: list[Connection] = []
        self.connections = 0

    def bodies(self) -> list[Any]:
        return [json.loads(each.body) for each in self.asked]


class Connection(BaseHTTPRequestHandler):
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
        self.server.asked.append(self)
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    do_GET = do_POST  # noqa: N815  # http.server wants the names of the methods

    def log_message(self, *_: object) -> None:
        pass

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def body(content: bytes, status: int = 200, **headers: object) -> Callable[[Connection], None]:
    def answer(connection: Connection) -> None:
        connection.begin(status, Content_Length=len(content), **headers)
        connection.wfile.write(content)

    return answer


def document(content: Any, status: int = 200, **headers: object) -> Callable[[Connection], None]:
    return body(json.dumps(content).encode(), status, **headers)


def hang_up(connection: Connection) -> None:
    connection.close_connection = True


def in_chunks(*pieces: bytes) -> Callable[[Connection], None]:
    """The last of them for ever, if it is not the empty one, which is the end."""

    def answer(connection: Connection) -> None:
        connection.begin(Transfer_Encoding="chunked")
        for number in count():
            piece = pieces[min(number, len(pieces) - 1)]
            connection.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if not piece:
                return
            if len(piece) == 1:
                time.sleep(0.05)

    return answer
