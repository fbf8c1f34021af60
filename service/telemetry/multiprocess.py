"""prometheus_client's multiprocess mode, with a file for each worker index instead of each process.

This is the only module that uses private names of prometheus_client, whose version is pinned exactly.
"""

import fcntl
import os
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

PREFIX = "neural-adder-metrics-"
MEMORY = Path("/dev/shm")  # noqa: S108  with a new folder for each service
BYTES_PER_WORKER = 1 << 19  # of the files of a worker: five models on all routes fill 0.3 MB
LOCKED_AFTER_SECONDS = 60  # far more than a service needs to lock its new folder


class SharedValue:
    """A number in a memory-mapped file, which one process writes and every worker reads.

    prometheus_client's MmapedValue takes a lock, checks for a fork, and looks its position up at each call: 1.3
    microseconds instead of 0.1. It creates a file for each process, so files of dead workers accumulate. Here a worker
    has the file of its index; the replacement of a dead worker gets the same index and continues its counters.
    """

    _multiprocess = True
    folder: ClassVar[Path | None] = None
    index: ClassVar[int]  # of this worker
    _files: ClassVar[dict[str, Any]] = {}  # MmapedDict has no types

    def __init__(
        self,
        kind: str,
        metric: str,
        sample: str,
        names: Sequence[str],
        labels: Sequence[str],
        text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        name = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        if name not in self._files:
            self._files[name] = MmapedDict(f"{self.folder}/{name}_{self.index}.db")  # type: ignore[no-untyped-call]
        file, key = self._files[name], mmap_key(metric, sample, list(names), list(labels), text)
        file.read_value(key)  # creates the value; the mapping stays valid when the file grows
        self._numbers, self._at = memoryview(file._m).cast("d"), file._positions[key] // 8

    def inc(self, amount: float) -> None:
        """Add to the value."""
        self._numbers[self._at] += amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self._numbers[self._at] = value

    def get(self) -> float:
        """Return the value."""
        return float(self._numbers[self._at])


class FastCounter(Counter):
    """A counter that skips the checks of each call."""

    def inc(self, amount: float = 1, _: object = None) -> None:
        """Add to the value."""
        self._value.inc(amount)


class FastHistogram(Histogram):
    """A histogram that skips the checks of each call, and finds its bucket by bisection."""

    def observe(self, amount: float, _: object = None) -> None:
        """Count a value."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


def find_room(workers: int) -> Path:
    """Return the folder that has room for the metrics of `workers`: PROMETHEUS_MULTIPROC_DIR if set, or shared memory,
    or the folder of temporary files.

    Raises OSError if it has none: where a memory-mapped file has no room, the system kills its process (SIGBUS).
    """
    if configured := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        folder = Path(configured)
        folder.mkdir(parents=True, exist_ok=True)
        _require_room(folder, workers)
        return folder
    if os.access(MEMORY, os.W_OK | os.X_OK):
        with suppress(OSError):
            _require_room(MEMORY, workers)
            return MEMORY
    folder = Path(tempfile.gettempdir())
    _require_room(folder, workers)
    return folder


def _require_room(folder: Path, workers: int) -> None:
    system = os.statvfs(folder)
    # A reload starts the new workers beside the old.
    free, needed = system.f_bavail * system.f_frsize // 1024, 2 * workers * BYTES_PER_WORKER // 1024
    if free < needed:
        raise OSError(f"{folder} has {free} kB free, and {workers} workers require {needed} kB")


def prepare(workers: int) -> None:
    """In the master, before the first of `workers`: create an empty folder where `find_room` has found room. Raises
    OSError."""
    parent = find_room(workers)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        SharedValue.folder = parent
        _empty(SharedValue.folder)
        return
    for folder in parent.glob(f"{PREFIX}*"):
        _remove_if_abandoned(folder)
    SharedValue.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    _lock(SharedValue.folder)  # until this process and its workers have ended, even if they are killed


def _remove_if_abandoned(folder: Path) -> None:
    """Remove the folder of a service that was killed."""
    with suppress(OSError):  # another service uses it, or has removed it
        if time.time() - folder.stat().st_mtime > LOCKED_AFTER_SECONDS:
            lock = _lock(folder)
            _empty(folder)
            folder.rmdir()
            os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder. Raises OSError if another process has locked it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened


def _empty(folder: Path) -> None:
    for file in folder.glob("*.db"):
        file.unlink()


def attach(index: int) -> None:
    """In a worker, before it creates its metrics: keep their values in the files of its index."""
    SharedValue.index = index
    values.ValueClass = SharedValue


def worker_index() -> int:
    """The index of this worker, or 0 in a process that is no worker."""
    return getattr(SharedValue, "index", 0)


def mark_process_dead(index: int) -> None:
    """In the master, when a worker has died: drop the dead worker's gauges, keep its counters."""
    if SharedValue.folder is not None:
        for file in SharedValue.folder.glob(f"gauge_live*_{index}.db"):
            file.unlink()


def close() -> None:
    """In the master, at its end: remove the folder."""
    if SharedValue.folder is not None and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        with suppress(OSError):  # removed already
            _empty(SharedValue.folder)
            SharedValue.folder.rmdir()


def all_workers() -> CollectorRegistry | None:
    """The metrics of all workers together, or None if there is no folder."""
    if SharedValue.folder is None:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(SharedValue.folder))  # type: ignore[no-untyped-call]
    return registry
