"""How fast a server is, and whether it is right."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from statistics import median
from typing import NamedTuple

from tests.benchmarks.peers.server import NotServed, Target
from tests.benchmarks.wrk import Load, wrk

CONNECTIONS = (1, 16, 64)
CHECKED = 200


class Figures(NamedTuple):
    """Medians over rounds: requests a second by the number of connections, and latencies in ms."""

    requests_per_second: dict[int, float]
    p50_alone: float
    p99_crowded: float


def measure(target: Target, warm_up_seconds: int, seconds: int) -> dict[int, Load]:
    """Load it, after a warm-up with the same number of connections: BentoML learns from one how to meet the next."""
    loads: dict[int, Load] = {}
    for connections in CONNECTIONS:
        # Long enough for each connection to be answered twice, also by one who answers one after another.
        slow = ceil(2 * connections * loads[1].p50_ms / 1000) if loads else 0
        wrk(target.url, connections, max(warm_up_seconds, slow), target.body)
        loads[connections] = wrk(target.url, connections, max(seconds, slow), target.body)
    return loads


def queries() -> list[str]:
    """Some, the same each time."""
    draw = random.Random(1)  # noqa: S311
    return [f"{draw.randint(0, 999)}+{draw.randint(0, 999)}" for _ in range(CHECKED)]


def check(target: Target, expected: dict[str, str]) -> None:
    """Ask sixteen at a time, as batches are where answers could be mixed up.

    Raises NotServed where an answer is not the expected one.
    """
    with ThreadPoolExecutor(16) as pool:
        for query, answer in zip(expected, pool.map(target.ask, expected), strict=True):
            if answer != expected[query]:
                raise NotServed(f"it answers {query} with {answer!r}, and the SavedModel with {expected[query]!r}")


def summary(rounds: Sequence[dict[int, Load]]) -> Figures:
    """The medians."""
    return Figures(
        {count: median(loads[count].requests_per_second for loads in rounds) for count in CONNECTIONS},
        median(loads[1].p50_ms for loads in rounds),
        median(loads[64].p99_ms for loads in rounds),
    )
