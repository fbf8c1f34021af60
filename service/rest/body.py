"""Reads and validates the body of a request, or raises a problem that names the fault."""

import codecs
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote

from flask import Request
from gunicorn.http.body import Body
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, ValidationError

from service.errors import (
    SEND_LINES,
    DuplicateKey,
    EmptyBody,
    FieldError,
    Incomplete,
    Invalid,
    TooLarge,
    Unreadable,
    WrongContentEncoding,
    WrongContentType,
)
from service.models.event_loop import give_way, item_done, overdue
from service.models.queries import Limits
from service.rest.gunicorn_body import read_available
from service.rest.media_types import JSON

BLOCK_LINES = 64  # about one call of the model
READ_BYTES = 65_536  # of a body of lines (NDJSON), at once
LONG_BYTES = 16_384  # of JSON: takes about a millisecond to parse
CONTAINER_BYTES = 8  # of JSON for each array or object, at least: `["1+2"],`
MAX_MEMBERS = 1000  # of a compressed body: the rest is copied behind each
TOO_SLOW = "nothing came for ADDER_RECEIVE_SECONDS, so send it again without a pause"
MAX_KEYS = 100  # far more than any request has; each unknown key costs an error

Schema = TypeVar("Schema", bound=BaseModel)


class Line(NamedTuple):
    """A line without its end, and its number, from 1 on; None in the place of a line that is too long."""

    number: int
    text: bytes | None


def parse(request: Request, max_bytes: int) -> Any:
    """Read the body and parse its JSON. Raises WrongContentType, and as `receive` and `load` do."""
    if request.mimetype != JSON:
        if not request.content_length and "HTTP_TRANSFER_ENCODING" not in request.environ:
            raise EmptyBody
        raise WrongContentType(request.content_type or "")
    return load(receive(request, max_bytes))


def load(body: bytes) -> Any:
    """Parse JSON, behind a byte order mark if there is one. Raises Unreadable or DuplicateKey."""
    if len(body) > LONG_BYTES:
        give_way()
    try:
        text = body.removeprefix(codecs.BOM_UTF8).decode()
        _require_few_containers(text)
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        _require_utf8(body)
        raise Unreadable(f"the byte at {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise Unreadable("arrays or objects are nested too deep") from error
    except json.JSONDecodeError as error:
        _require_utf8(body)
        raise Unreadable(_json_error(error)) from error
    except ValueError as error:
        raise Unreadable("a number has more digits than can be read") from error


def validate(document: Any, schema: type[Schema], limits: Limits) -> Schema:
    """Validate a document. Raises Invalid, which names every rule of `schema` that the document breaks."""
    try:
        return schema.model_validate(document, context=limits)
    except ValidationError as error:
        # As many errors as a full batch can have: another document can have any number.
        listed = error.errors(include_url=False)[: limits.max_batch_queries]
        errors = []
        for each in listed:
            item_done()
            errors.append(_field_error(each, schema))
        raise Invalid(errors, error.error_count()) from error


def receive(request: Request, max_bytes: int) -> bytes:
    """Read the whole body, and decompress it; both forms have at most `max_bytes`.

    Flask would truncate a long chunked body, and accept a body that is shorter than announced. Raises TooLarge,
    Incomplete, WrongContentEncoding, or Unreadable.
    """
    announced = request.content_length
    if announced is not None and announced > max_bytes:
        raise TooLarge(max_bytes)
    body = _read(request, max_bytes + 1) if announced is not None else _read_chunks(request, max_bytes)
    if len(body) > max_bytes:
        raise TooLarge(max_bytes)
    _require_all(request, len(body))
    encoding = encoding_of(request)
    return body if encoding == "identity" else _decompressed(body, encoding, max_bytes)


def encoding_of(request: Request) -> str:
    """The Content-Encoding in lower case; "identity" if there is none."""
    return request.headers.get("Content-Encoding", "identity").lower()


def read_lines(request: Request, max_line_bytes: int) -> Iterator[list[Line]]:
    """Yield the lines of a body of any length as they arrive, without blank lines, in blocks of 1 to BLOCK_LINES, and
    let other requests run in between.

    Raises Incomplete, or Unreadable for a body in UTF-16, after it has yielded the lines before.
    """
    splitter, received = _LineSplitter(max_line_bytes), 0
    while piece := _read_available(request):
        item_done()
        received += len(piece)
        lines = splitter.split(piece)
        for start in range(0, len(lines), BLOCK_LINES):
            yield lines[start : start + BLOCK_LINES]
    _require_all(request, received)
    if last := splitter.split(b"\n"):
        yield last


class _LineSplitter:
    """Splits a body into lines, in time linear in its bytes however it arrives: each byte is searched once."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._number, self._is_first = 1, True
        self._pieces: list[bytes] = []  # of the line that has not ended
        self._size = 0

    def split(self, piece: bytes) -> list[Line]:
        """Return the lines that end in this piece, without blank lines."""
        *ended, rest = piece.split(b"\n")
        lines = []
        for part in ended:
            item_done()
            self._add(part)
            line = b"".join(self._pieces)
            if self._number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if self._is_first and line.strip():
                _require_utf8(line)
                self._is_first = False
            if self._size > self._max_line_bytes:
                lines.append(Line(self._number, None))
            elif line.strip():
                lines.append(Line(self._number, line))
            self._number, self._pieces, self._size = self._number + 1, [], 0
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_line_bytes:
            self._pieces.clear()
        elif part:
            self._pieces.append(part)


def _read_available(request: Request) -> bytes:
    """A piece of the body, as soon as one has arrived; b"" at its end."""
    body = request.environ["wsgi.input"]
    if not isinstance(body, Body):
        return _read(request, READ_BYTES)
    try:
        return read_available(body, READ_BYTES)
    except (OSError, ParseException) as error:
        body.failed = True
        raise _interrupted(request) from error


def _read_chunks(request: Request, max_bytes: int) -> bytes:
    """Read a body in chunks to its end, or to more than `max_bytes`, and give way to other requests in between."""
    pieces, size = [], 0
    while size <= max_bytes and (piece := _read_available(request)):
        pieces.append(piece)
        size += len(piece)
        item_done()
    return b"".join(pieces)


def _read(request: Request, most: int) -> bytes:
    try:
        body: bytes = request.environ["wsgi.input"].read(most)
    except (OSError, ParseException) as error:
        raise _interrupted(request) from error
    return body


def _interrupted(request: Request) -> Incomplete:
    if _is_overdue(request):
        return Incomplete(f"the end of the body did not come: {TOO_SLOW}")
    return Incomplete("the body is badly chunked, or was interrupted: send it again")


def _is_overdue(request: Request) -> bool:
    return request.environ.get("gunicorn.socket") in overdue


def _require_all(request: Request, received: int) -> None:
    announced = request.content_length
    if announced is not None and received < announced:
        advice = TOO_SLOW if _is_overdue(request) else "send it again"
        raise Incomplete(f"the body has {received} bytes, and {announced} were announced: {advice}")


def _decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompress deflate, or all members of gzip (RFC 1952 section 2.2)."""
    if encoding not in ("gzip", "x-gzip", "deflate"):  # x-gzip is gzip: RFC 9110 section 8.4.1.3
        raise WrongContentEncoding(encoding)
    members: list[bytes] = []
    rest, room = body, max_bytes + 1
    while rest or not members:
        item_done()
        if len(members) == (1 if encoding == "deflate" else MAX_MEMBERS):
            raise Unreadable(f"the body goes on behind {len(members)} parts compressed with {encoding}")
        decompressor = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # gzip or deflate, by the first bytes
        try:
            members.append(decompressor.decompress(rest, room))
        except zlib.error as error:
            raise Unreadable(f"the body is not compressed with {encoding}, or is damaged") from error
        room -= len(members[-1])
        if room <= 0:
            raise TooLarge(max_bytes)
        if not decompressor.eof:
            raise Incomplete("the compressed body ends early: send it again")
        rest = decompressor.unused_data
    return b"".join(members)


def _require_few_containers(text: str) -> None:
    """Raise Unreadable for a list of arrays or objects alone, which would take long to parse."""
    containers = text.count("[") + text.count("{")
    limit = MAX_KEYS + len(text) // CONTAINER_BYTES
    if containers > limit and text.count(",") > limit:  # without commas they are nested
        raise Unreadable(f"the body has {containers} arrays and objects, far more than a request of its length")


def _require_utf8(body: bytes) -> None:
    """Raise Unreadable if a body has no text, or looks like UTF-16, as PowerShell writes files, or UTF-32."""
    if not body.strip():
        raise EmptyBody
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        raise Unreadable(f"the body looks like {encoding[:6].upper()}: send it in UTF-8")


def _json_error(error: json.JSONDecodeError) -> str:
    """The message of the parser, with the place; the line only if there is more than one."""
    if error.doc[error.pos : error.pos + 1] == "'":
        return f"JSON requires double quotes, and at column {error.colno} is a single one"
    place = f"line {error.lineno} column {error.colno}" if "\n" in error.doc.strip() else f"column {error.colno}"
    lines = f": for more than one object, {SEND_LINES}" if error.msg == "Extra data" else ""
    return f"{error.msg}, at {place}{lines}"


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


def _unknown_field(name: str, fields: list[str]) -> str:
    near = get_close_matches(name[:100], fields, n=1)
    return (
        f"it is not a field: did you mean {near[0]!r}?" if near else f"it is not a field: they are {', '.join(fields)}"
    )


def _field_error(error: Any, schema: type[BaseModel]) -> FieldError:
    path = "".join(
        "/" + quote(str(part)[:100].replace("~", "~0").replace("/", "~1"), safe="~") for part in error["loc"]
    )
    whose = "it" if error["loc"] else "the body"
    detail = f"{whose} should be a JSON object" if error["type"] == "model_type" else error["msg"]
    if error["type"] == "extra_forbidden":
        detail = _unknown_field(str(error["loc"][-1]), list(schema.model_fields))
    return FieldError(pointer=f"#{path}", detail=detail)
