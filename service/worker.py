"""gunicorn's threaded worker, stricter with clients."""

import errno
import selectors
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.http.errors import InvalidHeader, ParseException
from gunicorn.util import close_graceful
from gunicorn.workers.gthread import TConn, ThreadWorker


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

    def accept(self, listener: Any) -> None:
        """A connection gets a thread when it has sent something; gunicorn's own gives it one for seconds before."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return
            raise
        conn = TConn(self.cfg, client, address, listener.getsockname())  # which makes the socket non-blocking
        conn.timeout = time.monotonic() + self.receive_seconds
        self.nr_conns += 1
        self.pending_conns.append(conn)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def handle(self, conn: Any) -> Any:
        """In a thread of its own: one request, from taking up the connection to having sent the answer."""
        self._begun[conn] = time.monotonic()
        try:
            goes_on = super().handle(conn)
            if not goes_on:
                # gunicorn waits up to two seconds for the client to close, in its main loop, where that stops all.
                close_graceful(conn.sock, timeout=0.5)
                conn.close = lambda **_: None
            return goes_on
        finally:
            del self._begun[conn]

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """The rest of a body that was answered unread may be badly chunked: too late for a second answer."""
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except (OSError, ParseException):
            return False

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
