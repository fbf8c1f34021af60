"""What a route says of itself, beside its schemas: of this the OpenAPI document is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.errors import (
    BadHeader,
    BrokenArtifact,
    ClientLeft,
    DeadlineExceeded,
    DuplicateKey,
    Incomplete,
    Invalid,
    NetworkFailed,
    Problem,
    QueueFull,
    TooLarge,
    UnknownModel,
    Unreadable,
    WrongContentEncoding,
    WrongContentType,
)
from service.rest.media_types import JSON
from service.rest.schemas import Choice

Problems = tuple[type[Problem] | int, ...]  # ours, and the statuses of those that HTTP names

FINDING: Problems = (UnknownModel, BrokenArtifact)
READING: Problems = (Unreadable, DuplicateKey, Incomplete, TooLarge, WrongContentEncoding)
ASKING: Problems = (*FINDING, BadHeader, Invalid, ClientLeft, QueueFull, DeadlineExceeded, NetworkFailed)
ASKING_BY_BODY: Problems = (*READING, WrongContentType, *ASKING)

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route. Types are what a pydantic TypeAdapter takes: text is `str`. A body's `examples(query)`,
    where it has such, are sent by readers and tests, and work.

    `arguments` are those of the URL; `variables` are JSON schemas of what stands in the path, where it is other than
    usual, and `headers` OpenAPI's parameters of the headers that are read here, all by name.
    """

    summary: str
    answers: Mapping[str, Any]  # by media type
    bodies: Mapping[str, Any]
    arguments: type[Choice] | None = None
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: Sequence[type[Problem] | int] = ()
    is_cached: bool = False


def described(summary: str, answer: Any, body: Any = None, **more: Any) -> Callable[[View], View]:
    """A decorator that tells what a view does: in a line, by the types of answer and body, which are JSON, or by media
    type, and by what else an Operation has. What is in the view's docstring is told too."""
    operation = Operation(summary=summary, answers=_by_media(answer), bodies=_by_media(body), **more)

    def tell(view: View) -> View:
        vars(view)["operation"] = operation
        return view

    return tell


def _by_media(types: Any) -> Mapping[str, Any]:
    if types is None:
        return {}
    return types if isinstance(types, dict) else {JSON: types}
