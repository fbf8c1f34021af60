"""The rules for a query, and for the number of queries in a request: pydantic types."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from service.errors import quoted
from service.models.metadata import Metadata


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
    """Remove spaces around operands and operator, and check the form that the metadata defines. Raises `rule_error`."""
    metadata = cast(Limits, info.context).metadata
    if metadata.pattern.fullmatch(text):
        return text
    like = f"like {metadata.query_example!r}"
    operands = [operand.strip(" ") for operand in text.split("+")]
    if len(operands) != 2 or not all(re.fullmatch("[0-9]+", operand) for operand in operands):
        raise rule_error(f"{quoted(text)} is not a query: write two whole numbers with one '+' between, {like}")
    for operand in operands:
        if len(operand) > 1 and operand.startswith("0"):
            raise rule_error(f"the operand {quoted(operand)} has a leading zero: write it without, {like}")
        # By length first: Python refuses to convert very long numbers.
        if len(operand) > len(str(metadata.largest_operand)) or int(operand) > metadata.largest_operand:
            raise rule_error(
                f"the operand {quoted(operand)} is too large: {metadata.largest_operand} is the largest, {like}"
            )
    query = "+".join(operands)
    if not metadata.pattern.fullmatch(query):
        raise rule_error(f"{quoted(text)} does not match {metadata.query_pattern}, the form of a query, {like}")
    return query


def _integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_too_many(queries: object, info: ValidationInfo) -> object:
    most = cast(Limits, info.context).max_batch_queries
    if isinstance(queries, list) and not 1 <= len(queries) <= most:
        raise rule_error(f"a batch has 1 to {most} queries, and this one has {len(queries)}")
    return queries


JsonInteger = BeforeValidator(_integer)  # behind `int` and its limits: JSON has one kind of number, and 3.0 is 3
# Named types: openapi.document defines their schemas, which depend on the artifacts that are served.
Query = TypeAliasType("Query", Annotated[str, AfterValidator(_valid_query)])
Batch = TypeAliasType("Batch", list[Any])
Queries = TypeAliasType("Queries", Annotated[list[Query], BeforeValidator(_not_too_many)])
