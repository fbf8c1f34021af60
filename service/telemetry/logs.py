"""What the service, gunicorn and TensorFlow log: lines of JSON, or for people."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from service.errors import quoted
from service.telemetry.records import Ended

access_log = logging.getLogger("service.access")
tensorflow_log = logging.getLogger("tensorflow")

LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
# `INFO: ...`, `E0000 00:00:1764000000.000000 ...` and `2026-11-24 12:00:00.000000: W tensorflow/...`.
LEVEL = re.compile(r"(?:[-0-9]+ [:.0-9]+: )?([IWEF])(?:NFO:|ARNING:|RROR:|ATAL:|\d{4})? ")


class Lines(JsonFormatter):
    """A JSON object a line: time, level, logger, message, pid, exc_info where there is one, and what is extra."""

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger", "message": "message", "process": "pid"}
        super().__init__(list(names), rename_fields=names)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """By ISO 8601, in UTC."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's, which takes any `logconfig_dict` for a wish for its access log, and spends 20 microseconds a request
    on lines that nobody wants."""

    @property
    def access_log_enabled(self) -> bool:
        """Whether gunicorn's own is wanted: `--access-logfile`."""
        return bool(self.cfg.accesslog)


def configuration(log_format: str) -> dict[str, Any]:
    """For logging.config.dictConfig, as gunicorn has it done: all to stderr, as `json` or for the `console`."""
    console = {
        "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
        "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": Lines}, "console": console},
        "handlers": {"stderr": {"()": _to_stderr, "formatter": log_format}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"handlers": [], "propagate": True},
            "service": {"level": "INFO"},
            "tensorflow": {"level": "INFO"},
        },
    }


def _to_stderr() -> logging.Handler:
    # By a descriptor of its own, which stays what it is in `from_native_code`.
    return logging.StreamHandler(os.fdopen(os.dup(2), "w", buffering=1))


@contextmanager
def from_native_code() -> Iterator[None]:
    """Log what C++ writes to stderr meanwhile."""
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            log_native(written.read().decode(errors="replace"))


def log_native(text: str) -> None:
    """Log what TensorFlow has written to stderr, line by line; what it gives no level is a warning."""
    for line in filter(str.strip, text.splitlines()):
        level = LEVEL.match(line)
        tensorflow_log.log(LEVELS[level[1]] if level else logging.WARNING, "%s", line)


def log_access(ended: Ended) -> None:
    """A line for a request: who asked what, what became of it, and how long it took."""
    request, receipt, total = ended.request, ended.receipt, 1000 * ended.seconds
    of_receipt: dict[str, Any] = {}
    if receipt is not None:
        metadata = receipt.served.artifact.metadata
        of_receipt = {
            "model": metadata.name,
            "version": metadata.version,
            "queries": receipt.queries,
            "queue_ms": round(1000 * receipt.queue_seconds, 3),
            "network_ms": round(1000 * receipt.network_seconds, 3),
        }
    fields = {
        "request_id": ended.request_id,
        "method": request.method,
        "path": request.path,
        "status": ended.status,
        "total_ms": round(total, 3),
        **of_receipt,
    }
    line = "%s %s %d in %.3f ms"
    access_log.info(line, request.method, quoted(request.path), ended.status, total, extra=fields)
