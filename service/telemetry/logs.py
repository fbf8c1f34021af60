"""Configures the logs of the service, gunicorn and TensorFlow: JSON lines, or text for the console."""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from service.errors import quoted
from service.telemetry.records import RequestObserver, RequestStats
from service.telemetry.traces import trace_id

Network = IPv4Network | IPv6Network
LOOPBACK = "127.0.0.1,::1"  # gunicorn's default
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


def access_logger(environment: Mapping[str, str] = os.environ) -> RequestObserver:
    """Return the observer that logs each request at its end. FORWARDED_ALLOW_IPS are the proxies whose X-Forwarded-For
    is believed, as gunicorn believes their X-Forwarded-Proto; the default is this machine."""
    proxies = environment.get("FORWARDED_ALLOW_IPS", LOOPBACK)
    if proxies == "*":
        proxies = "0.0.0.0/0,::/0"
    networks = [ip_network(each.strip(), strict=False) for each in proxies.split(",") if each.strip()]
    return partial(log_access, networks)


def log_access(proxies: Sequence[Network], stats: RequestStats) -> None:
    """Log a request, and times in milliseconds. Fields that OpenTelemetry's semantic conventions define have its
    names."""
    request, total = stats.request, 1000 * stats.seconds
    fields: dict[str, Any] = {
        "request_id": stats.request_id,
        "http.request.method": request.method,
        "url.path": request.path,
        "http.response.status_code": stats.status,
        "client.address": client_address(request.environ, proxies),
        "user_agent.original": request.environ.get("HTTP_USER_AGENT"),
        "trace_id": trace_id(request.environ),
        "error.type": stats.problem or None,
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
    known = {name: value for name, value in fields.items() if value is not None}
    line = "%s %s %d in %.3f ms"
    access_log.info(line, request.method, quoted(request.path), stats.status, total, extra=known)


def client_address(environ: Mapping[str, Any], proxies: Sequence[Network]) -> str | None:
    """The address of the client: the last in X-Forwarded-For before that of a proxy that is believed, or the peer's."""
    client = None
    for text in (environ.get("REMOTE_ADDR", ""), *reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(","))):
        try:
            address = ip_address(text.strip())
        except ValueError:  # no address: a Unix socket, a client that makes it up
            break
        # A socket of IPv6 that accepts IPv4 too shows its addresses mapped.
        client = getattr(address, "ipv4_mapped", None) or address
        if not any(client in proxy for proxy in proxies):
            break
    return None if client is None else str(client)
