import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import task

operands = st.integers(0, task.LARGEST_OPERAND)


def test_queries_are_padded_and_then_reversed() -> None:
    tokens = task.tokenize_queries(np.array([b"1+23"]))
    assert "".join(task.ALPHABET[token] for token in tokens[0]) == "   32+1"


def test_tokenize_pads_and_does_not_reverse() -> None:
    tokens = task.tokenize(np.array([b"24"]), 4)
    assert "".join(task.ALPHABET[token] for token in tokens[0]) == "24  "


@given(st.lists(operands.map(lambda number: str(number).encode()), min_size=1))
def test_detokenize_inverts_tokenize(answers: list[bytes]) -> None:
    assert task.detokenize(task.tokenize(np.array(answers, "S4"), 4)).tolist() == answers


def test_the_first_pad_ends_an_answer() -> None:
    tokens = np.array([[5, task.PAD, 7, 9], [task.PAD, 1, 2, 3]], np.uint8)
    assert task.detokenize(tokens).tolist() == [b"5", b""]


@pytest.mark.parametrize(
    ("text", "message"), [(b"1x2", "outside the alphabet"), (b"1000+100", "has 8 characters; the maximum is 7")]
)
def test_tokenize_refuses_invalid_text(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task.tokenize_queries(np.array([text]))


@given(operands, operands)
def test_queries_sums_and_carries_match_by_position(a: int, b: int) -> None:
    position = 1000 * a + b
    assert QUERIES[position] == f"{a}+{b}".encode()
    assert int(SUMS[position]) == a + b
    assert int(LAST_DIGITS[position]) == (a + b) % 10
    carried = sum((a % 10**n + b % 10**n) >= 10**n for n in (1, 2, 3))
    assert CARRIES[position] == carried


QUERIES, SUMS, LAST_DIGITS, CARRIES = task.queries(), task.sums(), task.last_digits(), task.carry_counts()
