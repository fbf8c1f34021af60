"""What this machine is, and what processes take of it. Linux only (proc(5))."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Cores and processor."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else 'an unnamed processor'}"


def pss_megabytes(pids: Iterable[int]) -> float:
    """The proportional set size of all; what they share is counted in shares."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(found) for text in rollups for found in re.findall(r"^Pss: +(\d+) kB$", text, re.MULTILINE)) / 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """What all have used of the cores, in their own code and in the kernel."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS
