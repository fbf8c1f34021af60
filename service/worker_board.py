"""Shared memory of the workers: which there are, whether each has loaded its models, its number of connections."""

import fcntl
import os
from collections.abc import Iterable
from functools import partial

import numpy as np

from service.shared_memory import anonymous_file, shared_array

SIZE = 4096  # of workers: ADDER_WORKERS is at most 1024, and a reload runs old and new workers


class WorkerBoard:
    """Shared memory, created in the master before the fork. A worker writes only at its own index: no value requires a
    lock, which a killed worker could hold for ever."""

    def __init__(self) -> None:
        self.master = os.getpid()
        array = partial(shared_array, size=SIZE)
        self.loaded = array(np.bool_)
        self.prepared = array(np.int64)  # the generation of versions that a worker has loaded
        self.connections = array(np.int32)
        self._pids = array(np.int32)
        self._expected = array(np.int32)  # one number, which only the master writes
        # No lock of multiprocessing, which requires /dev/shm. The system releases this one if its process is killed.
        self._loading = anonymous_file("worker-board")

    def reserve(self, taken: Iterable[int]) -> int:
        """Return the lowest index that is not taken, with its number of connections set to 0."""
        used = set(taken)
        index = next(index for index in range(SIZE) if index not in used)
        self.connections[index] = 0
        return index

    @property
    def expected(self) -> int:
        """The number of workers that the master keeps: ADDER_WORKERS, changed by TTIN and TTOU."""
        return int(self._expected[0])

    @expected.setter
    def expected(self, workers: int) -> None:
        self._expected[0] = workers

    @property
    def ready(self) -> int:
        """The number of workers that can answer."""
        return int(self.loaded.sum())

    def worker_pids(self) -> list[int]:
        """The process ids of all workers."""
        return [int(pid) for pid in self._pids[self._pids != 0]]

    def enter(self, index: int) -> None:
        """Record the process id of a worker, in this worker."""
        self._pids[index] = os.getpid()

    def mark_loaded(self, index: int) -> bool:
        """Record that a worker has loaded its models. Returns True to the last of the expected workers."""
        fcntl.lockf(self._loading, fcntl.LOCK_EX)
        self.loaded[index] = True
        complete = bool(self.loaded.sum() == self.expected)
        fcntl.lockf(self._loading, fcntl.LOCK_UN)
        return complete

    def mark_unloaded(self, index: int) -> None:
        """Record that a worker accepts no more connections."""
        self.loaded[index] = False

    def leave(self, index: int) -> None:
        """Record that a worker has ended."""
        self.mark_unloaded(index)
        self._pids[index] = 0

    def have_prepared(self, generation: int) -> bool:
        """Whether all workers that can answer have loaded a generation of versions."""
        return bool((self.prepared[self.loaded] == generation).all())

    def may_accept(self, index: int) -> bool:
        """Whether a worker may accept a connection: a worker without models leaves them to workers with models."""
        return bool(self.loaded[index]) or not self.loaded.any()

    def has_most_connections(self, index: int) -> bool:
        """Whether a worker has over a quarter more connections than another that has loaded.

        A long batch requires a worker without other requests; many connections require no exact balance.
        """
        counts = self.connections[self.loaded]
        return bool(counts.size and self.connections[index] > 1.25 * counts.min())
