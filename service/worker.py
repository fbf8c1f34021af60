"""gunicorn's threaded worker, stricter with clients."""

import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import InvalidHeader
from gunicorn.workers.gthread import ThreadWorker


class PunctualWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Threads that wait for nobody longer than `receive_seconds`, and want a Host.

    gunicorn's own wait for ever on a client that stops in the middle of its headers or its body, so that as many such
    clients as there are threads end all service. Here the socket is shut for receiving: the body, or what there is of
    the headers, then ends there, and is answered as one that was cut short.
    """

    receive_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[Any, float] = {}

    def handle(self, conn: Any) -> Any:
        """In a thread of its own: the request on one connection, from its first byte to its answer."""
        self._begun[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._begun[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Hand a request to the application, unless it names no host (RFC 9112 section 3.2)."""
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise InvalidHeader("Host is missing", req=req)
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """In the main loop, at least once a second."""
        super().murder_pending()
        latest = time.monotonic() - self.receive_seconds
        for conn, begun in list(self._begun.items()):
            if begun < latest:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)
