import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.telemetry import multiprocess
from service.telemetry.metrics import Metrics
from service.telemetry.multiprocess import SharedValue


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(SharedValue, "folder", None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "values"))
    multiprocess.prepare()
    return tmp_path / "values"


def worker(slot: int, work: Callable[[Metrics], None]) -> None:
    """Work in a process of its own, which then ends."""

    def begin() -> None:
        multiprocess.attach(slot)
        work(Metrics())

    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    process.join()
    assert process.exitcode == 0


def expose() -> list[str]:
    return Metrics().exposition("")[0].decode().splitlines()


def count(metrics: Metrics) -> None:
    metrics.queries.labels("adder", "1").inc(3)
    metrics.inference_duration.labels("adder", "1").observe(0.0003)
    metrics.queue_size.labels("adder", "1").set(7)
    metrics.workers.set(2)


@pytest.mark.usefixtures("folder")
def test_whoever_is_asked_tells_of_all() -> None:
    worker(0, count)
    worker(1, count)
    told = expose()
    assert 'adder_queries_total{model="adder",version="1"} 6.0' in told
    assert 'adder_inference_duration_seconds_bucket{le="0.0005",model="adder",version="1"} 2.0' in told
    assert 'adder_queue_size{model="adder",version="1"} 14.0' in told
    assert "adder_workers 2.0" in told


def test_who_replaces_a_dead_worker_counts_on(folder: Path) -> None:
    worker(0, count)
    multiprocess.mark_process_dead(0)
    told = expose()
    assert 'adder_queries_total{model="adder",version="1"} 3.0' in told
    assert not [line for line in told if line.startswith("adder_queue_size{")]
    files = len(list(folder.iterdir()))
    for _ in range(3):
        worker(0, count)
        multiprocess.mark_process_dead(0)
    assert 'adder_queries_total{model="adder",version="1"} 12.0' in expose()
    assert len(list(folder.iterdir())) == files


def test_a_new_service_counts_from_nothing(folder: Path) -> None:
    worker(0, count)
    multiprocess.prepare()
    assert list(folder.iterdir()) == []


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody has named."""
    monkeypatch.setattr(SharedValue, "folder", None)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    multiprocess.prepare()
    assert SharedValue.folder is not None
    return SharedValue.folder


def test_a_folder_of_its_own_is_gone_at_the_end(own: Path) -> None:
    worker(0, count)
    assert list(own.iterdir())
    multiprocess.close()
    assert not own.exists()


def test_what_a_killed_service_has_left_is_removed_and_what_another_uses_is_not(own: Path) -> None:
    left = own.with_name(f"{multiprocess.PREFIX}left")
    left.mkdir()
    (left / "counter_0.db").touch()
    os.utime(left, (0, 0))
    os.utime(own, (0, 0))
    multiprocess.prepare()
    assert own.is_dir()
    assert not left.exists()
    multiprocess.close()
    own.rmdir()
