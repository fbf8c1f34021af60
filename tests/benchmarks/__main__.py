"""Measure this service beside the same stack with a constant answer, and beside the SavedModel without a server.

Writes RESULTS.md and RESULTS.png into tests/benchmarks; with `--small FOLDER` there, after a quick run whose figures
mean nothing.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import results
from tests.benchmarks.answers import CHECKED, check, queries
from tests.benchmarks.growth import SETTLING_SECONDS, batch, grow
from tests.benchmarks.in_process import InProcess
from tests.benchmarks.machine import pss_megabytes
from tests.benchmarks.results import CONSTANT, OURS, Batches, Grown, Loads, Measured, Start
from tests.benchmarks.start import WORKERS, measure, memory
from tests.benchmarks.wrk import require_wrk, wrk
from tests.conftest import newest
from tests.end_to_end.conftest import Service

BATCH = 4096
CONFIG = "tests.benchmarks.constant"  # not imported here: it is gunicorn's, and changes what it is imported into


class Extent(NamedTuple):
    """How much to measure."""

    rounds: int
    seconds: int  # of load, each time
    connections: tuple[int, ...]
    workers: tuple[int, ...]
    requests: int  # over which memory is to stay as it is


FULL = Extent(rounds=3, seconds=4, connections=(1, 2, 4, 8, 16, 32, 64, 128), workers=(1, 2, 3), requests=1_000_000)
SMALL = Extent(rounds=1, seconds=1, connections=(1, 16, 64), workers=(2,), requests=1000)


def main() -> None:
    """Print the page that is written."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--small", type=Path, metavar="FOLDER", help="only find out whether it works")
    folder = parser.parse_args().small
    extent = SMALL if folder else FULL
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and, on the way out, the services that run
    adder = newest("adder")
    try:
        with tempfile.TemporaryDirectory() as alone:
            shutil.copytree(adder, Path(alone, "adder", adder.name))
            loads, batches = compare(adder, Path(alone), extent)
            growth = grow_all(Path(alone), extent)
            megabytes = endure(Path(alone), extent)
            starts = [start(adder, Path(alone)) for _ in turns("start", extent)]
    except (AssertionError, RuntimeError) as problem:
        sys.exit(f"error: {problem}")
    measured = Measured(adder.name, extent.seconds, CHECKED, loads, batches, growth, megabytes, starts)
    print(results.write(measured, folder or Path(__file__).parent))


def compare(adder: Path, artifacts: Path, extent: Extent) -> tuple[Loads, list[Batches]]:
    """Single queries beside the constant answer, batches beside the SavedModel in process; the answers checked."""
    loads: Loads = {name: {connections: [] for connections in extent.connections} for name in (OURS, CONSTANT)}
    batches = []
    with serving(artifacts) as ours, serving(artifacts, CONFIG) as same, closing(InProcess(adder)) as bound:
        check_all(ours, same, bound)
        for _ in turns("load", extent):
            for connections in extent.connections:
                for name, service in ((OURS, ours), (CONSTANT, same)):
                    load = wrk(f"{service.url}/predict", connections, extent.seconds, '{"query":"%s"}')
                    loads[name][connections].append(load)
            batches.append(batches_beside(ours, bound, extent))
    return loads, batches


def check_all(ours: Service, same: Service, bound: InProcess) -> None:
    """Our answers are the SavedModel's, alone and in a batch, and the constant is one. Raises AssertionError."""
    asked = queries(BATCH)
    expected = dict(zip(asked, bound.answers(asked), strict=True))
    path, _ = batch(asked)
    predictions = ours.post(path, {"queries": asked}).json()["predictions"]
    assert [each["answer"] for each in predictions] == [expected[query] for query in asked]
    alone = dict(list(expected.items())[:CHECKED])
    check(lambda query: answer(ours, query), alone)
    check(lambda query: answer(same, query), dict.fromkeys(alone, answer(same, "1+1")))


def batches_beside(ours: Service, bound: InProcess, extent: Extent) -> Batches:
    """Queries a second: over one connection, over one for each worker, and in process."""
    asked = queries(BATCH)
    path, body = batch(asked)

    def over(connections: int) -> float:
        load = wrk(ours.url + path, connections, extent.seconds, body)
        time.sleep(SETTLING_SECONDS)
        return BATCH * load.requests_per_second

    return Batches(over(1), over(WORKERS), bound.queries_per_second(asked, extent.seconds))


def grow_all(artifacts: Path, extent: Extent) -> Grown:
    """By workers and by the queries in a request, each round's."""
    grown: Grown = {workers: defaultdict(list) for workers in extent.workers}
    for _ in turns("growth", extent):
        for workers in extent.workers:
            with serving(artifacts, workers=workers) as service:
                for asked, growth in grow(service, workers, extent.seconds).items():
                    grown[workers][asked].append(growth)
    return grown


def endure(artifacts: Path, extent: Extent) -> dict[int, float]:
    """Megabytes by the requests that have been answered."""
    with serving(artifacts) as service:
        requests = wrk(f"{service.url}/predict", 64, extent.seconds, '{"query":"%s"}').requests
        megabytes = {requests: memory(service)}
        while len(megabytes) < 2 or requests < extent.requests:
            requests += wrk(f"{service.url}/predict", 64, 10 * extent.seconds, '{"query":"%s"}').requests
            megabytes[requests] = memory(service)
            say(f"memory: {megabytes[requests]:.1f} MB after {requests:,} of {extent.requests:,} requests")
    return megabytes


def start(adder: Path, artifacts: Path) -> Start:
    """Time to ready and memory, beside processes that import TensorFlow and load the SavedModel, as many as workers."""
    bare = [InProcess(adder) for _ in range(WORKERS)]
    bare_megabytes = pss_megabytes(process.pid for process in bare)
    for process in bare:
        process.close()
    seconds, megabytes = measure(artifacts)
    return Start(seconds, bare[0].seconds_to_load, megabytes, bare_megabytes)


@contextmanager
def serving(artifacts: Path, config: str = "service.gunicorn_conf", workers: int = WORKERS) -> Iterator[Service]:
    """This service or its likeness, and the end of it."""
    service = Service(config, artifacts=artifacts, workers=workers)
    try:
        yield service.ready()
    finally:
        service.stop()


def answer(service: Service, query: str) -> str:
    """Its answer to one query."""
    return str(service.post("/predict", {"query": query}).json()["answer"])


def turns(what: str, extent: Extent) -> Iterator[int]:
    """The rounds, each announced."""
    for turn in range(1, extent.rounds + 1):
        say(f"{what}: round {turn} of {extent.rounds}")
        yield turn


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
