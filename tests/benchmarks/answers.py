"""Whether the answers of a server are those of the SavedModel."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CHECKED = 200


def queries(count: int) -> list[str]:
    """Random queries, the same each time."""
    draw = random.Random(1)  # noqa: S311
    return [f"{draw.randint(0, 999)}+{draw.randint(0, 999)}" for _ in range(count)]


def check(predict: Callable[[str], str], expected: dict[str, str]) -> None:
    """Send sixteen queries at a time, because batches are where answers could be mixed up.

    Raises AssertionError for an answer that is not the expected one.
    """
    with ThreadPoolExecutor(16) as threads:
        for query, answer in zip(expected, threads.map(predict, expected), strict=True):
            assert answer == expected[query], (
                f"it answers {query} with {answer!r}, and the SavedModel with {expected[query]!r}"
            )
