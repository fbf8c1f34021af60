import os
import platform
import time
from pathlib import Path

import pytest

from service.telemetry import processes
from service.telemetry.metrics import Metrics
from service.telemetry.processes import read_process
from service.worker_board import WorkerBoard
from tests.conftest import ROOT

STAT = "7 (a b) c) S 1 7 7 0 -1 0 0 0 0 0 100 50 30 20 20 0 1 0 500 8192 3 0"


def lines(board: WorkerBoard) -> dict[str, float]:
    """The samples of the exposition without their comments."""
    exposition = Metrics(board).exposition("")[0].decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in exposition if line[0] != "#")}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc with this process and one of another id, of which each has one more open file."""
    monkeypatch.setattr(processes, "PROC", tmp_path)
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1000\n")
    for count, pid in enumerate((os.getpid(), 7), 1):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "stat").write_text(STAT)
        (tmp_path / str(pid) / "limits").write_text("Limit  Soft  Hard\nMax open files   1024   4096   files\n")
        for number in range(count):
            (tmp_path / str(pid) / "fd" / str(number)).touch()
    return tmp_path


def test_a_process_is_read(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert read_process(7) == (1.5, 0.5, 5, 8192, 12288, 2, 1024)
    (proc / "7" / "limits").write_text("Max open files   unlimited   unlimited   files\n")
    assert (read_process(7) or (None,))[-1] == float("inf")
    assert read_process(8) is None


@pytest.mark.usefixtures("proc")
def test_the_processes_of_all_workers_are_exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100, "SC_PAGE_SIZE": 4096}.__getitem__)
    board = WorkerBoard()
    monkeypatch.setattr(os, "getpid", lambda: 7)
    board.enter(3)
    exposed = lines(board)
    # Of the children that have ended, those of the master count: its workers.
    assert exposed["process_cpu_seconds_total"] == 1.5 + 1.5 + 0.5
    assert exposed["process_resident_memory_bytes"] == 2 * 12288
    assert exposed["process_virtual_memory_bytes"] == 2 * 8192
    assert exposed["process_start_time_seconds"] == 1005
    assert (exposed["process_open_fds"], exposed["process_max_fds"]) == (2, 1024)


def test_this_process_is_read() -> None:
    exposed = lines(WorkerBoard())
    assert 0 < exposed["process_open_fds"] < exposed["process_max_fds"]
    assert 0 < exposed["process_resident_memory_bytes"] < exposed["process_virtual_memory_bytes"]
    assert 0 < exposed["process_start_time_seconds"] < time.time()


def test_a_system_without_proc_exposes_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert not [name for name in lines(WorkerBoard()) if name.startswith("process_")]


def test_the_build_has_the_version_of_the_changelog() -> None:
    [build] = [name for name in lines(WorkerBoard()) if name.startswith("adder_build_info")]
    newest = (ROOT / "CHANGELOG.md").read_text().partition("## ")[2].split()[0].lower()
    assert f'version="{newest}"' in build
    assert f'python="{platform.python_version()}"' in build
