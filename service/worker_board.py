"""Shared memory of the workers: whether each has loaded its models, and its number of connections."""

import multiprocessing
from collections.abc import Iterable
from multiprocessing.sharedctypes import RawArray

import numpy as np
import numpy.typing as npt

SIZE = 4096  # of workers: ADDER_WORKERS is at most 1024, and a reload runs old and new workers


class WorkerBoard:
    """Shared memory, created before the fork. A worker writes only at its own index: no value requires a lock, which a
    killed worker could hold for ever."""

    def __init__(self) -> None:
        self.loaded: npt.NDArray[np.bool_] = np.frombuffer(RawArray("b", SIZE), np.bool_)
        self.connections: npt.NDArray[np.int32] = np.frombuffer(RawArray("i", SIZE), np.int32)
        self._loading = multiprocessing.Lock()

    def reserve(self, taken: Iterable[int]) -> int:
        """Return the lowest index that is not taken, with its number of connections set to 0."""
        used = set(taken)
        index = next(index for index in range(SIZE) if index not in used)
        self.connections[index] = 0
        return index

    def mark_loaded(self, index: int, workers: int) -> bool:
        """Record that a worker has loaded its models. Returns True to the last of all `workers`."""
        has_lock = self._loading.acquire(timeout=1)  # a worker that was killed with the lock never releases it
        self.loaded[index] = True
        complete = bool(self.loaded.sum() == workers)
        if has_lock:
            self._loading.release()
        return complete

    def mark_unloaded(self, index: int) -> None:
        """Record that a worker accepts no more connections."""
        self.loaded[index] = False

    def may_accept(self, index: int) -> bool:
        """Whether a worker may accept a connection: a worker without models leaves them to workers with models."""
        return bool(self.loaded[index]) or not self.loaded.any()

    def has_most_connections(self, index: int) -> bool:
        """Whether a worker has over a quarter more connections than another that has loaded.

        A long batch requires a worker without other requests; many connections require no exact balance.
        """
        counts = self.connections[self.loaded]
        return bool(counts.size and self.connections[index] > 1.25 * counts.min())
