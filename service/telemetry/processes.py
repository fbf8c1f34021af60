"""The metrics that belong to no request and no model: the workers, the processes of the service, and its build."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from service import __version__
from service.worker_board import WorkerBoard

PROC = Path("/proc")


class Process(NamedTuple):
    """What /proc says of a process. `waited_seconds` is the CPU time of its children that have ended."""

    cpu_seconds: float
    waited_seconds: float
    started: float  # seconds since the boot
    virtual_bytes: int
    resident_bytes: int
    open_files: int
    max_open_files: float


class ProcessesCollector(Collector):
    """Reads the board of the workers and /proc at each scrape: the values are right after any signal, in any worker.

    The names of `process_*` are those of Prometheus' client libraries; a scrape of one worker speaks for all.
    """

    def __init__(self, board: WorkerBoard) -> None:
        self._board = board
        packages = {
            name: version(package) for name, package in (("gunicorn", "gunicorn"), ("litert", "ai-edge-litert"))
        }
        self._build = {"version": __version__, "python": platform.python_version(), **packages}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily("adder_workers", "Configured worker processes.", self._board.expected)
        yield GaugeMetricFamily("adder_workers_ready", "Worker processes that can answer.", self._board.ready)
        yield InfoMetricFamily(
            "adder_build", "The versions of the service and of its most important parts.", self._build
        )
        yield from self._processes()

    def _processes(self) -> Iterator[Metric]:
        read = (read_process(pid) for pid in (self._board.master, *self._board.worker_pids()))
        processes = [process for process in read if process is not None]
        if not processes:  # a system without /proc
            return
        master, fullest = processes[0], max(processes, key=lambda process: process.open_files)
        # A worker that has ended stays in the sum, as the master has waited for it: the counter never falls.
        cpu = master.waited_seconds + sum(process.cpu_seconds for process in processes)
        yield CounterMetricFamily("process_cpu_seconds", "CPU time of the master and all workers.", cpu)
        for name, text, value in (
            (
                "resident_memory_bytes",
                "Resident memory of the master and all workers.",
                _sum(processes, "resident_bytes"),
            ),
            ("virtual_memory_bytes", "Virtual memory of the master and all workers.", _sum(processes, "virtual_bytes")),
            ("start_time_seconds", "Start of the master, in seconds since the epoch.", boot_time() + master.started),
            ("open_fds", "Open files of the process that has the most.", fullest.open_files),
            ("max_fds", "Open files that this process may have.", fullest.max_open_files),
        ):
            yield GaugeMetricFamily(f"process_{name}", text, value)


def _sum(processes: list[Process], field: str) -> int:
    return sum(getattr(process, field) for process in processes)


def read_process(pid: int) -> Process | None:
    """Read /proc of a process (proc(5)), or return None if it has ended or the system has no /proc."""
    folder = PROC / str(pid)
    try:
        # The name of the program, which may contain anything, ends with the last parenthesis.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        limits = (folder / "limits").read_text().splitlines()
        open_files = len(os.listdir(folder / "fd"))  # noqa: PTH208  no path is needed
    except OSError:
        return None
    user, system, waited_user, waited_system = (int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[11:15])
    [limit] = [line.split()[3] for line in limits if line.startswith("Max open files")]
    return Process(
        cpu_seconds=user + system,
        waited_seconds=waited_user + waited_system,
        started=int(fields[19]) / os.sysconf("SC_CLK_TCK"),
        virtual_bytes=int(fields[20]),
        resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        open_files=open_files,
        max_open_files=float("inf") if limit == "unlimited" else float(limit),
    )


def boot_time() -> float:
    """The boot of the system, in seconds since the epoch."""
    [line] = [line for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime ")]
    return float(line.split()[1])
