"""How fast a server is."""

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import NamedTuple

from tests.benchmarks.peers.server import Target
from tests.benchmarks.wrk import Load, wrk

CONNECTIONS = (1, 16, 64)


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


def summary(rounds: Sequence[dict[int, Load]]) -> Figures:
    """The medians."""
    return Figures(
        {count: median(loads[count].requests_per_second for loads in rounds) for count in CONNECTIONS},
        median(loads[1].p50_ms for loads in rounds),
        median(loads[64].p99_ms for loads in rounds),
    )
