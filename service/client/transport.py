"""What requests lacks: a time limit for a whole response, pauses between tries that spread, redirects left alone."""

import http.client
import io
import random
import socket
import time
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, ReadTimeoutError, ResponseError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_PAUSE_SECONDS = 10  # a longer Retry-After ends the tries
FIRST_PAUSE_SECONDS = 0.1  # after a response without Retry-After; a broken connection is replaced at once
SPREAD = 0.25  # of a pause, at most, is added to it
MAX_BODY_BYTES = 2**26  # ten times the size of 8192 predictions with their characters
MAX_LINE_BYTES = 2**20  # of a line, and of an event


class TimeLimit:
    """The time until which the response to a request must have arrived. It starts again with each try."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start()

    def start(self) -> None:
        """Start the time."""
        self.end = time.monotonic() + self.seconds


# Of the request that is being sent: requests and urllib3 have no way to hand it through.
TIME_LIMIT: ContextVar[TimeLimit] = ContextVar("TIME_LIMIT")


class _Receiver(io.RawIOBase):
    """The receiving side of a socket, with one time limit for all calls. The time limit of a socket is of each call."""

    def __init__(self, sock: socket.socket, limit: TimeLimit) -> None:
        self._socket, self._stream, self._limit = sock, sock.makefile("rb", buffering=0), limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        remaining = self._limit.end - time.monotonic()
        try:
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            return self._stream.readinto(buffer)
        except TimeoutError:
            raise TimeoutError(f"timed out after {self._limit.seconds:g} seconds") from None
        finally:
            self._socket.settimeout(self._limit.seconds)  # for the next request, which is sent before it is read

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        limit = TIME_LIMIT.get()
        limit.start()
        self.fp.close()
        self.fp = io.BufferedReader(_Receiver(sock, limit))


@cache
def _limited(connection: type[HTTPConnection]) -> type[HTTPConnection]:
    return type(connection.__name__, (connection,), {"response_class": _LimitedResponse})


class _LimitedAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = _limited(type(pool).ConnectionCls)
        return pool


class _SpreadRetry(Retry):
    """Repeats neither a request whose time is over nor one that the service does not want back soon."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except (ValueError, OverflowError, InvalidHeader):  # "soon", the year 99999, more digits than Python reads
            return None

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        if _pool and response is not None and (self.get_retry_after(response) or 0) > MAX_PAUSE_SECONDS:
            raise MaxRetryError(_pool, str(url), ResponseError("Retry-After is too long"))  # returns the response
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        pause = self.get_backoff_time()
        if response is not None:
            pause = self.get_retry_after(response) or pause or FIRST_PAUSE_SECONDS
        time.sleep(pause * random.uniform(1, 1 + SPREAD))  # noqa: S311  # no secret


class Session(requests.Session):
    """A session whose requests have the time limit TIME_LIMIT, and are repeated up to `retries` times."""

    def __init__(self, retries: int) -> None:
        super().__init__()
        retry = _SpreadRetry(
            retries,
            allowed_methods=["GET", "POST"],  # no request changes state
            status_forcelist=[502, 503],  # not 504: the deadline of the request has passed
            raise_on_status=False,  # return the last response
            backoff_factor=FIRST_PAUSE_SECONDS,
            backoff_max=2,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, _LimitedAdapter(max_retries=retry))

    def get_redirect_target(self, _: requests.Response) -> None:
        """Follow none: requests would read the whole body, and fail at a damaged Location."""


class Body:
    """The body of a response as it arrives, decompressed, bounded in size and time. Raises urllib3's HTTPError."""

    def __init__(self, response: requests.Response, limit: TimeLimit) -> None:
        self._response, self._limit = response, limit
        self._remaining = limit.seconds  # while the caller uses what was read, which takes no time of the limit

    def renew(self) -> None:
        """Start the time again."""
        self._remaining = self._limit.seconds

    def read(self) -> bytes:
        """All of it."""
        return b"".join(self._chunks())

    def lines(self) -> Iterator[bytes]:
        """Its lines, without their ends."""
        rest = bytearray()
        for chunk in self._chunks():
            rest += chunk
            if b"\n" in chunk:
                *lines, last = bytes(rest).split(b"\n")
                yield from lines
                rest = bytearray(last)
            if len(rest) > MAX_LINE_BYTES:
                raise HTTPError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        if rest:
            yield bytes(rest)

    def events(self) -> Iterator[tuple[bytes, bytes]]:
        """Its server-sent events as (event, data), by section 9.2.6 of the HTML standard.

        Fields and forms that the service never sends are not supported: id, retry, a byte order mark, lines that end
        in CR.
        """
        event, data, size = b"", list[bytes](), 0
        for line in self.lines():
            field, _, value = line.removesuffix(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            size += len(line)
            if size > MAX_LINE_BYTES:
                raise HTTPError(f"an event is larger than {MAX_LINE_BYTES} bytes")
            if field == b"event":
                event = value
            elif field == b"data":
                data.append(value)
            elif line in (b"", b"\r"):
                if data:
                    yield event, b"\n".join(data)
                event, data, size = b"", [], 0

    def _chunks(self) -> Iterator[bytes]:
        received = 0
        # read1 returns what has arrived; iter_content waits for a full chunk.
        while chunk := self._response.raw.read1(65536, decode_content=True):
            received += len(chunk)
            if received > MAX_BODY_BYTES:
                raise HTTPError(f"the response is larger than {MAX_BODY_BYTES} bytes")
            self._remaining = self._limit.end - time.monotonic()
            yield chunk
            self._limit.end = time.monotonic() + self._remaining
