"""gunicorn's gevent worker with time limits for each connection, and stricter than gunicorn's own."""

import errno
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
import gevent.socket
import gunicorn.util
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http import get_parser
from gunicorn.http.errors import InvalidHeader, NoMoreData, UnsupportedTransferCoding
from gunicorn.workers.ggevent import GeventWorker

from service.models.event_loop import give_way, overdue, request_started
from service.rest.gunicorn_body import read_available
from service.rest.problem_details import raw_response
from service.settings import Settings
from service.telemetry.middleware import make_request_id
from service.worker_board import WorkerBoard

YIELD_SECONDS = 0.002  # in which a worker with fewer connections can take the next
MAX_UNREAD_BYTES = 1_048_576  # of the body of an answered request; with more, the connection is closed
DRAINED_BYTES = 65536  # at once
RARE_HEADERS = {"TRANSFER-ENCODING", "UPGRADE"}
LINGER_READS = 256  # of a client that goes on to send: 16 MB
LINGER_SECONDS = 0.5  # when the worker stops: for a client to read the last response, and for its next request


class StrictGeventWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gevent worker with a time limit for each connection; requires a Host header.

    A connection without a complete request head after `receive_seconds` is closed. `receive_seconds` after a request
    was handed to the application, the socket is shut for receiving: its body ends there, and the response is 400.
    After `request_seconds` the socket is shut altogether.
    """

    board: WorkerBoard
    index: int  # of this worker on the board
    receive_seconds: float
    request_seconds: float
    sockets: list[Any]

    def assign(self, board: WorkerBoard, index: int, settings: Settings) -> None:
        """Set the index on the board and the time limits. The master calls it before the fork."""
        self.board, self.index = board, index
        self.receive_seconds = settings.receive_seconds
        # To receive the request, to wait for the model, and as long as for the request to send the response.
        self.request_seconds = 2 * settings.receive_seconds + settings.deadline_seconds

    def patch(self) -> None:
        """Make the listeners cooperative, without a patch of the standard library: the application waits for clients
        only, and the threads of LiteRT must stay threads."""
        self.sockets = [
            gevent.socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]

    def init_process(self) -> None:
        """Write gunicorn's own errors as problem documents instead of HTML, and start the worker."""
        gunicorn.util.write_error = write_error
        super().init_process()

    def run(self) -> None:
        """Serve until the worker must stop; then finish its requests within `graceful_timeout`."""
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
                server.resume()
            self._close_slow()
            gevent.sleep(0.5)
        self.board.mark_unloaded(self.index)
        gevent.sleep(0.1)  # new connections go to the workers that stay, if there are any
        for server in servers:
            server.drain(self.worker_connections)
            server.close()
        stopped = time.monotonic()
        while greenlets and time.monotonic() < stopped + self.cfg.graceful_timeout:
            if time.monotonic() > stopped + LINGER_SECONDS:
                for client, started in list(request_started.items()):
                    if started is None:
                        _shut(client, socket.SHUT_RDWR)
            self._close_slow()
            gevent.sleep(0.1)

    def handle(self, listener_name: Any, client: Any, address: Any) -> None:
        """Serve one connection, in a greenlet of its own, from its first request to its end."""
        request, answered = None, 0
        request_started[client] = None
        parser = get_parser(self.cfg, client, address)
        try:
            while True:
                request = None
                request = gevent.with_timeout(self.receive_seconds, _next_request, parser, timeout_value=None)
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
            # The unread rest of an answered request may be badly chunked: it gets no second response.
            if parser.req_count > answered:
                self.handle_error(request, client, address, error)
        finally:
            del request_started[client]
            overdue.discard(client)
            self.board.connections[self.index] -= 1
            for server in self.servers:
                server.resume()  # another worker may have more connections now
            _close(client, self.receive_seconds if self.alive else LINGER_SECONDS)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Hand a request to the application, if it has a Host header (RFC 9112 section 3.2), and no transfer coding but
        chunked (section 6.1)."""
        names = {name for name, _ in req.headers}
        if req.version >= (1, 1) and "HOST" not in names:
            raise InvalidHeader("Host is missing", req=req)
        if not names.isdisjoint(RARE_HEADERS):
            _normalize(req)
        req.version = min(req.version, (1, 1))  # the service's own: gunicorn would answer in that of the request
        # Without this, a connection whose next request has always arrived would never give way.
        gevent.sleep(0)
        request_started[sock] = time.monotonic()
        super().handle_request(listener_name, req, sock, addr)
        request_started[sock] = None

    def _close_slow(self) -> None:
        """At least once a second: notify the master, and shut connections that have passed their time limits."""
        self.notify()
        for client, started in list(request_started.items()):
            seconds = 0 if started is None else time.monotonic() - started
            if seconds > self.receive_seconds:
                overdue.add(client)
                _shut(client, socket.SHUT_RDWR if seconds > self.request_seconds else socket.SHUT_RD)


class _Listener(StreamServer):
    """Accepts a connection only if the board allows it.

    A worker without models stops accepting until it is resumed. The worker with the most connections pauses, so that
    another worker can take the next.
    """

    max_accept = 16  # in one turn of the event loop
    worker: StrictGeventWorker

    def do_read(self) -> Any:
        board, index = self.worker.board, self.worker.index
        if not board.may_accept(index):
            self.stop_accepting()
            return None
        if board.has_most_connections(index):
            self.stop_accepting()
            gevent.spawn_later(YIELD_SECONDS, self._resume_after_pause)
            return None
        return self._accept()

    def drain(self, most: int) -> None:
        """Accept up to `most` of the connections that are waiting."""
        with suppress(OSError):  # the next turn of the event loop gets the error again, and handles it
            while most and self._may_take() and (accepted := self._accept()):
                self.do_handle(*accepted)
                most -= 1

    def resume(self) -> None:
        """Accept connections again, unless the listener is closed."""
        if not self.closed:
            self.start_accepting()

    def _may_take(self) -> bool:
        return self.worker.board.may_accept(self.worker.index) and not self.full()

    def _resume_after_pause(self) -> None:
        if not self.closed:
            self.drain(1 + int(self.worker.board.connections[self.worker.index]) // 4)
            self.resume()

    def _accept(self) -> Any:
        accepted = super().do_read()
        if accepted:
            self.worker.board.connections[self.worker.index] += 1
        return accepted


def _normalize(request: Any) -> None:
    """Refuse transfer codings, which gunicorn accepts and does not decode. Ignore an upgrade (RFC 9110 section 7.8),
    which Werkzeug would refuse."""
    for name, value in request.headers:
        if name == "TRANSFER-ENCODING" and value.strip().lower() != "chunked":
            raise UnsupportedTransferCoding(value)
    request.headers = [(name, value) for name, value in request.headers if name != "UPGRADE"]


def write_error(client: socket.socket, status_int: int, _reason: str, mesg: str) -> None:
    """Write a problem document; replaces gunicorn.util.write_error."""
    with suppress(OSError):
        gunicorn.util.write_nonblock(
            client, raw_response(status_int, mesg or "the request cannot be read", make_request_id())
        )


def _next_request(parser: Any) -> Any:
    """Read the next request of a connection; None if too much of the last body is unread."""
    unread = MAX_UNREAD_BYTES
    while parser.mesg and unread >= 0 and (piece := read_available(parser.mesg.body, DRAINED_BYTES)):
        unread -= len(piece)
        give_way()
    return next(parser) if unread >= 0 and parser.finish_body() else None


def _shut(client: Any, how: int) -> None:
    with suppress(OSError):
        client.shutdown(how)


def _close(client: Any, linger_seconds: float) -> None:
    """Read until the client has closed, and close: with unread bytes the system would reset the connection, and
    the client would lose the last response."""
    with suppress(OSError, gevent.Timeout), gevent.Timeout(linger_seconds):
        client.shutdown(socket.SHUT_WR)
        for _ in range(LINGER_READS):
            if not client.recv(DRAINED_BYTES):
                break
            gevent.sleep(0.001)  # a client that sends without end does not block others
    client.close()
