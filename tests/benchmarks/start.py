"""`python -m tests.benchmarks.start`: time to ready and memory, with adder's newest version alone and with all models.

In turn, several rounds; the medians, and their ratio. Linux only: memory is the proportional set size of master and
workers (proc(5), smaps_rollup).
"""

import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.end_to_end.conftest import Service

ROUNDS = 3
WORKERS = 2


def measure(artifacts: Path) -> tuple[float, float]:
    """Seconds until all workers are ready, and then MB."""
    began = time.monotonic()
    service = Service(artifacts=artifacts, workers=WORKERS)
    try:
        service.ready()
        seconds = time.monotonic() - began
        return seconds, sum(pss_megabytes(pid) for pid in [service.process.pid, *service.workers()])
    finally:
        service.stop()


def pss_megabytes(pid: int) -> float:
    """Of one process; what it shares is counted in shares."""
    [kilobytes] = re.findall(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(kilobytes) / 1024


def main() -> None:
    """Print a table."""
    shipped = ROOT / "model_artifacts"
    newest = max((shipped / "adder").iterdir(), key=lambda folder: int(folder.name))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(newest, Path(folder) / "adder" / newest.name)
        measured: dict[str, list[tuple[float, float]]] = {"alone": [], "all": []}
        for turn in range(ROUNDS):
            print(f"round {turn + 1} of {ROUNDS}", file=sys.stderr)
            measured["alone"].append(measure(Path(folder)))
            measured["all"].append(measure(shipped))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in measured.items()
    }
    count = len(list(shipped.glob("*/*")))
    print(
        f"| {WORKERS} workers | adder version {newest.name} alone | all {count} versions | ratio |\n| - | - | - | - |"
    )
    for index, label in enumerate(["seconds to ready", "MB"]):
        alone, every = medians["alone"][index], medians["all"][index]
        print(f"| {label} | {alone:.1f} | {every:.1f} | {every / alone:.2f} |")


if __name__ == "__main__":
    main()
