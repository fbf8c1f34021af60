import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run_conf(code: str, **settings: str) -> list[str]:
    """The words that code prints in a process of its own, with the configuration as `conf`."""
    environment = os.environ | {f"ADDER_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", f"import service.gunicorn_conf as conf\n{code}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_master_imports_no_tensorflow_and_nothing_of_training() -> None:
    imported = run_conf("import sys; conf.on_starting(None); print(*sys.modules)")
    assert not {"tensorflow", "keras", "training"} & set(imported)


def test_a_version_that_nobody_has_checked_is_not_served() -> None:
    code = """
try:
    conf.load(conf.settings.artifacts / "adder" / "1")
except conf.BrokenArtifact as problem:
    print(problem)
"""
    assert " ".join(run_conf(code)).endswith("adder/1 came after the service started: send SIGHUP")


def test_gunicorn_is_told_what_is_set() -> None:
    code = "print(conf.workers, conf.graceful_timeout, conf.bind, conf.worker_class.receive_seconds)"
    told = run_conf(code, WORKERS="3", SHUTDOWN_SECONDS="7", HOST="::1", PORT="9", RECEIVE_SECONDS="4")
    assert told == ["3", "7", "[::1]:9", "4.0"]


def test_it_is_ready_once_when_the_last_worker_is() -> None:
    code = """
from unittest.mock import MagicMock
master = MagicMock(WORKERS={})
for pid in range(3):
    worker = MagicMock(loaded=conf.PunctualWorker.loaded, connections=conf.PunctualWorker.connections)
    worker.cfg.workers = 2
    conf.pre_fork(master, worker)
    master.WORKERS[pid] = worker
    conf.post_worker_init(worker)
    print(worker.log.info.call_count, worker.slot, sum(worker.loaded))
conf.child_exit(None, master.WORKERS.pop(1))
conf.pre_fork(master, worker)
print(worker.slot, sum(worker.loaded))
"""
    assert run_conf(code, WORKERS="2") == ["0", "0", "1", "1", "1", "2", "0", "2", "3", "1", "2"]


def test_a_worker_that_cannot_load_is_not_ready() -> None:
    code = """
from unittest.mock import MagicMock
worker = MagicMock(loaded=conf.PunctualWorker.loaded, slot=0)
worker.wsgi.extensions = {"repository": MagicMock(load=lambda: False), "metrics": MagicMock()}
conf.post_worker_init(worker)
print(worker.log.info.call_count, sum(worker.loaded))
"""
    assert run_conf(code) == ["0", "0"]


def test_no_place_for_the_metrics_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
try:
    conf.when_ready(None)
except SystemExit as end:
    print(end)
"""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/dev/null/metrics")
    said = " ".join(run_conf(code))
    assert said.startswith("error: there is no place for the numbers of GET /metrics: [Errno 20] Not a directory:")
