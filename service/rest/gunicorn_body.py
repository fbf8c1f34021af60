"""Reads a body from gunicorn without waiting for more than has arrived.

This is the only module that uses private names of gunicorn's body readers, whose version is pinned exactly.
"""

import re
from typing import Any

from gunicorn.http.body import Body, ChunkedReader

CHUNK = re.compile(rb"\r\n0*[1-9a-f][0-9a-f]*\r\n.", re.IGNORECASE | re.DOTALL)  # behind another; with one byte


def read_available(body: Body, most: int) -> bytes:
    """Read what has arrived of a body, as soon as one byte has, and stop at `most` bytes or soon after; b"" at the end.
    `Body.read` waits for all.

    Raises OSError, or gunicorn's ParseException for a bad chunk.
    """
    reader = body.reader
    if not isinstance(reader, ChunkedReader):
        return _read_piece(reader, reader.unreader, most)
    pieces = [_read_piece(reader, reader, most)]
    size = len(pieces[0])
    while 0 < size < most and _has_chunk(reader):
        pieces.append(_read_piece(reader, reader, most - size))
        size += len(pieces[-1])
    return b"".join(pieces)


def _read_piece(reader: Any, buffered: Any, most: int) -> bytes:
    """At most `most` + 1 bytes: the reader waits for the first, and has the others in a buffer."""
    first: bytes = reader.read(1)
    more: bytes = reader.read(min(buffered.buf.tell(), most)) if first else b""
    return first + more


def _has_chunk(reader: ChunkedReader) -> bool:
    """Whether the reader has received the beginning of another chunk, which it can return without an error."""
    if reader.buf.tell() or reader.parser is None:
        return bool(reader.buf.tell())
    paused = reader.parser.gi_frame.f_locals  # of the generator that parses the chunks
    return bool(CHUNK.match(paused["rest"], paused["size"]))
