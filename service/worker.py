"""gunicorn's threaded worker, stricter with clients."""

import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import InvalidHeader
from gunicorn.workers.gthread import ThreadWorker


class PunctualWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Threads that no client can keep, that want a Host, and that take no connection which another can answer sooner.

    gunicorn's own wait for ever on a client that stops in the middle of its headers or its body, or that does not read
    its answer, so that as many such clients as there are threads end all service. Here, `receive_seconds` after a
    thread took up a connection the socket is shut for receiving: a body ends there and gets 400, and a connection that
    has not sent its headers is closed. `request_seconds` after, it is shut altogether.
    """

    receive_seconds: float
    request_seconds: float
    loaded: Any  # shared by all workers, a flag for each: whether it can answer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[Any, float] = {}

    @property
    def slot(self) -> int:
        """Where in `loaded` this worker's flag is."""
        return int(self.age) % len(self.loaded)

    def set_accept_enabled(self, enabled: bool) -> None:
        """While others can answer, one that is still loading leaves the connections to them."""
        super().set_accept_enabled(enabled and (self.loaded[self.slot] or not any(self.loaded)))

    def handle(self, conn: Any) -> Any:
        """In a thread of its own: one request, from taking up the connection to having sent the answer."""
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
        if self.alive and self._accepting:
            self.set_accept_enabled(True)
        for conn, begun in list(self._begun.items()):
            seconds = time.monotonic() - begun
            if seconds > self.receive_seconds:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR if seconds > self.request_seconds else socket.SHUT_RD)
