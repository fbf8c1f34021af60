"""Reads a body from gunicorn without waiting for more than has arrived.

This is the only module that uses private names of gunicorn's body readers, whose version is pinned exactly.
"""

from gunicorn.http.body import Body, ChunkedReader


def read_available(body: Body, most: int) -> bytes:
    """Read at most `most` + 1 bytes, as soon as one has arrived; b"" at the end of the body. `Body.read` waits for all.

    Raises OSError, or gunicorn's ParseException for a bad chunk.
    """
    reader = body.reader
    first: bytes = reader.read(1)
    buffered = reader.buf if isinstance(reader, ChunkedReader) else reader.unreader.buf
    more: bytes = reader.read(min(buffered.tell(), most))
    return first + more
