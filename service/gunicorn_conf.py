"""gunicorn's configuration: `gunicorn --config python:service.gunicorn_conf`.

Each worker loads the models after the fork, before it accepts connections. A worker that cannot load them keeps
running and reports it at /health/ready: a worker that raises while it boots would stop the whole service. SIGHUP
changes the versions in the workers and not the workers, so that no request can be lost.
"""

import gc
import os
import resource
import socket
import sys
from functools import partial
from typing import Any

from flask import Flask
from gunicorn.config import Config

from service.app import create_app, load_models
from service.errors import ModelUnavailable
from service.models.artifact import Artifact
from service.models.catalog import Catalog, fingerprint, log_news, survey
from service.models.metadata import verify
from service.models.saved_model_check import check_versions
from service.models.shared_catalog import SharedCatalog
from service.settings import Settings, ignored_variable, settings_or_exit
from service.telemetry import multiprocess, traces
from service.telemetry.logs import QuietLogger, configuration
from service.version_changes import VersionChanges, look
from service.worker import StrictGeventWorker
from service.worker_board import WorkerBoard

# gunicorn reads its command line and GUNICORN_CMD_ARGS after this module: these options must stay as they are here.
FIXED_OPTIONS = {
    "bind": "set ADDER_HOST and ADDER_PORT",
    "workers": "set ADDER_WORKERS",
    "graceful_timeout": "set ADDER_SHUTDOWN_SECONDS",
    "worker_class": "the service has one of its own",
    "preload_app": "each worker loads the models itself",
}
NO_FOLDER = "error: the folder of the metrics cannot be created: {}: set PROMETHEUS_MULTIPROC_DIR"
# Each connection is an open file: the usual limit of 1024 does not suffice for gunicorn's 1000 connections.
OPEN_FILES = 4096

settings = settings_or_exit()
board = WorkerBoard()
shared_catalog = SharedCatalog()

wsgi_app = "service.gunicorn_conf:application()"
bind = settings.bind
worker_class = StrictGeventWorker
preload_app = False
workers = settings.workers
graceful_timeout = settings.shutdown_seconds
control_socket_disable = True
logger_class = QuietLogger
logconfig_dict = configuration(settings.log_format)
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}  # with more, two that differ would refuse a request
forwarder_headers = ""  # a client must not set the path at which the application is mounted


def application() -> Flask:
    """In each worker: the application."""
    load = partial(Artifact.load, engine_choice=settings.engine)
    return create_app(settings, load, board, lambda: shared_catalog.active)


def on_starting(master: Any) -> None:
    """In the master, before it listens: exit with one line if an option or the address cannot be used, or if no model
    can be served."""
    _require_options(master.cfg)
    # A second master and systemd's sockets inherit the address; --reuse-port shares it.
    if not (master.master_pid or os.environ.get("LISTEN_FDS") or master.cfg.reuse_port):
        _require_address(settings)
    if ignored := ignored_variable(os.environ):
        master.log.warning("%s", ignored)
    _raise_open_files_limit()
    try:
        multiprocess.find_room(settings.workers)
    except OSError as error:
        sys.exit(NO_FOLDER.format(error))
    try:
        found = survey(settings, lambda folder: verify(folder).sha256)
        versions = sum(map(len, found.served().values()))
        master.log.info("Checking %d version%s", versions, "" if versions == 1 else "s")  # which takes seconds
        catalog = check_versions(Catalog())
    except ModelUnavailable as problem:
        sys.exit(f"error: {problem}")
    log_news(catalog, Catalog())
    shared_catalog.activate(shared_catalog.publish(lambda _: catalog))
    master.handle_hup = partial(look_again, master)


def look_again(master: Any) -> None:
    """In the master, on SIGHUP: look at the versions again, also at those that were refused. The workers follow."""
    master.log.info("Hang up: %s", master.master_name)
    master.log.reopen_files()
    look(shared_catalog, fingerprint(settings))


def when_ready(_master: Any) -> None:
    """In the master, when it listens, before the first fork: create the folder of the metrics."""
    try:
        multiprocess.prepare(settings.workers)
    except OSError as error:
        sys.exit(NO_FOLDER.format(error))


def nworkers_changed(_master: Any, workers: int, _before: int | None) -> None:
    """In the master, at its start and on TTIN and TTOU: record the number of workers that it keeps."""
    board.expected = workers


def pre_fork(master: Any, worker: StrictGeventWorker) -> None:
    """In the master, before each fork: assign the worker an index on the board."""
    worker.assign(board, board.reserve(other.index for other in master.WORKERS.values()), settings)


def post_fork(_master: Any, worker: StrictGeventWorker) -> None:
    """In each worker, before it loads the application: enter it on the board, and attach its metrics."""
    board.enter(worker.index)
    multiprocess.attach(worker.index)


def post_worker_init(worker: StrictGeventWorker) -> None:
    """In each worker, after its start: load the models. The last of them logs that the service is ready."""
    traces.start(worker.wsgi)
    active = shared_catalog.active
    loaded = load_models(worker.wsgi, shared_catalog.read(active))
    gc.freeze()  # what is loaded stays: a full collection would stop the worker for 40 ms to look at it
    board.prepared[worker.index] = active
    if loaded and board.mark_loaded(worker.index):
        _log_ready(worker)
    changes = VersionChanges(settings, worker.wsgi.extensions["repository"], shared_catalog, board, worker.index)
    worker.wsgi.extensions["control"] = changes
    changes.start()


def child_exit(_master: Any, worker: StrictGeventWorker) -> None:
    """In the master, when a worker has ended: clear its place on the board and drop its gauges."""
    board.leave(worker.index)
    multiprocess.mark_process_dead(worker.index)


def on_exit(_master: Any) -> None:
    """In the master, at its end: remove the folder of the metrics."""
    multiprocess.close()


def _require_options(used: Config) -> None:
    own = Config()
    for option, instead in FIXED_OPTIONS.items():
        own.set(option, globals()[option])
        if used.settings[option].get() != own.settings[option].get():
            sys.exit(
                f"error: gunicorn's {used.settings[option].cli[-1]}, on its command line or in GUNICORN_CMD_ARGS, "
                f"cannot be changed: {instead}"
            )


def _require_address(settings: Settings) -> None:
    """Bind the address once, as gunicorn would: it tries five times, and reports each."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        [(*_, address), *_] = socket.getaddrinfo(settings.host, settings.port, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        sys.exit(
            f"error: ADDER_HOST is {settings.host!r}, which is neither an address nor the name of one, like 127.0.0.1: "
            f"{reason}"
        )
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            sys.exit(f"error: {settings.bind} cannot be listened on: {error.strerror}: set ADDER_HOST and ADDER_PORT")


def _raise_open_files_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _log_ready(worker: StrictGeventWorker) -> None:
    repository = worker.wsgi.extensions["repository"]
    worker.log.info(
        "Ready with %s. Try:\n\n  curl -s %s/predict -H 'content-type: application/json' -d '{\"query\":\"%s\"}'\n",
        repository.catalog.sentence(),
        settings.url,
        repository.find().artifact.metadata.task.example,
    )
