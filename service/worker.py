"""gunicorn's gevent worker, stricter with clients."""

import errno
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
import gevent.socket
import numpy as np
import numpy.typing as npt
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http import get_parser
from gunicorn.http.errors import InvalidHeader, NoMoreData
from gunicorn.workers.ggevent import GeventWorker

from service.rest import connection

YIELD_SECONDS = 0.002  # for a worker that has fewer connections to take the next
UNREAD_BYTES = 65536  # of a body that was answered unread: beyond, the connection is closed
LINGER_SECONDS = 0.5  # for a client to read the last answer, and for its next request when the worker stops


class PunctualWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A loop of connections, none of which can keep its place, that want a Host.

    A connection that has not sent the headers of its next request within `receive_seconds` is closed. As long after a
    request is handed to the application the socket is shut for receiving: its body ends there and gets 400.
    `request_seconds` after, it is shut altogether.
    """

    receive_seconds: float
    request_seconds: float
    loaded: npt.NDArray[np.bool_]  # shared by all workers, for each: whether it can answer
    connections: npt.NDArray[np.int32]  # shared too: how many it has
    sockets: list[Any]
    slot: int  # where in both this worker is

    def patch(self) -> None:
        """Nothing but the listeners: the application waits for its clients alone, and TensorFlow's and LiteRT's threads
        stay what they are."""
        self.sockets = [
            gevent.socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]

    def run(self) -> None:
        """Serve until told to stop, and then what has begun, for up to `graceful_timeout`."""
        greenlets = Pool(self.worker_connections)
        servers = self.servers = [
            _Listener(listener, partial(self.handle, listener.getsockname()), spawn=greenlets)
            for listener in self.sockets
        ]
        for server in servers:
            server.worker = self
            server.init_socket()
        while self.alive:
            for server in servers:
                server.look()
            self._tend()
            gevent.sleep(0.5)
        self.loaded[self.slot] = False
        gevent.sleep(0.1)  # who connects now is left to workers that stay, if there are any
        for server in servers:
            server.take(self.worker_connections)
            server.close()
        stopped = time.monotonic()
        while greenlets and time.monotonic() < stopped + self.cfg.graceful_timeout:
            if time.monotonic() > stopped + LINGER_SECONDS:
                for client, begun in list(connection.begun.items()):
                    if begun is None:
                        _shut(client, socket.SHUT_RDWR)
            self._tend()
            gevent.sleep(0.1)

    def may_accept(self) -> bool:
        """One that could not load, or that is being replaced, leaves the connections to those that can answer."""
        return bool(self.loaded[self.slot]) or not self.loaded.any()

    def has_more_than_another(self) -> bool:
        """By more than a quarter: a long batch wants a worker to itself, a crowd no exact shares."""
        counts = self.connections[self.loaded]
        return bool(counts.size and self.connections[self.slot] > 1.25 * counts.min())

    def handle(self, listener_name: Any, client: Any, address: Any) -> None:
        """In a greenlet of its own: one connection, from its first request to its end."""
        request, answered = None, 0
        connection.begun[client] = None
        parser = get_parser(self.cfg, client, address)
        try:
            while True:
                request = None
                request = gevent.with_timeout(self.receive_seconds, _next, parser, timeout_value=None)
                if request is None:
                    break
                self.handle_request(listener_name, request, client, address)
                answered = parser.req_count
        except (StopIteration, NoMoreData):
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF):
                self.log.exception("a connection failed")
        except Exception as error:
            # The rest of a body that was answered unread may be badly chunked: too late for a second answer.
            if parser.req_count > answered:
                self.handle_error(request, client, address, error)
        finally:
            del connection.begun[client]
            self.connections[self.slot] -= 1
            for server in self.servers:
                server.look()  # it may have fewer than another now
            _close(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Hand a request to the application, unless it names no host (RFC 9112 section 3.2)."""
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise InvalidHeader("Host is missing", req=req)
        # A connection whose next request is always there already would never let the others come.
        gevent.sleep(0)
        connection.begun[sock] = time.monotonic()
        super().handle_request(listener_name, req, sock, addr)
        connection.begun[sock] = None

    def _tend(self) -> None:
        """At least once a second: tell the master that the loop turns, and shut out the slow."""
        self.notify()
        for client, begun in list(connection.begun.items()):
            seconds = 0 if begun is None else time.monotonic() - begun
            if seconds > self.receive_seconds:
                _shut(client, socket.SHUT_RDWR if seconds > self.request_seconds else socket.SHUT_RD)


class _Listener(StreamServer):
    """Asks before it takes a connection.

    Where it may not, it looks for none until it is told to again. Where another worker has fewer, it leaves that one a
    moment to take it.
    """

    max_accept = 16  # for each turn of the loop
    worker: PunctualWorker

    def do_read(self) -> Any:
        if not self.worker.may_accept():
            self.stop_accepting()
            return None
        if self.worker.has_more_than_another():
            self.stop_accepting()
            gevent.spawn_later(YIELD_SECONDS, self._take_what_is_left)
            return None
        return self._accept()

    def take(self, most: int) -> None:
        """Connections that wait now."""
        with suppress(OSError):  # the next turn of the loop meets it again, and deals with it
            while most and self.worker.may_accept() and not self.full() and (accepted := self._accept()):
                self.do_handle(*accepted)
                most -= 1

    def look(self) -> None:
        """For the next connections, unless it does or is closed."""
        if not self.closed:
            self.start_accepting()

    def _take_what_is_left(self) -> None:
        if not self.closed:
            self.take(1 + int(self.worker.connections[self.worker.slot]) // 4)
            self.look()

    def _accept(self) -> Any:
        accepted = super().do_read()
        if accepted:
            self.worker.connections[self.worker.slot] += 1
        return accepted


def _next(parser: Any) -> Any:
    """The next request of a connection, or None where the rest of the last one's body is more than may be read."""
    return next(parser) if parser.finish_body(max_bytes=UNREAD_BYTES) else None


def _shut(client: Any, how: int) -> None:
    with suppress(OSError):
        client.shutdown(how)


def _close(client: Any) -> None:
    """Closed with something unread, the connection would be reset, and the last answer lost with it."""
    with suppress(OSError, gevent.Timeout), gevent.Timeout(LINGER_SECONDS):
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            gevent.sleep(0.001)  # who sends without end holds up nobody
    client.close()
