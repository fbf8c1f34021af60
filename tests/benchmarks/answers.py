"""Whether the answers are those of the SavedModel."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CHECKED = 200


def queries(count: int) -> list[str]:
    """Some, the same each time."""
    draw = random.Random(1)  # noqa: S311
    return [f"{draw.randint(0, 999)}+{draw.randint(0, 999)}" for _ in range(count)]


def check(ask: Callable[[str], str], expected: dict[str, str]) -> None:
    """Ask sixteen at a time, as batches are where answers could be mixed up.

    Raises AssertionError where an answer is not the expected one.
    """
    with ThreadPoolExecutor(16) as threads:
        for query, answer in zip(expected, threads.map(ask, expected), strict=True):
            assert answer == expected[query], (
                f"it answers {query} with {answer!r}, and the SavedModel with {expected[query]!r}"
            )
