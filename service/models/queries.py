"""What a query is, and how many there may be."""

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
    """What a request is held against, beside its shape: pydantic's validation context."""

    metadata: Metadata
    max_batch_queries: int


def _valid_query(text: str, info: ValidationInfo) -> str:
    """The query without the spaces around its operands and operator, in the form that the artifact names."""
    metadata = cast(Limits, info.context).metadata
    if metadata.pattern.fullmatch(text):
        return text
    like = f"like {metadata.query_example!r}"
    operands = [operand.strip(" ") for operand in text.split("+")]
    if len(operands) != 2 or not all(re.fullmatch("[0-9]+", operand) for operand in operands):
        raise broken(f"{quoted(text)} is not a query: write two whole numbers with one '+' between, {like}")
    for operand in operands:
        if len(operand) > 1 and operand.startswith("0"):
            raise broken(f"the operand {quoted(operand)} has a leading zero: write it without, {like}")
        # By length first: Python refuses to read very long numbers.
        if len(operand) > len(str(metadata.largest_operand)) or int(operand) > metadata.largest_operand:
            raise broken(
                f"the operand {quoted(operand)} is too large: {metadata.largest_operand} is the largest, {like}"
            )
    query = "+".join(operands)
    if not metadata.pattern.fullmatch(query):
        raise broken(f"{quoted(text)} does not match {metadata.query_pattern}, the form that this model reads, {like}")
    return query


def _integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Broken(str):
    """A sentence in the place of a query: the rule that it breaks."""


def _not_too_many(queries: object, info: ValidationInfo) -> object:
    most = cast(Limits, info.context).max_batch_queries
    if isinstance(queries, list) and not 1 <= len(queries) <= most:
        raise broken(f"a batch holds 1 to {most} queries, and this one {len(queries)}")
    return queries


def broken(sentence: str) -> PydanticCustomError:
    """For a validator to raise where its rule is broken."""
    # The sentence is no template: braces in it are the client's.
    return PydanticCustomError("rule", "{sentence}", {"sentence": sentence})


whole = BeforeValidator(_integer)  # JSON has one kind of number: 3.0 is 3
# By name, since what they hold to depends on the artifacts: service.openapi.document tells it.
Query = TypeAliasType("Query", Annotated[str, AfterValidator(_valid_query)])
Batch = TypeAliasType("Batch", list[Any])
Queries = TypeAliasType("Queries", Annotated[list[Query], BeforeValidator(_not_too_many)])
