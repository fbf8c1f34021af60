"""Configures the logs of the service, gunicorn and TensorFlow: JSON lines, or text for the console."""

import logging
import os
from datetime import UTC, datetime
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from service.errors import quoted
from service.telemetry.records import RequestStats

access_log = logging.getLogger("service.access")


class JsonLineFormatter(JsonFormatter):
    """One JSON object per line: time, level, logger, message, pid, exc_info if there is one, and the extra fields."""

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger", "message": "message", "process": "pid"}
        super().__init__(list(names), rename_fields=names)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """ISO 8601, in UTC."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's logger without its access log, unless `--access-logfile` is set.

    gunicorn enables its access log with any `logconfig_dict`, which costs 20 microseconds for each request.
    """

    @property
    def access_log_enabled(self) -> bool:
        """Whether `--access-logfile` is set."""
        return bool(self.cfg.accesslog)


def configuration(log_format: str) -> dict[str, Any]:
    """Return the configuration for logging.config.dictConfig: all to stderr, in the format `json` or `console`."""
    console = {
        "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
        "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLineFormatter}, "console": console},
        "handlers": {"stderr": {"()": _to_stderr, "formatter": log_format}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"handlers": [], "propagate": True},
            "service": {"level": "INFO"},
            "tensorflow": {"level": "INFO"},
        },
    }


def _to_stderr() -> logging.Handler:
    # A separate file descriptor, which `native_stderr.capture_stderr` does not redirect.
    return logging.StreamHandler(os.fdopen(os.dup(2), "w", buffering=1))


def log_access(stats: RequestStats) -> None:
    """Log a request at its end: method, path, status, and times in milliseconds."""
    request, total = stats.request, 1000 * stats.seconds
    fields: dict[str, Any] = {
        "request_id": stats.request_id,
        "method": request.method,
        "path": request.path,
        "status": stats.status,
        "total_ms": round(total, 3),
    }
    if stats.served is not None:
        metadata = stats.served.artifact.metadata
        fields |= {
            "model": metadata.name,
            "version": metadata.version,
            "queries": stats.queries,
            "queue_ms": round(1000 * stats.queue_seconds, 3),
            "inference_ms": round(1000 * stats.inference_seconds, 3),
        }
    line = "%s %s %d in %.3f ms"
    access_log.info(line, request.method, quoted(request.path), stats.status, total, extra=fields)
