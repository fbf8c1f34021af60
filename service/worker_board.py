"""What the workers of a service share: which of them have loaded their models, and how many connections each has."""

import multiprocessing
from collections.abc import Iterable
from multiprocessing.sharedctypes import RawArray

import numpy as np
import numpy.typing as npt

SIZE = 4096  # more than there are ever workers


class WorkerBoard:
    """Shared memory, created before the fork. A worker writes only at its own index, so that no value needs a lock
    which a killed worker could hold for ever."""

    def __init__(self) -> None:
        self.loaded: npt.NDArray[np.bool_] = np.frombuffer(RawArray("b", SIZE), np.bool_)
        self.connections: npt.NDArray[np.int32] = np.frombuffer(RawArray("i", SIZE), np.int32)
        self._loading = multiprocessing.Lock()

    def reserve(self, taken: Iterable[int]) -> int:
        """The lowest index that is not taken, cleared for a new worker."""
        used = set(taken)
        index = next(index for index in range(SIZE) if index not in used)
        self.connections[index] = 0
        return index

    def mark_loaded(self, index: int, workers: int) -> bool:
        """Note that a worker has loaded. Returns True in the worker that completes all `workers`."""
        has_lock = self._loading.acquire(timeout=1)  # a worker that was killed with the lock never releases it
        self.loaded[index] = True
        complete = bool(self.loaded.sum() == workers)
        if has_lock:
            self._loading.release()
        return complete

    def mark_unloaded(self, index: int) -> None:
        """Note that a worker takes no more connections."""
        self.loaded[index] = False

    def may_accept(self, index: int) -> bool:
        """Whether a worker may take a connection: a worker without models leaves them to workers with models."""
        return bool(self.loaded[index]) or not self.loaded.any()

    def has_most_connections(self, index: int) -> bool:
        """Whether a worker has over a quarter more connections than another that has loaded.

        A long batch needs a worker of its own; many connections need no exact balance.
        """
        counts = self.connections[self.loaded]
        return bool(counts.size and self.connections[index] > 1.25 * counts.min())
