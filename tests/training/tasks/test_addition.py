import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.tasks import Task, find_task

ADDITION, LAST_DIGIT = find_task("addition"), find_task("last-digit")
operands = st.integers(0, 999)


@given(operands, operands)
def test_sums_digits_and_carries(a: int, b: int) -> None:
    query = np.array([f"{a}+{b}".encode()])
    assert ADDITION.answers(query).tolist() == [str(a + b).encode()]
    assert LAST_DIGIT.answers(query).tolist() == [str((a + b) % 10).encode()]
    carried = sum((a % 10**n + b % 10**n) >= 10**n for n in (1, 2, 3))
    groups = {name: labels.tolist() for name, labels in ADDITION.groups(query).items()}
    assert groups == {"digits": [f"{len(str(a))}+{len(str(b))}"], "carries": [str(carried)]}


def test_all_queries_of_three_digits_are_enumerated() -> None:
    assert ADDITION.queries is not None
    queries = ADDITION.queries()
    assert len(np.unique(queries)) == 1_000_000
    assert [queries[position] for position in (0, 1, 1000, 999_999)] == [b"0+0", b"0+1", b"1+0", b"999+999"]


@pytest.mark.parametrize("digits", [4, 5])
def test_longer_queries_are_drawn_with_all_lengths(digits: int) -> None:
    task = find_task(f"addition-{digits}")
    assert task.draw is not None
    drawn = task.draw(np.random.default_rng(1), 20_000)
    assert drawn.tolist() == task.draw(np.random.default_rng(1), 20_000).tolist()
    assert all(re.fullmatch(task.query_pattern, query.decode()) for query in drawn)
    assert len(set(task.groups(drawn)["digits"])) == digits**2
    assert task.tokenize_answers(task.answers(drawn)).shape == (20_000, digits + 1)


def sentence(task: Task, text: str) -> tuple[str, str | None]:
    """The sentence of the first rule that finds its mistake, and the corrected text."""
    for rule in task.rules:
        if match := re.search(rule.pattern, text):
            corrected = None if rule.replacement is None else re.sub(rule.pattern, rule.replacement, text)
            return rule.sentence.replace("{match}", repr(match.group())), corrected
    return "", None


@pytest.mark.parametrize(
    ("text", "expected", "corrected"),
    [
        ("", "the query is empty", None),
        ("12×30", "'×' is not '+'", "12+30"),
        ("5 - 3", "' - ' is not '+'", "5+3"),
        ("-3+5", "'-' is a sign", None),
        ("12+\N{MINUS SIGN}3", "'\N{MINUS SIGN}' is a sign", None),
        ("1,000+2", "',' stands between digits", None),
        ("1.5+2", "'.' stands between digits", None),
        ("12+30=?", "'=?' is not part of a query", "12+30"),
        ("12+30\n", r"'\n' is not part of a query", "12+30"),
        ("12 30", "' ' stands between digits: write '+' between two numbers, and in a URL %2B", "12+30"),
        ("007+5", "the operand '007' has a leading zero", "7+5"),
        ("1000+2", "the operand '1000' is too large: 999 is the largest", None),
        ("12+3a", "'a' is no character of a query", None),
        ("1+2+3", "", None),
    ],
)
def test_each_mistake_gets_its_sentence(text: str, expected: str, corrected: str | None) -> None:
    found, correction = sentence(ADDITION, text)
    assert found.startswith(expected)
    assert (found == "") == (expected == "")
    assert correction == corrected


def test_the_largest_operand_follows_the_digits() -> None:
    assert sentence(find_task("addition-4"), "10000+1")[0] == "the operand '10000' is too large: 9999 is the largest"
    assert sentence(find_task("addition-4"), "1000+1") == ("", None)


@given(operands, operands, *[st.text(" ", max_size=3)] * 4)
def test_the_groups_of_a_query_drop_its_spaces(a: int, b: int, s: str, t: str, u: str, v: str) -> None:
    match = re.fullmatch(ADDITION.query_pattern, f"{s}{a}{t}+{u}{b}{v}")
    assert match is not None
    assert "".join(match.groups()) == f"{a}+{b}"
