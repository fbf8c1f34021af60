"""Compare this service with the same stack and a constant answer, and with the SavedModel without a server.

Writes RESULTS.md and RESULTS.png into tests/benchmarks. `--small FOLDER` writes them into FOLDER after a quick run: its
figures mean nothing.
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
from tests.benchmarks.engines import BATCH, measure_engines
from tests.benchmarks.growth import SETTLING_SECONDS, batch, measure_growth
from tests.benchmarks.in_process import InProcess
from tests.benchmarks.machine import pss_megabytes
from tests.benchmarks.overload import measure_overload
from tests.benchmarks.results import CONSTANT, OURS, Batches, Growths, Loads, Measurements, Start
from tests.benchmarks.start import WORKERS, measure, memory
from tests.benchmarks.wrk import require_wrk, wrk
from tests.conftest import newest
from tests.end_to_end.conftest import Service

CONFIG = "tests.benchmarks.constant"  # not imported here: it changes the process that imports it


class Extent(NamedTuple):
    """How much to measure."""

    rounds: int
    seconds: int  # of load, each time
    connections: tuple[int, ...]
    workers: tuple[int, ...]
    requests: int  # after which memory is measured again
    memory_seconds: int  # of load between two measurements of memory
    most_connections: int  # of an overload


FULL = Extent(
    rounds=3,
    seconds=4,
    connections=(1, 2, 4, 8, 16, 32, 64, 128),
    workers=(1, 2, 3),
    requests=1_000_000,
    memory_seconds=40,
    most_connections=3000,
)
SMALL = Extent(
    rounds=1,
    seconds=1,
    connections=(1, 16, 64),
    workers=(2,),
    requests=1000,
    memory_seconds=1,
    most_connections=64,
)


def main() -> None:
    """Print the page that is written."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--small", type=Path, metavar="FOLDER", help="a quick run, to check that it works")
    folder = parser.parse_args().small
    extent = SMALL if folder else FULL
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # which stops the services
    adder = newest("adder")
    try:
        with tempfile.TemporaryDirectory() as alone:
            shutil.copytree(adder, Path(alone, "adder", adder.name))
            loads, batches = compare(adder, Path(alone), extent)
            growths = measure_growths(Path(alone), extent)
            megabytes = measure_memory(Path(alone), extent)
            with serving(Path(alone)) as service:
                overloads = [
                    measure_overload(service, extent.seconds, extent.most_connections)
                    for _ in rounds("overload", extent)
                ]
            engines = [measure_engines(Path(alone), extent.seconds) for _ in rounds("engines", extent)]
            starts = [measure_start(adder, Path(alone)) for _ in rounds("start", extent)]
    except (AssertionError, RuntimeError) as problem:
        sys.exit(f"error: {problem}")
    measurements = Measurements(
        adder.name, extent.seconds, CHECKED, loads, batches, growths, megabytes, engines, overloads, starts
    )
    print(results.write(measurements, folder or Path(__file__).parent))


def compare(adder: Path, artifacts: Path, extent: Extent) -> tuple[Loads, list[Batches]]:
    """Single queries with the model and with a constant answer; batches over HTTP and in process."""
    loads: Loads = {name: {connections: [] for connections in extent.connections} for name in (OURS, CONSTANT)}
    batches = []
    with serving(artifacts) as ours, serving(artifacts, CONFIG) as constant, closing(InProcess(adder)) as in_process:
        check_all(ours, constant, in_process)
        for _ in rounds("load", extent):
            for connections in extent.connections:
                for name, service in ((OURS, ours), (CONSTANT, constant)):
                    load = wrk(f"{service.url}/predict", connections, extent.seconds, '{"query":"%s"}')
                    loads[name][connections].append(load)
            batches.append(measure_batches(ours, in_process, extent))
    return loads, batches


def check_all(ours: Service, constant: Service, in_process: InProcess) -> None:
    """Check that our answers are those of the SavedModel, alone and in a batch, and that the constant answer is one.

    Raises AssertionError.
    """
    checked = queries(BATCH)
    expected = dict(zip(checked, in_process.answers(checked), strict=True))
    path, _ = batch(checked)
    predictions = ours.post(path, {"queries": checked}).json()["predictions"]
    assert [each["answer"] for each in predictions] == [expected[query] for query in checked]
    alone = dict(list(expected.items())[:CHECKED])
    check(lambda query: answer(ours, query), alone)
    check(lambda query: answer(constant, query), dict.fromkeys(alone, answer(constant, "1+1")))


def measure_batches(ours: Service, in_process: InProcess, extent: Extent) -> Batches:
    """Queries a second: over one connection, over one for each worker, and in process."""
    sent = queries(BATCH)
    path, body = batch(sent)

    def over(connections: int) -> float:
        load = wrk(ours.url + path, connections, extent.seconds, body)
        time.sleep(SETTLING_SECONDS)
        return BATCH * load.requests_per_second

    return Batches(over(1), over(WORKERS), in_process.queries_per_second(sent, extent.seconds))


def measure_growths(artifacts: Path, extent: Extent) -> Growths:
    """Throughput and cost in each round, by workers and by the queries in a request."""
    growths: Growths = {workers: defaultdict(list) for workers in extent.workers}
    for _ in rounds("growth", extent):
        for workers in extent.workers:
            with serving(artifacts, workers=workers) as service:
                for count, growth in measure_growth(service, workers, extent.seconds).items():
                    growths[workers][count].append(growth)
    return growths


def measure_memory(artifacts: Path, extent: Extent) -> dict[int, float]:
    """Megabytes, by the number of requests that the service has answered."""
    with serving(artifacts) as service:
        requests = wrk(f"{service.url}/predict", 64, extent.seconds, '{"query":"%s"}').requests
        megabytes = {requests: memory(service)}
        while len(megabytes) < 2 or requests < extent.requests:
            requests += wrk(f"{service.url}/predict", 64, extent.memory_seconds, '{"query":"%s"}').requests
            megabytes[requests] = memory(service)
            print_progress(f"memory: {megabytes[requests]:.1f} MB after {requests:,} of {extent.requests:,} requests")
    return megabytes


def measure_start(adder: Path, artifacts: Path) -> Start:
    """Time to ready and memory, of the service and of as many processes as workers that only load the SavedModel."""
    processes = [InProcess(adder) for _ in range(WORKERS)]
    bare_megabytes = pss_megabytes(process.pid for process in processes)
    for process in processes:
        process.close()
    seconds, megabytes = measure(artifacts)
    return Start(seconds, processes[0].seconds_to_load, megabytes, bare_megabytes)


@contextmanager
def serving(artifacts: Path, config: str = "service.gunicorn_conf", workers: int = WORKERS) -> Iterator[Service]:
    """A service that is ready, and is stopped at the end."""
    service = Service(config, artifacts=artifacts, workers=workers)
    try:
        yield service.ready()
    finally:
        service.stop()


def answer(service: Service, query: str) -> str:
    """The answer of a service to one query."""
    return str(service.post("/predict", {"query": query}).json()["answer"])


def rounds(name: str, extent: Extent) -> Iterator[int]:
    """The numbers of the rounds. Each round is announced."""
    for number in range(1, extent.rounds + 1):
        print_progress(f"{name}: round {number} of {extent.rounds}")
        yield number


def print_progress(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
