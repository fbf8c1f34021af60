"""The task: addition queries and answers as text and as tokens, and the correct answers."""

import numpy as np
import numpy.typing as npt

ALPHABET = "0123456789+ "
PAD = ALPHABET.index(" ")
LARGEST_OPERAND = 999
DIGITS = len(str(LARGEST_OPERAND))
QUERY_LENGTH = 2 * DIGITS + 1
ANSWER_LENGTH = len(str(2 * LARGEST_OPERAND))
EXAMPLE = "123+456"
_OPERAND = f"(0|[1-9][0-9]{{0,{DIGITS - 1}}})"
QUERY_PATTERN = rf"^{_OPERAND}\+{_OPERAND}$"

Tokens = npt.NDArray[np.uint8]
Texts = npt.NDArray[np.bytes_]


def token_of_byte() -> npt.NDArray[np.int32]:
    """Return the token of each of the 256 byte values, or -1 if it is not in the alphabet: int32 [256]."""
    table = np.full(256, -1, np.int32)
    table[list(ALPHABET.encode())] = np.arange(len(ALPHABET))
    return table


def tokenize(texts: Texts, length: int) -> Tokens:
    """Bytes [B] -> uint8 [B, length], padded on the right with spaces.

    Raises ValueError if a text is longer than `length`, or has a character outside the alphabet.
    """
    longest = np.char.str_len(texts).max(initial=0)
    if longest > length:
        raise ValueError(f"a text has {longest} characters; the maximum is {length}")
    padded = np.char.ljust(texts, length).astype(f"S{length}").view(np.uint8).reshape(-1, length)  # (B, length)
    found = token_of_byte()[padded]
    if (found < 0).any():
        raise ValueError(f"a text has a character outside the alphabet {ALPHABET!r}")
    return found.astype(np.uint8)


def tokenize_queries(queries: Texts) -> Tokens:
    """Bytes [B] -> uint8 [B, QUERY_LENGTH], padded and then reversed.

    The encoder reads the first digits last, so that they are close to the first digits of the answer. Source: the
    tutorial, after Sutskever et al. 2014, section 3.3.
    """
    return tokenize(queries, QUERY_LENGTH)[:, ::-1]


def detokenize(answers: Tokens) -> Texts:
    """Tokens uint8 [B, T] -> bytes [B]: the characters before the first pad, which ends an answer."""
    ended = np.logical_or.accumulate(answers == PAD, axis=1)
    characters = np.where(ended, b"", np.array(list(ALPHABET), "S1")[answers])
    return np.ascontiguousarray(characters).view(f"S{answers.shape[1]}").ravel()


def queries() -> Texts:
    """Return all queries: bytes [1,000,000]. "a+b" is at position 1000 a + b."""
    operands = np.arange(LARGEST_OPERAND + 1).astype(f"S{DIGITS}")
    return np.char.add(np.char.add(operands, b"+")[:, None], operands[None, :]).ravel()


def sums() -> Texts:
    """Return the sum of each of `queries`: bytes [1,000,000]."""
    operands = np.arange(LARGEST_OPERAND + 1)
    return (operands[:, None] + operands[None, :]).astype(f"S{ANSWER_LENGTH}").ravel()


def last_digits() -> Texts:
    """Return the last digit of each of `sums`: bytes [1,000,000]."""
    return (sums().astype(int) % 10).astype("S1")


def carry_counts() -> npt.NDArray[np.int64]:
    """Return the number of carries in each of `sums`: int64 [1,000,000]. Each carry reduces the digit sum by 9."""
    operands = np.arange(LARGEST_OPERAND + 1)
    digits = _digit_sum(operands)
    return ((digits[:, None] + digits[None, :] - _digit_sum(operands[:, None] + operands[None, :])) // 9).ravel()


def _digit_sum(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return numbers % 10 + numbers // 10 % 10 + numbers // 100 % 10 + numbers // 1000
