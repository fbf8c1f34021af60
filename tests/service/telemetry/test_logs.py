import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.telemetry.logs import JsonLineFormatter, access_logger
from service.telemetry.records import RequestStats
from tests.service.conftest import StandIn, app_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


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
    headers = {"X-Request-ID": "mine", "User-Agent": "test/1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    with caplog.at_level(logging.INFO, "service.access"):
        client.post("/predict/batch", json={"queries": ["1+2", "3+4"]}, headers=headers)
        client.get("/a%0Ab?query=secret")
    predicted, not_found = (json.loads(JsonLineFormatter().format(record)) for record in caplog.records)
    queue, inference, total = (predicted.pop(name) for name in ("queue_ms", "inference_ms", "total_ms"))
    assert 0 < queue + inference < total
    assert predicted["message"].startswith("POST '/predict/batch' 200 in ")
    del predicted["message"], predicted["time"], predicted["pid"]
    assert predicted == {
        "level": "INFO", "logger": "service.access", "request_id": "mine", "http.request.method": "POST",
        "url.path": "/predict/batch", "http.response.status_code": 200, "client.address": "127.0.0.1",
        "user_agent.original": "test/1", "trace_id": TRACE, "model": "adder", "version": 1, "queries": 2,
    }  # fmt: skip
    assert not_found["message"].startswith(r"GET '/a\nb' 404 in ")
    assert not_found["error.type"] == "/problems/not-found"
    assert not {"model", "trace_id"} & set(not_found)
    assert "secret" not in json.dumps(not_found)


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/predict", "/problems/invalid"), ("/v1/models/adder:predict", "/problems/invalid-argument")],
)
def test_the_line_of_a_refused_request_has_its_problem(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, path: str, problem: str
) -> None:
    client = app_of(StandIn(), tmp_path, access_log=True).test_client()
    with caplog.at_level(logging.INFO, "service.access"):
        client.post(path, json={"query": "1-2"})
    assert json.loads(JsonLineFormatter().format(caplog.records[0]))["error.type"] == problem


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("127.0.0.1", "", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7", "127.0.0.1,::1", "198.51.100.7"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.7", "127.0.0.1", "198.51.100.7"),  # the client may have sent the first
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "10.0.0.0/8", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7", "127.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "", "10.0.0.1"),
        ("10.0.0.1", "2001:db8::7", "*", "2001:db8::7"),
        ("::ffff:127.0.0.1", "198.51.100.7", "127.0.0.1", "198.51.100.7"),
        ("127.0.0.1", "unknown, 198.51.100.7:80", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_client_is_known_behind_proxies(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, peer: str, forwarded: str, proxies: str, address: str
) -> None:
    request = app_of(StandIn(), tmp_path).test_request_context(
        "/predict", headers={"X-Forwarded-For": forwarded}, environ_base={"REMOTE_ADDR": peer}
    )
    with caplog.at_level(logging.INFO, "service.access"), request as context:
        access_logger({"FORWARDED_ALLOW_IPS": proxies})(RequestStats(context.request, "mine", started=0))
    assert vars(caplog.records[0])["client.address"] == address


def test_the_times_of_a_request_are_in_milliseconds(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    app = app_of(StandIn(), tmp_path)
    with caplog.at_level(logging.INFO, "service.access"), app.test_request_context("/predict") as context:
        access_logger({})(
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
