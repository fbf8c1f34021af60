"""The catalog in the shared memory of the workers, and its changes."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from pydantic import TypeAdapter

from service.models.catalog import Catalog
from service.shared_memory import anonymous_file, shared_array

CATALOGS = TypeAdapter(dict[int, Catalog])


class SharedCatalog:
    """The catalog by generation: each change has the next number. All workers serve the `active` generation; the
    `latest` is active when all of them have prepared it.

    Created in the master before the fork. The content of the file is read and written under a lock.
    """

    def __init__(self) -> None:
        self._file = anonymous_file("catalog")
        self._numbers = shared_array(np.int64, 2).data

    @property
    def active(self) -> int:
        """The number of the generation that is served; 0 before the first."""
        return self._numbers[0]

    @property
    def latest(self) -> int:
        """The number of the newest generation."""
        return self._numbers[1]

    def read(self, number: int) -> Catalog:
        """Return a generation: the active one or a later one."""
        with self._locked(fcntl.LOCK_SH):
            return self._read()[number]

    def publish(self, revise: Callable[[Catalog], Catalog]) -> int:
        """Make what `revise` returns for the latest generation a new one, and return its number."""
        with self._locked(fcntl.LOCK_EX):
            catalogs = self._read()
            newest = catalogs.get(self.latest, Catalog())
            kept = {number: catalog for number, catalog in catalogs.items() if number >= self.active}
            number = self.latest + 1
            content = CATALOGS.dump_json(kept | {number: revise(newest)})
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, content, 0)
            self._numbers[1] = number
            return number

    def activate(self, number: int) -> bool:
        """Have all workers serve a generation from now on. Returns whether they did not yet."""
        with self._locked(fcntl.LOCK_EX):
            is_new = number > self.active
            self._numbers[0] = max(number, self.active)
            return is_new

    def try_lead(self) -> bool:
        """Whether this process is the one that looks at the folder: from its first call on until it ends."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
        except OSError:
            return False
        return True

    def _read(self) -> dict[int, Catalog]:
        size = os.fstat(self._file).st_size
        return CATALOGS.validate_json(os.pread(self._file, size, 0)) if size else {}

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """A lock of the process, which must not be taken twice."""
        fcntl.lockf(self._file, kind, 1, 0)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)
