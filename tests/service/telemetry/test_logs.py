import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.telemetry.logs import JsonLineFormatter
from tests.service.conftest import StandIn, app_of


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.LogRecord("service.worker", logging.WARNING, "", 0, message, arguments, **{"exc_info": None} | more)


def test_a_line_is_an_object() -> None:
    told = record("%d queries\nwait", 3)
    told.created = 1_764_000_000.25
    assert json.loads(JsonLineFormatter().format(told)) == {
        "time": "2025-11-24T16:00:00.250Z",
        "level": "WARNING",
        "logger": "service.worker",
        "message": "3 queries\nwait",
        "pid": os.getpid(),
    }


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        line = JsonLineFormatter().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert json.loads(line)["exc_info"].endswith("ValueError: no")


def test_a_request_is_a_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, access_log=True).test_client()
    with caplog.at_level(logging.INFO, "service.access"):
        client.post("/predict/batch", json={"queries": ["1+2", "3+4"]}, headers={"X-Request-ID": "mine"})
        client.get("/a%0Ab")
    asked, strange = (json.loads(JsonLineFormatter().format(record)) for record in caplog.records)
    times = [asked.pop(name) for name in ("queue_ms", "inference_ms", "total_ms")]
    assert 0 < times[0] + times[1] < times[2] < 1000
    assert asked["message"].startswith("POST '/predict/batch' 200 in ")
    del asked["message"], asked["time"], asked["pid"]
    assert asked == {
        "level": "INFO", "logger": "service.access", "request_id": "mine", "method": "POST", "path": "/predict/batch",
        "status": 200, "model": "adder", "version": 1, "queries": 2,
    }  # fmt: skip
    assert strange["message"].startswith(r"GET '/a\nb' 404 in ")
    assert "model" not in strange


def test_nobody_is_told_of_requests_who_does_not_ask(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        app_of(StandIn(), tmp_path).test_client().get("/health/live")
    assert not caplog.records
