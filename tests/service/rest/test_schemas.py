import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.models.queries import Limits
from service.rest.schemas import PredictRequest
from tests.service.conftest import METADATA, TASK, with_task

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
    assert re.fullmatch(TASK.query_pattern, query)
    assert query == text.replace(" ", "")


def test_a_million_spaces_cause_no_backtracking() -> None:
    with pytest.raises(ValidationError):
        read("1" + " " * 1_000_000 + "1")


@pytest.mark.parametrize("query", ["0+0", "999+999", "999+0", "0+999"])
def test_the_smallest_and_largest_operands_are_valid(query: str) -> None:
    assert read(query) == query


def sentence(text: str, **changes: Any) -> str:
    """The sentence for a text that is not a query."""
    limits = Limits(with_task(**changes), max_batch_queries=10)
    with pytest.raises(ValidationError) as refused:
        PredictRequest.model_validate({"query": text}, context=limits)
    return refused.value.errors()[0]["msg"]


def test_the_first_rule_that_finds_its_mistake_is_named() -> None:
    rules = [
        {"pattern": "b+", "sentence": "{match} is the first {mistake}"},
        {"pattern": "a", "sentence": "{match} is the second"},
    ]
    assert sentence("abb", rules=rules) == "'bb' is the first {mistake}, like '123+456'"
    assert sentence("a", rules=rules) == "'a' is the second, like '123+456'"


def test_the_example_is_the_query_without_its_mistake() -> None:
    assert sentence("007+5") == "the operand '007' has a leading zero: write it without, like '7+5'"
    assert sentence("007+01000") == "the operand '007' has a leading zero: write it without, like '123+456'"


def test_a_text_without_a_known_mistake_gets_the_hint() -> None:
    expected = "'?' is not a query: write two letters, like '123+456'"
    assert sentence("?", hint="two letters") == expected


def test_a_pattern_without_groups_drops_nothing() -> None:
    limits = Limits(with_task(query_pattern="[a-c ]*|123.456"), max_batch_queries=10)
    assert PredictRequest.model_validate({"query": "a b "}, context=limits).query == "a b "
