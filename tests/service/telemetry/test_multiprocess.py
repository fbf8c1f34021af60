import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.telemetry import multiprocess
from service.telemetry.metrics import Metrics
from service.telemetry.multiprocess import FastCounter, FastHistogram, SharedValue, all_workers

BUCKETS = (0.1, 0.5, 1)
AMOUNTS = (0, 0.05, 0.1, 0.3, 0.5, 0.75, 1, 1.5, 100)  # in each bucket, at each bound, and above the last


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that PROMETHEUS_MULTIPROC_DIR names."""
    monkeypatch.setattr(SharedValue, "folder", None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "values"))
    multiprocess.prepare(1)
    return tmp_path / "values"


def run_worker(index: int, work: Callable[[], None]) -> None:
    """Run a worker with that index, in a process of its own, to its end."""

    def run() -> None:
        multiprocess.attach(index)
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == 0


def set_metrics() -> None:
    metrics = Metrics()
    metrics.queries.labels("adder", "1").inc(3)
    metrics.inference_duration.labels("adder", "1").observe(0.0003)
    metrics.queue_size.labels("adder", "1").set(7)


def exposition() -> list[str]:
    return Metrics().exposition("")[0].decode().splitlines()


def samples(registry: CollectorRegistry) -> list[str]:
    """The lines of the exposition, but for the times at which metrics were created."""
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if not line.startswith("#") and "_created" not in line)


def observe(registry: CollectorRegistry, counter: type[Counter], histogram: type[Histogram]) -> None:
    """Use a counter and a histogram, with and without labels."""
    plain_counter = counter("plain", "", registry=registry)
    labelled_counter = counter("labelled", "", ["model"], registry=registry)
    plain_histogram = histogram("seconds", "", buckets=BUCKETS, registry=registry)
    labelled_histogram = histogram("labelled_seconds", "", ["model"], buckets=BUCKETS, registry=registry)
    plain_counter.inc()
    for amount in AMOUNTS:
        plain_counter.inc(amount)
        labelled_counter.labels("adder").inc(amount)
        plain_histogram.observe(amount)
        labelled_histogram.labels("adder").observe(amount)


def expected_samples() -> list[str]:
    """The samples of prometheus_client's own metrics."""
    registry = CollectorRegistry()
    observe(registry, Counter, Histogram)
    return samples(registry)


def test_fast_metrics_count_as_those_of_prometheus_client() -> None:
    registry = CollectorRegistry()
    observe(registry, FastCounter, FastHistogram)
    assert samples(registry) == expected_samples()


@pytest.mark.usefixtures("folder")
def test_shared_values_are_those_of_prometheus_client() -> None:
    run_worker(0, lambda: observe(CollectorRegistry(), FastCounter, FastHistogram))
    registry = all_workers()
    assert registry is not None
    assert samples(registry) == expected_samples()


@pytest.mark.usefixtures("folder")
def test_values_stay_valid_when_their_file_grows() -> None:
    count = 5000  # their keys take several times the first size of the file

    def work() -> None:
        parent = FastCounter("many", "", ["label"], registry=CollectorRegistry())
        counters = [parent.labels(str(number)) for number in range(count // 2)]
        for counter in counters:
            counter.inc()
        counters += [parent.labels(str(number)) for number in range(count // 2, count)]
        for counter in counters:
            counter.inc()

    run_worker(0, work)
    registry = all_workers()
    assert registry is not None
    assert samples(registry) == sorted(
        f'many_total{{label="{number}"}} {2.0 if number < count // 2 else 1.0}' for number in range(count)
    )


@pytest.mark.usefixtures("folder")
def test_the_exposition_has_the_values_of_all_workers() -> None:
    run_worker(0, set_metrics)
    run_worker(1, set_metrics)
    lines = exposition()
    assert 'adder_queries_total{model="adder",version="1"} 6.0' in lines
    assert 'adder_inference_duration_seconds_bucket{le="0.0005",model="adder",version="1"} 2.0' in lines
    assert 'adder_queue_size{model="adder",version="1"} 14.0' in lines


def test_a_replacement_continues_the_counters_of_a_dead_worker(folder: Path) -> None:
    run_worker(0, set_metrics)
    multiprocess.mark_process_dead(0)
    lines = exposition()
    assert 'adder_queries_total{model="adder",version="1"} 3.0' in lines
    assert not [line for line in lines if line.startswith("adder_queue_size{")]
    files = len(list(folder.iterdir()))
    for _ in range(3):
        run_worker(0, set_metrics)
        multiprocess.mark_process_dead(0)
    assert 'adder_queries_total{model="adder",version="1"} 12.0' in exposition()
    assert len(list(folder.iterdir())) == files


def test_a_new_service_starts_with_an_empty_folder(folder: Path) -> None:
    run_worker(0, set_metrics)
    multiprocess.prepare(1)
    assert list(folder.iterdir()) == []


@pytest.fixture
def unnamed_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a service without PROMETHEUS_MULTIPROC_DIR."""
    monkeypatch.setattr(SharedValue, "folder", None)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    multiprocess.prepare(1)
    assert SharedValue.folder is not None
    return SharedValue.folder


def test_close_removes_an_unnamed_folder(unnamed_folder: Path) -> None:
    run_worker(0, set_metrics)
    assert list(unnamed_folder.iterdir())
    multiprocess.close()
    assert not unnamed_folder.exists()


def test_only_the_folder_of_a_killed_service_is_removed(unnamed_folder: Path) -> None:
    abandoned = unnamed_folder.with_name(f"{multiprocess.PREFIX}abandoned")
    abandoned.mkdir()
    (abandoned / "counter_0.db").touch()
    os.utime(abandoned, (0, 0))
    os.utime(unnamed_folder, (0, 0))
    multiprocess.prepare(1)
    assert unnamed_folder.is_dir()
    assert not abandoned.exists()
    multiprocess.close()
    unnamed_folder.rmdir()


def test_no_room_is_an_error_that_says_how_much_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=16, f_frsize=4096))
    with pytest.raises(OSError, match=f"^{folder} has 64 kB free, and 2 workers require 2048 kB$"):
        multiprocess.prepare(2)


def test_temporary_files_stand_in_for_full_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    room = {multiprocess.MEMORY: 15, Path(tempfile.gettempdir()): 4096}
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=room[folder], f_frsize=4096))
    assert multiprocess.find_room(2) == Path(tempfile.gettempdir())
    room[multiprocess.MEMORY] = 4096
    assert multiprocess.find_room(2) == multiprocess.MEMORY
