"""Memory that forked processes share. None of it requires a folder that can be written to."""

import mmap
import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt


def shared_array(kind: type[np.generic], size: int) -> npt.NDArray[Any]:
    """Return an array of zeros, [size]."""
    return np.frombuffer(mmap.mmap(-1, size * np.dtype(kind).itemsize), kind)


def anonymous_file(name: str) -> int:
    """Return the descriptor of an empty file. The system releases a lock on it when its process ends."""
    if hasattr(os, "memfd_create"):  # Linux
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
