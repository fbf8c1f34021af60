import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.telemetry.logs import JsonLineFormatter, log_access
from service.telemetry.records import RequestStats
from tests.service.conftest import StandIn, app_of


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.LogRecord("service.worker", logging.WARNING, "", 0, message, arguments, **{"exc_info": None} | more)


def test_a_record_is_one_line_of_json() -> None:
    waiting = record("%d queries\nwait", 3)
    waiting.created = 1_764_000_000.25
    assert json.loads(JsonLineFormatter().format(waiting)) == {
        "time": "2025-11-24T16:00:00.250Z",
        "level": "WARNING",
        "logger": "service.worker",
        "message": "3 queries\nwait",
        "pid": os.getpid(),
    }


def test_an_exception_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        line = JsonLineFormatter().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert json.loads(line)["exc_info"].endswith("ValueError: no")


def test_each_request_is_a_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, access_log=True).test_client()
    with caplog.at_level(logging.INFO, "service.access"):
        client.post("/predict/batch", json={"queries": ["1+2", "3+4"]}, headers={"X-Request-ID": "mine"})
        client.get("/a%0Ab")
    predicted, not_found = (json.loads(JsonLineFormatter().format(record)) for record in caplog.records)
    queue, inference, total = (predicted.pop(name) for name in ("queue_ms", "inference_ms", "total_ms"))
    assert 0 < queue + inference < total
    assert predicted["message"].startswith("POST '/predict/batch' 200 in ")
    del predicted["message"], predicted["time"], predicted["pid"]
    assert predicted == {
        "level": "INFO", "logger": "service.access", "request_id": "mine", "method": "POST", "path": "/predict/batch",
        "status": 200, "model": "adder", "version": 1, "queries": 2,
    }  # fmt: skip
    assert not_found["message"].startswith(r"GET '/a\nb' 404 in ")
    assert "model" not in not_found


def test_the_times_of_a_request_are_in_milliseconds(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    app = app_of(StandIn(), tmp_path)
    with caplog.at_level(logging.INFO, "service.access"), app.test_request_context("/predict") as context:
        log_access(
            RequestStats(
                context.request, "mine", started=0, served=app.extensions["repository"].find(), queries=1,
                queue_seconds=0.0015, inference_seconds=0.25, status=200, seconds=0.3,
            )
        )  # fmt: skip
    line = json.loads(JsonLineFormatter().format(caplog.records[0]))
    assert (line["queue_ms"], line["inference_ms"], line["total_ms"]) == (1.5, 250, 300)
    assert line["message"] == "GET '/predict' 200 in 300.000 ms"


def test_no_request_is_logged_by_default(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, "service.access"):
        app_of(StandIn(), tmp_path).test_client().get("/health/live")
    assert not caplog.records
