"""The numbers of prometheus_client, kept where every worker can read them: its multiprocess mode, by slot."""

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
NEW_SECONDS = 60  # in which one that has made its folder locks it


class SharedValue:
    """A number in a file that this process alone writes, and that whichever worker is asked reads.

    prometheus_client's own takes a lock, looks for a fork, and looks its place up each time: 1.3 microseconds, for 0.1
    here. And its files are by process, so that those of the dead would pile up. These are by the worker's slot: who
    replaces a dead worker takes over its slot, and counts on from its numbers.
    """

    _multiprocess = True
    folder: ClassVar[Path | None] = None
    slot: ClassVar[int]
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
            self._files[name] = MmapedDict(f"{self.folder}/{name}_{self.slot}.db")  # type: ignore[no-untyped-call]
        file, key = self._files[name], mmap_key(metric, sample, list(names), list(labels), text)
        file.read_value(key)  # makes a place for it; where the file grows, what is mapped of it stays
        self._numbers, self._at = memoryview(file._m).cast("d"), file._positions[key] // 8

    def inc(self, amount: float) -> None:
        """Add to it."""
        self._numbers[self._at] += amount

    def set(self, value: float) -> None:
        """Put another there."""
        self._numbers[self._at] = value

    def get(self) -> float:
        """What is there."""
        return float(self._numbers[self._at])


class Count(Counter):
    """A counter that does not look each time whether it may count."""

    def inc(self, amount: float = 1, _: object = None) -> None:
        """Add to it."""
        self._value.inc(amount)


class Distribution(Histogram):
    """A histogram that does not look each time whether it may count, nor through all its buckets."""

    def observe(self, amount: float, _: object = None) -> None:
        """Count it."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


def prepare() -> None:
    """In the master, before the first worker: an empty folder, PROMETHEUS_MULTIPROC_DIR where that is set, else a new
    one, in memory where there is such a place. Raises OSError."""
    if asked := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        SharedValue.folder = Path(asked)
        SharedValue.folder.mkdir(parents=True, exist_ok=True)
        _empty(SharedValue.folder)
        return
    memory = Path("/dev/shm")  # noqa: S108  only its own there
    place = memory if os.access(memory, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    for folder in place.glob(f"{PREFIX}*"):
        _remove_if_left(folder)
    SharedValue.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    _lock(SharedValue.folder)  # until this process and its workers have ended, however that comes


def _remove_if_left(folder: Path) -> None:
    """Remove what a service that was killed has left."""
    with suppress(OSError):  # another's, or gone meanwhile
        if time.time() - folder.stat().st_mtime > NEW_SECONDS:
            lock = _lock(folder)
            _empty(folder)
            folder.rmdir()
            os.close(lock)


def _lock(folder: Path) -> int:
    """Raises OSError where another process has."""
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


def share(slot: int) -> None:
    """In a worker, before it makes its metrics: keep them in the folder, with those of the others."""
    SharedValue.slot = slot
    values.ValueClass = SharedValue


def forget(slot: int) -> None:
    """In the master, when a worker has died: what it was is no more; what it counted stays."""
    if SharedValue.folder is not None:
        for file in SharedValue.folder.glob(f"gauge_live*_{slot}.db"):
            file.unlink()


def discard() -> None:
    """In the master, at its end: leave nothing in memory."""
    if SharedValue.folder is not None and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        with suppress(OSError):  # somebody has already
            _empty(SharedValue.folder)
            SharedValue.folder.rmdir()


def all_workers() -> CollectorRegistry | None:
    """The sums over all of them; None where nothing is shared."""
    if SharedValue.folder is None:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(SharedValue.folder))  # type: ignore[no-untyped-call]
    return registry
