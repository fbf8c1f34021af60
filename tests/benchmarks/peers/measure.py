"""The throughput and latency of a server."""

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
    """The loads by number of connections, each after a warm-up with as many: BentoML adapts to its load."""
    loads: dict[int, Load] = {}
    for connections in CONNECTIONS:
        # Long enough for two responses on each connection, even from a server that answers one request at a time.
        slow = ceil(2 * connections * loads[1].p50_ms / 1000) if loads else 0
        wrk(target.url, connections, max(warm_up_seconds, slow), target.body)
        loads[connections] = wrk(target.url, connections, max(seconds, slow), target.body)
    return loads


def summary(rounds: Sequence[dict[int, Load]]) -> Figures:
    """The medians over rounds."""
    return Figures(
        {count: median(loads[count].requests_per_second for loads in rounds) for count in CONNECTIONS},
        median(loads[1].p50_ms for loads in rounds),
        median(loads[64].p99_ms for loads in rounds),
    )
