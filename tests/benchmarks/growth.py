"""What more workers and larger batches bring."""

import json
import time
from typing import NamedTuple

from tests.benchmarks.machine import cpu_seconds
from tests.benchmarks.wrk import wrk
from tests.end_to_end.conftest import Service

CONNECTIONS = {1: 32, 7: 32, 56: 16, 512: 4, 4096: 1}  # of each worker, by queries in a request; no queue gets full
SETTLING_SECONDS = 1.5  # after which the service has given up what wrk no longer waits for


class Growth(NamedTuple):
    """How fast requests with so many queries are answered, and what one of them takes of the workers' cores."""

    requests_per_second: float
    cpu_microseconds: float


def grow(service: Service, workers: int, seconds: int) -> dict[int, Growth]:
    """By the number of queries in a request."""
    grown: dict[int, Growth] = {}
    for queries, connections in CONNECTIONS.items():
        path, body = batch(["%s"] * queries)
        before = cpu_seconds(service.workers())
        load = wrk(service.url + path, workers * connections, seconds, body)
        used = cpu_seconds(service.workers()) - before
        begun = load.requests + workers * connections / 2  # wrk leaves some half done
        grown[queries] = Growth(load.requests_per_second, 1e6 * used / begun)
        time.sleep(SETTLING_SECONDS)
    return grown


def batch(queries: list[str]) -> tuple[str, str]:
    """Path and body of a request for all of them."""
    return "/predict/batch", json.dumps({"queries": queries})
