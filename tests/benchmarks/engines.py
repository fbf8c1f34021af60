"""The two engines, LiteRT and TensorFlow's SavedModel, behind the same service."""

import time
from pathlib import Path
from statistics import median
from typing import NamedTuple, get_args

from service.models.engines import EngineName
from tests.benchmarks.growth import SETTLING_SECONDS, batch
from tests.benchmarks.start import WORKERS, memory
from tests.benchmarks.wrk import wrk
from tests.end_to_end.conftest import Service

BATCH = 4096
CONNECTIONS = 64  # of single queries


class EngineFigures(NamedTuple):
    """The figures of the service with one engine, in one round."""

    seconds_to_ready: float
    requests_per_second: float  # single queries
    p50_ms: float
    queries_per_second: float  # in batches
    megabytes: float  # after the load


def measure_engines(artifacts: Path, seconds: int) -> dict[EngineName, EngineFigures]:
    """Measure each engine once, one after the other, with `seconds` of each load."""
    return {engine: _measure(artifacts, engine, seconds) for engine in get_args(EngineName)}


def _measure(artifacts: Path, engine: EngineName, seconds: int) -> EngineFigures:
    started = time.monotonic()
    service = Service(artifacts=artifacts, workers=WORKERS, engine=engine)
    try:
        service.ready()
        seconds_to_ready = time.monotonic() - started
        single = wrk(f"{service.url}/predict", CONNECTIONS, seconds, '{"query":"%s"}')
        path, body = batch(["%s"] * BATCH)
        batches = wrk(service.url + path, WORKERS, seconds, body)
        time.sleep(SETTLING_SECONDS)
        return EngineFigures(
            seconds_to_ready,
            single.requests_per_second,
            single.p50_ms,
            BATCH * batches.requests_per_second,
            memory(service),
        )
    finally:
        service.stop()


def engines_table(rounds: list[dict[EngineName, EngineFigures]]) -> str:
    """A row for each engine: medians over the rounds."""
    rows = [
        f"| engine | seconds to ready | requests/s, {CONNECTIONS} connections | p50 ms "
        f"| queries/s in batches of {BATCH}, {WORKERS} connections | MB |",
        "| - | - | - | - | - | - |",
    ]
    by_engine = {engine: [each[engine] for each in rounds] for engine in get_args(EngineName)}
    for engine, figures in by_engine.items():
        ready, requests, p50, queries, megabytes = (median(column) for column in zip(*figures, strict=True))
        rows.append(f"| `{engine}` | {ready:.1f} | {requests:,.0f} | {p50:.2f} | {queries:,.0f} | {megabytes:.0f} |")
    return "\n".join(rows)
