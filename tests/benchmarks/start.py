"""`python -m tests.benchmarks.start`: time to ready and memory, with adder's newest version alone and with all models.

Both are measured in turn, for several rounds. The figures are medians, and their ratio. Memory is the proportional set
size of master and workers.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import pss_megabytes
from tests.conftest import ROOT, newest
from tests.end_to_end.conftest import Service

ROUNDS = 3
WORKERS = 2


def measure(artifacts: Path) -> tuple[float, float]:
    """Seconds until all workers are ready, and MB at that time."""
    started = time.monotonic()
    service = Service(artifacts=artifacts, workers=WORKERS)
    try:
        service.ready()
        return time.monotonic() - started, memory(service)
    finally:
        service.stop()


def memory(service: Service) -> float:
    """The memory of master and workers, in MB."""
    return pss_megabytes([service.process.pid, *service.workers()])


def main() -> None:
    """Print the medians as a table."""
    shipped = ROOT / "model_artifacts"
    adder = newest("adder")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(adder, Path(folder) / "adder" / adder.name)
        measured: dict[str, list[tuple[float, float]]] = {"alone": [], "all": []}
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
            measured["alone"].append(measure(Path(folder)))
            measured["all"].append(measure(shipped))
    print(f"| {WORKERS} workers | adder {adder.name} alone | all {len(list(shipped.glob('*/*')))} versions | ratio |")
    print("| - | - | - | - |")
    for index, label in enumerate(["seconds to ready", "MB"]):
        alone, every = (statistics.median(row[index] for row in rows) for rows in measured.values())
        print(f"| {label} | {alone:.1f} | {every:.1f} | {every / alone:.2f} |")


if __name__ == "__main__":
    main()
