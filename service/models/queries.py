"""The rules for a query, and for the number of queries in a request: pydantic types."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from service.errors import SEND_LINES, quoted
from service.models.event_loop import item_done
from service.models.metadata import Metadata, Task

SEARCHED_CHARACTERS = 1000  # of a text that is not a query, for the mistake in it


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """The limits of a model that validation checks in addition to the schema: pydantic's validation context."""

    metadata: Metadata
    max_batch_queries: int


class InvalidQuery(str):
    """Stands in the place of an invalid query: the sentence of the rule that the query breaks."""


def rule_error(sentence: str) -> PydanticCustomError:
    """The error that a validator raises for a broken rule."""
    # An argument and not the template: the sentence can contain braces of the client.
    return PydanticCustomError("rule", "{sentence}", {"sentence": sentence})


def _valid_query(text: str, info: ValidationInfo) -> str:
    """Return the query that the text is, as the task of the metadata defines it. Raises `rule_error`."""
    task = cast(Limits, info.context).metadata.task
    query = normalize(text, task)
    if query is None:
        raise rule_error(refusal(text, task))
    return query


def _valid_listed_query(text: str, info: ValidationInfo) -> str:
    item_done()
    return _valid_query(text, info)


def normalize(text: str, task: Task) -> str | None:
    """Return the query without the text that the task drops, or None if the text is not a query."""
    match = task.pattern.fullmatch(text)
    if match is None:
        return None
    return "".join(match.groups("")) if task.pattern.groups else text


def refusal(text: str, task: Task) -> str:
    """The sentence of the first rule that finds its mistake in a text that is not a query, with an example: the text
    without the mistake if that is a query, or else the example of the task."""
    start = text[:SEARCHED_CHARACTERS]
    for rule in task.rules:
        if match := re.search(rule.pattern, start):
            sentence, corrected = rule.sentence.replace("{match}", quoted(match.group())), None
            if rule.replacement is not None:
                corrected = normalize(re.sub(rule.pattern, rule.replacement, start), task)
            return f"{sentence}, like {(corrected or task.example)!r}"
    return f"{quoted(text)} is not a query: write {task.hint}, like {task.example!r}"


def _integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_too_many(queries: object, info: ValidationInfo) -> object:
    most = cast(Limits, info.context).max_batch_queries
    if isinstance(queries, list) and not 1 <= len(queries) <= most:
        instead = f": {SEND_LINES}, of any number" if queries else ""
        raise rule_error(f"a batch has 1 to {most} queries, and this one has {len(queries)}{instead}")
    return queries


JsonInteger = BeforeValidator(_integer)  # behind `int` and its limits: JSON has one kind of number, and 3.0 is 3
# Named types: openapi.document defines their schemas, which depend on the artifacts that are served.
Query = TypeAliasType("Query", Annotated[str, AfterValidator(_valid_query)])
Batch = TypeAliasType("Batch", list[Any])
Queries = TypeAliasType(
    "Queries", Annotated[list[Annotated[str, AfterValidator(_valid_listed_query)]], BeforeValidator(_not_too_many)]
)
