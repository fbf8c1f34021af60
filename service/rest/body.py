"""The body of a request: all of it, read and validated, or a problem that says what is wrong."""

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from flask import Request
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, ValidationError

from service.errors import (
    DuplicateKey,
    FieldError,
    Incomplete,
    Invalid,
    TooLarge,
    Unreadable,
    WrongContentEncoding,
    WrongContentType,
)
from service.models.queries import Limits

LINES = 64  # at a time: about what one call of the network takes; others get their turn in between
READ_BYTES = 65_536  # of lines at once
MAX_KEYS = 100  # far more than any request has; each that is unknown costs an error

Schema = TypeVar("Schema", bound=BaseModel)


def parse(request: Request, max_bytes: int) -> Any:
    """The JSON of the body. Raises WrongContentType, or as `receive` and `load` do."""
    if request.mimetype != "application/json":
        raise WrongContentType(request.content_type or "")
    return load(receive(request, max_bytes))


def load(body: bytes) -> Any:
    """The JSON of a body. Raises Unreadable or DuplicateKey."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Unreadable(f"the byte at {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise Unreadable("arrays or objects are nested too deep") from error
    except json.JSONDecodeError as error:
        raise Unreadable(str(error)) from error
    except ValueError as error:
        raise Unreadable("a number has more digits than can be read") from error


def validate(document: Any, schema: type[Schema], limits: Limits) -> Schema:
    """Raises Invalid, which names every rule of `schema` that the document breaks."""
    try:
        return schema.model_validate(document, context=limits)
    except ValidationError as error:
        # So many can be wrong in a full batch; more are not listed, since a client could ask for them without end.
        listed = error.errors(include_url=False)[: limits.max_batch_queries]
        raise Invalid([_field_error(each) for each in listed], error.error_count()) from error


def receive(request: Request, max_bytes: int) -> bytes:
    """The body as it came from the server: Flask would cut a long chunked one, and take a short one for whole.

    What is compressed is unpacked, and may have as many bytes. Raises TooLarge, Incomplete, WrongContentEncoding, or
    Unreadable.
    """
    announced = request.content_length
    if announced is not None and announced > max_bytes:
        raise TooLarge(max_bytes)
    body = _read(request, max_bytes + 1)
    if len(body) > max_bytes:
        raise TooLarge(max_bytes)
    _require_all(request, len(body))
    encoding = encoding_of(request)
    return body if encoding == "identity" else _unpacked(body, encoding, max_bytes)


def encoding_of(request: Request) -> str:
    """How the body is compressed; "identity" where it is not."""
    return request.headers.get("Content-Encoding", "identity").lower()


def lines(request: Request, max_line_bytes: int) -> Iterator[list[bytes]]:
    """The lines of a body of any length, but for empty ones, as they come, at most LINES at a time, and perhaps none.

    Raises Unreadable where one is too long, or Incomplete; the lines before are given first.
    """
    received, rest = 0, b""
    while piece := _read_what_is_there(request):
        received += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        for start in range(0, len(whole), LINES):
            yield [line for line in whole[start : start + LINES] if line.strip()]
        if len(rest) > max_line_bytes:
            raise Unreadable(f"a line has more than {max_line_bytes} bytes")
    _require_all(request, received)
    if rest.strip():
        yield [rest]


def _read_what_is_there(request: Request) -> bytes:
    """Of the body, as soon as something is; b"" at its end. gunicorn's own `read` waits for all that is asked for."""
    body = request.environ["wsgi.input"]
    if not isinstance(body, Body):
        return _read(request, READ_BYTES)
    reader = body.reader
    try:
        first: bytes = reader.read(1)
        held = reader.buf if isinstance(reader, ChunkedReader) else reader.unreader.buf
        more: bytes = reader.read(min(held.tell(), READ_BYTES))
        return first + more
    except (OSError, ParseException) as error:
        body.failed = True
        raise _broken_off() from error


def _read(request: Request, most: int) -> bytes:
    try:
        body: bytes = request.environ["wsgi.input"].read(most)
    except (OSError, ParseException) as error:
        raise _broken_off() from error
    return body


def _broken_off() -> Incomplete:
    return Incomplete("the body is badly chunked, or its sending broke off: send it again")


def _require_all(request: Request, received: int) -> None:
    announced = request.content_length
    if announced is not None and received < announced:
        raise Incomplete(
            f"the body has {received} bytes, and {announced} were announced: send it again, and without a pause"
        )


def _unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise WrongContentEncoding(encoding)
    unpacking = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # either, as the first bytes tell
    try:
        unpacked = unpacking.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Unreadable(f"the body is not compressed with {encoding}, or was damaged") from error
    if len(unpacked) > max_bytes:
        raise TooLarge(max_bytes)
    if not unpacking.eof:
        raise Incomplete("the compressed body ends early: send it again")
    return unpacked


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise Unreadable(f"an object has {len(pairs)} keys, and at most {MAX_KEYS} are read")
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise DuplicateKey(key)
    return found


def _refuse_constant(constant: str) -> NoReturn:
    raise Unreadable(f"{constant} is not JSON (RFC 8259 section 6)")


def _field_error(error: Any) -> FieldError:
    path = "".join(
        "/" + quote(str(part)[:100].replace("~", "~0").replace("/", "~1"), safe="~") for part in error["loc"]
    )
    whose = "it" if error["loc"] else "the body"
    detail = f"{whose} should be a JSON object" if error["type"] == "model_type" else error["msg"]
    return FieldError(pointer=f"#{path}", detail=detail)
