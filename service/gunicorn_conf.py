"""gunicorn's configuration: `gunicorn --config python:service.gunicorn_conf`.

TensorFlow is imported and the artifacts loaded in each worker, after the fork: a loaded SavedModel does not survive
one. A worker that cannot load stays up and says so at /health/ready, since one that raises while booting would take the
others down with it.
"""

import logging
import multiprocessing
import os
import resource
import socket
import sys
from contextlib import suppress
from multiprocessing.sharedctypes import RawArray
from typing import Any

import gunicorn.util
from flask import Flask
from pydantic import ValidationError

from service.app import create_app
from service.artifact import verify
from service.problems import BrokenArtifact, raw_response
from service.repository import open_all
from service.settings import Settings
from service.worker import PunctualWorker

# Each connection is an open file, and the usual 1024 are fewer than the 1000 connections and what else is open.
OPEN_FILES = 4096
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < OPEN_FILES:
    _most = OPEN_FILES if _hard == resource.RLIM_INFINITY else min(OPEN_FILES, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _hard))

# For the workers. oneDNN, unless it is off, announces itself on stderr whatever the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


try:
    settings = Settings()
except ValidationError as error:
    first = error.errors()[0]
    value = "".join(f"ADDER_{str(part).upper()} is {first['input']!r}: " for part in first["loc"])
    sys.exit(f"error: {value}{first['msg'].removeprefix('Value error, ')}")
_announcing = multiprocessing.Lock()
PunctualWorker.loaded = RawArray("b", 1024)  # without a lock, which a killed worker could take with it

wsgi_app = "service.gunicorn_conf:application()"
bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
worker_class = PunctualWorker
PunctualWorker.receive_seconds = settings.receive_seconds
# To receive, to wait for the network, and as long as the first to send the answer.
PunctualWorker.request_seconds = 2 * settings.receive_seconds + settings.deadline_seconds
workers = settings.workers
threads = settings.threads
graceful_timeout = settings.shutdown_seconds
control_socket_disable = True
forwarder_headers = ""  # no client says where the application is mounted


def application() -> Flask:
    """In each worker: the application."""
    return create_app(settings)


def on_starting(_master: Any) -> None:
    """In the master, once, before any fork: is there something to serve?"""
    try:
        open_all(settings, verify)
    except BrokenArtifact as problem:
        sys.exit(f"error: {problem}")


def post_worker_init(worker: Any) -> None:
    """In each worker, when it has booted: load. When as many have as there are workers, say what to try."""

    def announce() -> None:
        with _announcing:
            worker.loaded[worker.slot] = True
            complete = sum(worker.loaded) == worker.cfg.workers
        if complete:
            models = worker.wsgi.extensions["repository"].all()
            worker.log.info(
                "Ready with %s. Try:\n\n  curl -s %s/predict -H 'content-type: application/json' "
                '-d \'{"query":"%s"}\'\n',
                ", ".join(f"{metadata.name} version {metadata.version}" for metadata in models),
                bind if settings.host not in ("0.0.0.0", "::") else f"localhost:{settings.port}",  # noqa: S104
                models[0].query_example,
            )

    # Our lines look like gunicorn's.
    logging.getLogger("service").handlers = worker.log.error_log.handlers
    worker.wsgi.extensions["repository"].start(announce)


def child_exit(_master: Any, worker: Any) -> None:
    """In the master, when a worker has ended."""
    worker.loaded[worker.slot] = False


def write_error(client: socket.socket, status_int: int, _reason: str, mesg: str) -> None:
    """Instead of gunicorn's own, which writes HTML."""
    with suppress(OSError):
        gunicorn.util.write_nonblock(client, raw_response(status_int, mesg or "the request cannot be read"))


gunicorn.util.write_error = write_error
