"""Addition of two whole numbers with up to a given number of digits, and its last digit alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from training.tasks.task import Labels, Rule, Task, Texts

MINUS = "-\N{MINUS SIGN}\N{EN DASH}"
MULTIPLY_OR_DIVIDE = "*/x:\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}\N{DIVISION SIGN}"
Numbers = npt.NDArray[np.int64]

GROWTH = 2.5
CHUNK = 100_000  # takes some seconds
SEPARATORS = ".,'_\N{RIGHT SINGLE QUOTATION MARK}"


def addition(digits: int) -> Task:
    """Return the task for operands with up to `digits` digits. Up to three digits all queries are enumerated; for more
    digits they are drawn."""
    largest = 10**digits - 1
    operand = f"(0|[1-9][0-9]{{0,{digits - 1}}})"
    enumerated = digits <= 3
    return Task(
        name="addition" if digits == 3 else f"addition-{digits}",
        alphabet="0123456789+ ",
        query_length=2 * digits + 1,
        answer_length=digits + 1,
        query_pattern=rf"^ *{operand} *(\+) *{operand} *$",
        rules=rules(digits),
        hint=f"two whole numbers with one '+' between them, each at most {largest}",
        example="+".join(["123456789"[:digits], "456789123"[:digits]]),
        truth="sum",
        queries=partial(_all_queries, digits) if enumerated else None,
        draw=None if enumerated else partial(_draw, digits),
        chunks=0 if enumerated else 10 ** (2 * digits) // CHUNK,
        chunk=None if enumerated else partial(_chunk, digits),
        mirror=_mirrored,
        salt=b"pairs",
        train_only=tuple(b"%d+%d" % pair for pair in [(0, 0), (0, 1), (largest - 1, largest), (largest, largest)]),
        answers=_sums,
        groups=_groups,
        # Only 91 of the 890,000 train queries of three digits have 3 characters, too few to learn from. The two wrong
        # answers of adder/1 are to short queries.
        oversampling={3: 32, 4: 16, 5: 2} if digits == 3 else {},
    )


def rules(digits: int) -> tuple[Rule, ...]:
    """The mistakes in an addition query, in the order in which they are looked for."""
    # A lookbehind in front of each repetition: the search would otherwise start again at each of its characters.
    return (
        Rule("^ *$", "the query is empty: write two numbers"),
        Rule(f"(?<=[0-9]) *[{MINUS}{MULTIPLY_OR_DIVIDE}] *(?=[0-9])", "{match} is not '+': the model only adds", "+"),
        Rule(f"[{MINUS}] *(?=[0-9])", "{match} is a sign: operands are whole numbers from 0 on"),
        Rule(
            f"(?<=[0-9])[{SEPARATORS}](?=[0-9])",
            "{match} stands between digits: operands are whole numbers, without separators",
        ),
        Rule("(?<![=?])[=?]+ *$", "{match} is not part of a query: leave it out", ""),
        Rule(r"[\t-\r]+", "{match} is not part of a query: leave it out", ""),
        Rule(
            "(?<=[0-9]) +(?=[0-9])",
            "{match} stands between digits: write '+' between two numbers, and in a URL %2B",
            "+",
        ),
        Rule("(?<![0-9])0+([0-9]+)", "the operand {match} has a leading zero: write it without", r"\1"),
        Rule(
            f"(?<![0-9])[0-9]{{{digits + 1},}}", f"the operand {{match}} is too large: {10**digits - 1} is the largest"
        ),
        Rule("[^0-9+ ]", "{match} is no character of a query"),
    )


def last_digit(digits: int) -> Task:
    """Return the task to answer with the last digit of the sum."""
    return replace(addition(digits), name="last-digit", answer_length=1, train_only=(), answers=_last_digits)


def _all_queries(digits: int) -> Texts:
    """All queries, bytes [N]: "a+b" is at position 10^digits a + b."""
    operands = np.arange(10**digits).astype(f"S{digits}")
    return np.char.add(np.char.add(operands, b"+")[:, None], operands[None, :]).ravel()


def _chunk(digits: int, number: int) -> Texts:
    """The queries at the positions from CHUNK times `number` on: bytes [CHUNK]."""
    positions = np.arange(CHUNK * number, CHUNK * (number + 1))
    return _pairs(positions // 10**digits, positions % 10**digits)


def _draw(digits: int, generator: np.random.Generator, count: int) -> Texts:
    """Random pairs. An operand has each length GROWTH times as often as the length before: ten times, as in all
    queries, would leave too few short ones to learn from."""
    shares = GROWTH ** np.arange(digits)
    lengths = 1 + generator.choice(digits, (2, count), p=shares / shares.sum())
    left, right = generator.integers(np.where(lengths == 1, 0, 10 ** (lengths - 1)), 10**lengths)
    return _pairs(left, right)


def _pairs(left: Numbers, right: Numbers) -> Texts:
    return np.char.add(np.char.add(left.astype("S"), b"+"), right.astype("S"))


def _mirrored(queries: Texts) -> Texts:
    """ "a+b" -> "b+a": the sum is the same."""
    left, right = _operands(queries)
    return _pairs(right, left)


def _operands(queries: Texts) -> tuple[Numbers, Numbers]:
    parts = np.char.partition(queries, b"+")  # (N, 3)
    return parts[:, 0].astype(np.int64), parts[:, 2].astype(np.int64)


def _sums(queries: Texts) -> Texts:
    left, right = _operands(queries)
    return (left + right).astype("S")


def _last_digits(queries: Texts) -> Texts:
    left, right = _operands(queries)
    return ((left + right) % 10).astype("S")


def _groups(queries: Texts) -> dict[str, Labels]:
    """By the number of digits of both operands, and by the number of carries: each carry reduces the digit sum by 9."""
    left, right = _operands(queries)
    parts = np.char.str_len(np.char.partition(queries, b"+")).astype(str)
    carries = (_digit_sum(left) + _digit_sum(right) - _digit_sum(left + right)) // 9
    return {"digits": np.char.add(np.char.add(parts[:, 0], "+"), parts[:, 2]), "carries": carries.astype(str)}


def _digit_sum(numbers: Numbers) -> Numbers:
    total = np.zeros_like(numbers)
    while numbers.any():
        total += numbers % 10
        numbers = numbers // 10
    return total


TASKS = (*(addition(digits) for digits in (2, 3, 4, 5)), last_digit(3))
