"""No header is an internal error, at any route."""

from pathlib import Path

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from tests.service.conftest import StandIn, app_of

ROUTES = [
    "GET /", "GET /docs", "GET /openapi.json", "GET /problems", "GET /problems/invalid", "GET /models", "GET /metrics",
    "GET /static/page.js", "GET /models/adder/1/encoder.png", "GET /health/ready", "GET /nothing",
    "GET /predict/stream", "OPTIONS /predict", "POST /predict", "POST /predict/batch", "POST /predict/stream",
    "POST /explain", "POST /v1/models/adder:predict", "POST /v2/models/adder/infer",
]  # fmt: skip
HEADERS = [
    "ACCEPT", "ACCEPT_ENCODING", "AUTHORIZATION", "CONTENT_ENCODING", "COOKIE", "FORWARDED", "HOST",
    "IF_MODIFIED_SINCE", "IF_NONE_MATCH", "IF_RANGE", "INFERENCE_HEADER_CONTENT_LENGTH", "ORIGIN", "RANGE",
    "REQUEST_TIMEOUT", "TRACEPARENT", "X_FORWARDED_HOST", "X_REQUEST_ID",
]  # fmt: skip
PARTS = [
    "application/openmetrics-text", "text/plain", "text/html", "*/*", "version=", "1.0", "1..0", "escaping=", "values",
    "q=", ";", ",", "=", '"', "W/", "*", "bytes=", "0-", "-", "9" * 30, "xn--", ".", "[", "::1", ":", "/", "http:", " ",
]  # fmt: skip

VALUES = st.lists(st.sampled_from(PARTS) | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"))).map(
    "".join
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    folder: Path = tmp_path_factory.mktemp("artifacts")
    return app_of(StandIn(), folder)


def send(app: Flask, method: str, path: str, environ: dict[str, str]) -> Response:
    """Send a request without a test client, which would read the Host itself."""
    body = b'{"query":"1+2"}' if method == "POST" else b""
    request = EnvironBuilder(path, method=method, data=body).get_environ()
    return Response.from_app(app, request | environ, buffered=True)


@given(st.sampled_from(ROUTES), st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=3), VALUES)
@settings(deadline=None, max_examples=300)
def test_no_header_is_an_internal_error(app: Flask, route: str, headers: dict[str, str], content_type: str) -> None:
    method, path = route.split()
    environ = {f"HTTP_{name}": value for name, value in headers.items()} | {"CONTENT_TYPE": content_type}
    assert send(app, method, path, environ).status_code != 500


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=1..0", "text/plain;version=x;escaping=values", "x" * 5000]
)
def test_an_accept_header_that_cannot_be_read_is_ignored(app: Flask, accept: str) -> None:
    response = send(app, "GET", "/metrics", {"HTTP_ACCEPT": accept})
    assert (response.status_code, response.mimetype) == (200, "text/plain")


@pytest.mark.parametrize("path", ["/", "/problems", "/problems/invalid"])
def test_a_page_shows_the_host_as_it_was_sent(app: Flask, path: str) -> None:
    page = send(app, "GET", path, {"HTTP_HOST": "xn--"})
    assert page.status_code == 200
    assert "curl -s http://xn--/predict" in page.get_data(as_text=True)
