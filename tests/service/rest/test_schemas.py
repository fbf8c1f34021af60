import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.models.metadata import Metadata
from service.models.queries import Limits
from service.rest.schemas import PredictRequest
from tests.service.conftest import METADATA

LIMITS = Limits(METADATA, max_batch_queries=10)
spaces = st.text(" ", max_size=3)
operands = st.integers(0, 999).map(str)


def read(query: str) -> str:
    return PredictRequest.model_validate({"query": query}, context=LIMITS).query


@given(operands, operands, spaces, spaces, spaces, spaces)
def test_a_query_may_have_spaces_around_its_parts(a: str, b: str, s: str, t: str, u: str, v: str) -> None:
    assert read(f"{s}{a}{t}+{u}{b}{v}") == f"{a}+{b}"


@given(st.text("0123456789+ -\n٣", max_size=9) | st.text())
def test_a_valid_query_matches_the_pattern_of_the_artifact(text: str) -> None:
    try:
        query = read(text)
    except ValidationError:
        return
    assert re.fullmatch(METADATA.query_pattern, query)
    assert query == text.replace(" ", "")


def test_a_million_spaces_cause_no_backtracking() -> None:
    with pytest.raises(ValidationError):
        read("1" + " " * 1_000_000 + "1")


@pytest.mark.parametrize("query", ["0+0", "999+999", "999+0", "0+999"])
def test_the_smallest_and_largest_operands_are_valid(query: str) -> None:
    assert read(query) == query


def test_the_largest_operand_is_that_of_the_artifact() -> None:
    limits = Limits(
        Metadata.model_construct(
            **dict(METADATA) | {"largest_operand": 99, "query_pattern": r"^[0-9]{1,2}\+[0-9]{1,2}$"}
        ),
        max_batch_queries=10,
    )
    with pytest.raises(ValidationError, match="99 is the largest"):
        PredictRequest.model_validate({"query": "100+1"}, context=limits)


def test_a_query_must_match_the_pattern_of_the_artifact() -> None:
    limits = Limits(
        Metadata.model_construct(**dict(METADATA) | {"query_pattern": r"[1-9]\+[1-9]"}), max_batch_queries=10
    )
    with pytest.raises(ValidationError, match="the form of a query"):
        PredictRequest.model_validate({"query": "10+1"}, context=limits)
