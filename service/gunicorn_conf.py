"""gunicorn's configuration: `gunicorn --config python:service.gunicorn_conf`.

TensorFlow is imported and the artifact loaded in each worker, after the fork: a loaded SavedModel does not survive one.
A worker that cannot load stays up and says so at /health/ready, since one that raises while booting would take the
others down with it.
"""

import http
import multiprocessing
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import gunicorn.util
from flask import Flask
from pydantic import ValidationError

from service.problems import MEDIA_TYPE, BrokenArtifact, document
from service.repository import check
from service.settings import Settings
from service.worker import PunctualWorker

# For the workers: TensorFlow's remarks at its start are no errors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


try:
    settings = Settings()
except ValidationError as error:
    first = error.errors()[0]
    variable = "".join(f"ADDER_{str(part).upper()}: " for part in first["loc"])
    sys.exit(f"error: {variable}{first['msg']}")
_ready_workers = multiprocessing.Value("i", 0)

wsgi_app = "service.gunicorn_conf:application()"
bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
worker_class = PunctualWorker
PunctualWorker.receive_seconds = settings.receive_seconds
workers = settings.workers
threads = settings.threads
graceful_timeout = settings.shutdown_seconds
control_socket_disable = True


def application() -> Flask:
    """In each worker: the application."""
    from service.app import create_app

    return create_app(settings)


def on_starting(_master: Any) -> None:
    """In the master, once, before any fork: is there something to serve?"""
    try:
        check(settings)
    except BrokenArtifact as problem:
        sys.exit(f"error: {problem}")


def post_worker_init(worker: Any) -> None:
    """In each worker, when it has booted: load. When all have loaded for the first time, say what to try."""

    def announce() -> None:
        with _ready_workers.get_lock():
            _ready_workers.value += 1
            complete = _ready_workers.value == settings.workers
        if complete:
            metadata = worker.wsgi.extensions["repository"].current().artifact.metadata
            worker.log.info(
                "Ready with %s version %s. Try:\n\n  curl -s %s/predict -H 'content-type: application/json' "
                '-d \'{"query":"%s"}\'\n',
                metadata.name,
                metadata.version,
                bind.replace("0.0.0.0", "localhost").replace("[::]", "localhost"),  # noqa: S104  nothing is bound here
                metadata.query_example,
            )

    worker.wsgi.extensions["repository"].start(announce)


def write_error(client: socket.socket, status_int: int, reason: str, mesg: str) -> None:
    """What gunicorn itself refuses, before the application sees it, as a problem document."""
    name = reason.lower().replace(" ", "-")
    detail = mesg or http.HTTPStatus(status_int).description or reason
    body = document(name, reason, status_int, detail)
    head = (
        f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError):
        gunicorn.util.write_nonblock(client, (head + body).encode("ascii"))


gunicorn.util.write_error = write_error
