"""The decorator with which a route documents itself, for the OpenAPI document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.errors import (
    BadHeader,
    ClientDisconnected,
    DeadlineExceeded,
    DuplicateKey,
    EmptyBody,
    Incomplete,
    InferenceError,
    Invalid,
    ModelNotFound,
    ModelUnavailable,
    Problem,
    QueueFull,
    TooLarge,
    Unreadable,
    WrongContentEncoding,
    WrongContentType,
)
from service.rest.media_types import JSON
from service.rest.schemas import ModelSelector

Problems = tuple[type[Problem] | int, ...]  # an int is a plain HTTP status

LOOKUP_ERRORS: Problems = (ModelNotFound, ModelUnavailable)
BODY_ERRORS: Problems = (Unreadable, EmptyBody, DuplicateKey, Incomplete, TooLarge, WrongContentEncoding)
INFERENCE_ERRORS: Problems = (
    *LOOKUP_ERRORS, BadHeader, Invalid, ClientDisconnected, QueueFull, DeadlineExceeded, InferenceError,
)  # fmt: skip
JSON_INFERENCE_ERRORS: Problems = (*BODY_ERRORS, WrongContentType, *INFERENCE_ERRORS)

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route. Types are arguments of a pydantic TypeAdapter; text is `str`. If a body has a method
    `examples(query)`, the document contains its examples, which are valid requests.

    `arguments` is the schema of the URL's arguments. `variables` (JSON schemas of the variables in the path) and
    `headers` (OpenAPI parameters of the headers) are by name. With `error_documents`, errors are ErrorDocuments, as in
    other dialects.
    """

    summary: str
    responses: Mapping[str, Any]  # by media type
    bodies: Mapping[str, Any]
    arguments: type[ModelSelector] | None = None
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: Sequence[type[Problem] | int] = ()
    is_cached: bool = False
    error_documents: bool = False


def documented(summary: str, response: Any, body: Any = None, **more: Any) -> Callable[[View], View]:
    """Document the decorated view: a summary, the types of response and body (JSON, or by media type), and other fields
    of Operation. The docstring of the view is its description."""
    operation = Operation(summary=summary, responses=_by_media_type(response), bodies=_by_media_type(body), **more)

    def decorate(view: View) -> View:
        vars(view)["operation"] = operation
        return view

    return decorate


def _by_media_type(types: Any) -> Mapping[str, Any]:
    if types is None:
        return {}
    return types if isinstance(types, dict) else {JSON: types}
