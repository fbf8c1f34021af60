"""Throughput and cost by the number of workers and the size of batches."""

import json
import time
from typing import NamedTuple

from tests.benchmarks.machine import cpu_seconds
from tests.benchmarks.wrk import wrk
from tests.end_to_end.conftest import Service

CONNECTIONS = {
    1: 32,
    7: 32,
    56: 16,
    512: 4,
    4096: 1,
}  # of each worker, by queries in a request; the queue has room for all
SETTLING_SECONDS = 1.5  # for the service to drop the requests of connections that wrk has closed


class Growth(NamedTuple):
    """The throughput of requests of one size, and the CPU time that one takes in all workers."""

    requests_per_second: float
    cpu_microseconds: float


def measure_growth(service: Service, workers: int, seconds: int) -> dict[int, Growth]:
    """Throughput and cost by the number of queries in a request."""
    growths: dict[int, Growth] = {}
    for queries, connections in CONNECTIONS.items():
        path, body = batch(["%s"] * queries)
        before = cpu_seconds(service.workers())
        load = wrk(service.url + path, workers * connections, seconds, body)
        used = cpu_seconds(service.workers()) - before
        started = load.requests + workers * connections / 2  # wrk ends with a request under way in each connection
        growths[queries] = Growth(load.requests_per_second, 1e6 * used / started)
        time.sleep(SETTLING_SECONDS)
    return growths


def batch(queries: list[str]) -> tuple[str, str]:
    """The path and the body of a request with all the queries."""
    return "/predict/batch", json.dumps({"queries": queries})
