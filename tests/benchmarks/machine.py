"""The processor of this machine, and the memory and CPU time of processes. Linux only (proc(5))."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """The number of usable cores, and the name of the processor."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else 'an unnamed processor'}"


def pss_megabytes(pids: Iterable[int]) -> float:
    """The sum of the proportional set sizes: memory that processes share is divided among them."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(found) for text in rollups for found in re.findall(r"^Pss: +(\d+) kB$", text, re.MULTILINE)) / 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """The CPU time of all processes, in user mode and in the kernel."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS
