"""gunicorn's configuration: `gunicorn --config python:service.gunicorn_conf`.

The artifacts are loaded in each worker, after the fork and before it takes a connection. A worker that cannot load
stays up and says so at /health/ready, since one that raises while booting would take the others down with it.
"""

import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import gunicorn.util
import numpy as np
from flask import Flask
from pydantic import ValidationError

from service.app import create_app
from service.errors import BrokenArtifact
from service.models.artifact import Artifact
from service.models.metadata import verify
from service.models.repository import open_all
from service.models.saved_model_check import Checked
from service.rest.problem_details import raw_response
from service.settings import Settings
from service.telemetry import multiprocess, traces
from service.telemetry.logs import QuietLogger, configuration, from_native_code, log_native
from service.telemetry.middleware import make_request_id
from service.worker import PunctualWorker

# Each connection is an open file, and the usual 1024 are fewer than the 1000 connections and what else is open.
OPEN_FILES = 4096
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < OPEN_FILES:
    _most = OPEN_FILES if _hard == resource.RLIM_INFINITY else min(OPEN_FILES, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _hard))

# For service.models.saved_model_check. oneDNN, unless it is off, announces itself on stderr whatever the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

SLOTS = 4096  # more than there are ever workers

try:
    settings = Settings()
except ValidationError as error:
    first = error.errors()[0]
    value = "".join(f"ADDER_{str(part).upper()} is {first['input']!r}: " for part in first["loc"])
    sys.exit(f"error: {value}{first['msg'].removeprefix('Value error, ')}")
_announcing = multiprocessing.Lock()
_checked: dict[str, Checked] = {}  # by folder
# Without locks, which a killed worker could take with it.
PunctualWorker.loaded = np.frombuffer(RawArray("b", SLOTS), np.bool_)
PunctualWorker.connections = np.frombuffer(RawArray("i", SLOTS), np.int32)

wsgi_app = "service.gunicorn_conf:application()"
bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
worker_class = PunctualWorker
PunctualWorker.receive_seconds = settings.receive_seconds
# To receive, to wait for the network, and as long as the first to send the answer.
PunctualWorker.request_seconds = 2 * settings.receive_seconds + settings.deadline_seconds
workers = settings.workers
graceful_timeout = settings.shutdown_seconds
control_socket_disable = True
logger_class = QuietLogger
logconfig_dict = configuration(settings.log_format)
forwarder_headers = ""  # no client says where the application is mounted


def application() -> Flask:
    """In each worker: the application."""
    return create_app(settings, load)


def not_differing(folder: Path) -> None:
    """Raise BrokenArtifact where the master has not found that a version is what its SavedModel is."""
    checked = _checked.get(str(folder))
    if checked is None:
        raise BrokenArtifact(f"{folder} came after the service started: send SIGHUP")
    if checked["problem"] is not None:
        raise BrokenArtifact(checked["problem"])


def load(folder: Path) -> Artifact:
    """In each worker: a version that can be served. Raises BrokenArtifact."""
    not_differing(folder)
    return Artifact.load(folder, _checked[str(folder)]["signature"])


def on_starting(_master: Any) -> None:
    """In the master, once, before any fork: is there something to serve?"""
    try:
        open_all(settings, verify)
        check_saved_models()
        open_all(settings, not_differing)
    except BrokenArtifact as problem:
        sys.exit(f"error: {problem}")


def when_ready(_master: Any) -> None:
    """In the master, once, when it listens, and before any fork."""
    try:
        multiprocess.prepare()
    except OSError as error:
        sys.exit(f"error: there is no place for the numbers of GET /metrics: {error}: set PROMETHEUS_MULTIPROC_DIR")


def on_reload(master: Any) -> None:
    """In the master, on SIGHUP, before the new workers: connections are left to them from now on."""
    try:
        check_saved_models()
    except BrokenArtifact as problem:
        master.log.error("%s", problem)
    for worker in master.WORKERS.values():
        worker.loaded[worker.slot] = False


def check_saved_models() -> None:
    """Note what TensorFlow finds out about each version. Raises BrokenArtifact where that cannot be found out."""
    command = [sys.executable, "-m", "service.models.saved_model_check"]
    checked = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603  our own
    log_native(checked.stderr)
    if checked.returncode != 0:
        raise BrokenArtifact(
            f"the SavedModels could not be loaded: {' '.join(command)} ended with {checked.returncode}"
        )
    _checked.clear()
    _checked.update(json.loads(checked.stdout))


def pre_fork(master: Any, worker: Any) -> None:
    """In the master, for each worker: the lowest slot that none has."""
    taken = {other.slot for other in master.WORKERS.values()}
    worker.slot = next(slot for slot in range(SLOTS) if slot not in taken)
    worker.connections[worker.slot] = 0


def post_fork(_master: Any, worker: Any) -> None:
    """In each worker, at its begin."""
    multiprocess.share(worker.slot)


def post_worker_init(worker: Any) -> None:
    """In each worker, when it has booted: load. When as many have as there are workers, say what to try."""
    repository, metrics = worker.wsgi.extensions["repository"], worker.wsgi.extensions["metrics"]
    traces.start(worker.wsgi)
    metrics.workers.set(worker.cfg.workers)
    with from_native_code():
        if not repository.load():
            return
    metrics.workers_ready.set(1)
    has_lock = _announcing.acquire(timeout=1)  # one that was killed with it never gives it back
    worker.loaded[worker.slot] = True
    complete = worker.loaded.sum() == worker.cfg.workers
    if has_lock:
        _announcing.release()
    if complete:
        artifacts = repository.all()
        worker.log.info(
            "Ready with %s. Try:\n\n  curl -s %s/predict -H 'content-type: application/json' -d '{\"query\":\"%s\"}'\n",
            ", ".join(f"{artifact.metadata.name} version {artifact.metadata.version}" for artifact in artifacts),
            bind if settings.host not in ("0.0.0.0", "::") else f"localhost:{settings.port}",  # noqa: S104
            artifacts[0].metadata.query_example,
        )


def child_exit(_master: Any, worker: Any) -> None:
    """In the master, when a worker has ended."""
    worker.loaded[worker.slot] = False
    multiprocess.forget(worker.slot)


def on_exit(_master: Any) -> None:
    """In the master, at its end."""
    multiprocess.discard()


def write_error(client: socket.socket, status_int: int, _reason: str, mesg: str) -> None:
    """Instead of gunicorn's own, which writes HTML."""
    with suppress(OSError):
        gunicorn.util.write_nonblock(
            client, raw_response(status_int, mesg or "the request cannot be read", make_request_id())
        )


gunicorn.util.write_error = write_error
