"""Reads and validates the body of a request, or raises a problem that names the fault."""

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from flask import Request
from gunicorn.http.body import Body
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
from service.rest.gunicorn_body import read_available
from service.rest.media_types import JSON

BLOCK_LINES = 64  # about one call of the model; other requests run between two blocks
READ_BYTES = 65_536  # of a body of lines (NDJSON), at once
MAX_KEYS = 100  # far more than any request has; each unknown key costs an error

Schema = TypeVar("Schema", bound=BaseModel)


def parse(request: Request, max_bytes: int) -> Any:
    """Read the body and parse its JSON. Raises WrongContentType, and as `receive` and `load` do."""
    if request.mimetype != JSON:
        raise WrongContentType(request.content_type or "")
    return load(receive(request, max_bytes))


def load(body: bytes) -> Any:
    """Parse JSON. Raises Unreadable or DuplicateKey."""
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
    """Validate a document. Raises Invalid, which names every rule of `schema` that the document breaks."""
    try:
        return schema.model_validate(document, context=limits)
    except ValidationError as error:
        # As many errors as a full batch can have: another document can have any number.
        listed = error.errors(include_url=False)[: limits.max_batch_queries]
        raise Invalid([_field_error(each) for each in listed], error.error_count()) from error


def receive(request: Request, max_bytes: int) -> bytes:
    """Read the whole body, and decompress it; both forms have at most `max_bytes`.

    Flask would truncate a long chunked body, and accept a body that is shorter than announced. Raises TooLarge,
    Incomplete, WrongContentEncoding, or Unreadable.
    """
    announced = request.content_length
    if announced is not None and announced > max_bytes:
        raise TooLarge(max_bytes)
    body = _read(request, max_bytes + 1)
    if len(body) > max_bytes:
        raise TooLarge(max_bytes)
    _require_all(request, len(body))
    encoding = encoding_of(request)
    return body if encoding == "identity" else _decompressed(body, encoding, max_bytes)


def encoding_of(request: Request) -> str:
    """The Content-Encoding in lower case; "identity" if there is none."""
    return request.headers.get("Content-Encoding", "identity").lower()


def read_lines(request: Request, max_line_bytes: int) -> Iterator[list[bytes]]:
    """Yield the lines of a body of any length as they arrive, without blank lines, in blocks of 0 to BLOCK_LINES.

    Raises Unreadable for a line that is too long, or Incomplete, after it has yielded the lines before.
    """
    received, rest = 0, b""
    while piece := _read_available(request):
        received += len(piece)
        *lines, rest = (rest + piece).split(b"\n")
        for start in range(0, len(lines), BLOCK_LINES):
            yield [line for line in lines[start : start + BLOCK_LINES] if line.strip()]
        if len(rest) > max_line_bytes:
            raise Unreadable(f"a line has more than {max_line_bytes} bytes")
    _require_all(request, received)
    if rest.strip():
        yield [rest]


def _read_available(request: Request) -> bytes:
    """A piece of the body, as soon as one has arrived; b"" at its end."""
    body = request.environ["wsgi.input"]
    if not isinstance(body, Body):
        return _read(request, READ_BYTES)
    try:
        return read_available(body, READ_BYTES)
    except (OSError, ParseException) as error:
        body.failed = True
        raise _interrupted() from error


def _read(request: Request, most: int) -> bytes:
    try:
        body: bytes = request.environ["wsgi.input"].read(most)
    except (OSError, ParseException) as error:
        raise _interrupted() from error
    return body


def _interrupted() -> Incomplete:
    return Incomplete("the body is badly chunked, or was interrupted: send it again")


def _require_all(request: Request, received: int) -> None:
    announced = request.content_length
    if announced is not None and received < announced:
        raise Incomplete(
            f"the body has {received} bytes, and {announced} were announced: send it again without a pause"
        )


def _decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise WrongContentEncoding(encoding)
    decompressor = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # gzip or deflate, by the first bytes
    try:
        decompressed = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Unreadable(f"the body is not compressed with {encoding}, or is damaged") from error
    if len(decompressed) > max_bytes:
        raise TooLarge(max_bytes)
    if not decompressor.eof:
        raise Incomplete("the compressed body ends early: send it again")
    return decompressed


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
