"""What addition looks like as text: alphabet, padding, reversal, limits, truth."""

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


def byte_tokens() -> npt.NDArray[np.int32]:
    """For each of the 256 byte values its token, or -1 where the alphabet lacks it: int32 [256]."""
    table = np.full(256, -1, np.int32)
    table[list(ALPHABET.encode())] = np.arange(len(ALPHABET))
    return table


def tokens(texts: Texts, length: int) -> Tokens:
    """Bytes [B] -> uint8 [B, length], padded on the right with spaces.

    Raises ValueError for a text that is longer, or that the alphabet cannot spell.
    """
    longest = np.char.str_len(texts).max(initial=0)
    if longest > length:
        raise ValueError(f"a text has {longest} characters; at most {length} fit")
    spelling = (
        np.char.ljust(texts, length).astype(f"S{length}").view(np.uint8).reshape(-1, length)
    )  # (B, length): bytes
    found = byte_tokens()[spelling]
    if (found < 0).any():
        raise ValueError(f"a text has a character outside the alphabet {ALPHABET!r}")
    return found.astype(np.uint8)


def query_tokens(queries: Texts) -> Tokens:
    """Bytes [B] -> uint8 [B, QUERY_LENGTH], padded, then reversed: the decoder's first characters depend on what the
    encoder read last (the tutorial, after Sutskever et al. 2014, section 3.3)."""
    return tokens(queries, QUERY_LENGTH)[:, ::-1]


def answer_tokens(answers: Texts) -> Tokens:
    """Bytes [B] -> uint8 [B, ANSWER_LENGTH], padded. The first pad ends an answer."""
    return tokens(answers, ANSWER_LENGTH)


def domain() -> tuple[Texts, Texts]:
    """Every query that there is, with its true answer: bytes [1,000,000] twice; "a+b" stands at 1000 a + b."""
    operands = np.arange(LARGEST_OPERAND + 1)
    spelled = operands.astype(f"S{DIGITS}")
    queries = np.char.add(np.char.add(spelled, b"+")[:, None], spelled[None, :])
    answers = (operands[:, None] + operands[None, :]).astype("S4")
    return queries.ravel(), answers.ravel()


def spell(answers: Tokens) -> Texts:
    """Tokens uint8 [B, ANSWER_LENGTH] -> bytes [B]: the characters before the first pad."""
    ended = np.logical_or.accumulate(answers == PAD, axis=1)
    characters = np.where(ended, b"", np.array(list(ALPHABET), "S1")[answers])
    return np.ascontiguousarray(characters).view(f"S{ANSWER_LENGTH}").ravel()
