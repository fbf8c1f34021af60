import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import task

operands = st.integers(0, task.LARGEST_OPERAND)


def test_a_query_is_padded_and_then_reversed() -> None:
    tokens = task.query_tokens(np.array([b"1+23"]))
    assert "".join(task.ALPHABET[token] for token in tokens[0]) == "   32+1"


def test_an_answer_is_padded_and_not_reversed() -> None:
    tokens = task.tokens(np.array([b"24"]), 4)
    assert "".join(task.ALPHABET[token] for token in tokens[0]) == "24  "


@given(st.lists(operands.map(lambda number: str(number).encode()), min_size=1))
def test_spelling_undoes_tokens(answers: list[bytes]) -> None:
    assert task.spell(task.tokens(np.array(answers, "S4"), 4)).tolist() == answers


def test_the_first_pad_ends_an_answer() -> None:
    tokens = np.array([[5, task.PAD, 7, 9], [task.PAD, 1, 2, 3]], np.uint8)
    assert task.spell(tokens).tolist() == [b"5", b""]


@pytest.mark.parametrize(
    ("text", "message"), [(b"1x2", "outside the alphabet"), (b"1000+100", "has 8 characters; at most 7 fit")]
)
def test_what_cannot_be_spelled_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task.query_tokens(np.array([text]))


@given(operands, operands)
def test_the_domain_holds_every_query_with_its_truth(a: int, b: int) -> None:
    position = 1000 * a + b
    assert QUERIES[position] == f"{a}+{b}".encode()
    assert int(SUMS[position]) == a + b
    assert int(LAST_DIGITS[position]) == (a + b) % 10
    carried = sum((a % 10**n + b % 10**n) >= 10**n for n in (1, 2, 3))
    assert CARRIES[position] == carried


QUERIES, SUMS, LAST_DIGITS, CARRIES = task.queries(), task.sums(), task.last_digits(), task.carries()
