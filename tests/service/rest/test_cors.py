from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.service.conftest import StandIn, app_of

APP, OTHER = "https://app.example", "http://localhost:3000"


def client_of(tmp_path: Path, origins: str) -> FlaskClient:
    return app_of(StandIn(), tmp_path, cors_origins=origins).test_client()


def cors_headers(client: FlaskClient, origin: str, path: str = "/predict", method: str = "POST") -> dict[str, str]:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    headers = {"Origin": origin} | (preflight if method == "OPTIONS" else {})
    response = client.open(path, method=method, json={"query": "1+2"}, headers=headers)
    return {name: value for name, value in response.headers if name.startswith("Access-Control") or name == "Vary"}


def test_cross_origin_requests_are_off_by_default(client: FlaskClient) -> None:
    for method in ("POST", "OPTIONS"):
        assert not [name for name in cors_headers(client, APP, method=method) if name.startswith("Access-Control")]


@pytest.mark.parametrize("path", ["/predict", "/nowhere", "/v1/models/adder:predict", "/predict/stream"])
def test_an_allowed_origin_may_read_every_response(tmp_path: Path, path: str) -> None:
    for origin in (APP, OTHER):
        assert cors_headers(client_of(tmp_path / origin[-4:], f"{APP},{OTHER}"), origin, path) == {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After, Server-Timing, X-Request-ID",
        }


def test_a_preflight_names_methods_and_headers(tmp_path: Path) -> None:
    headers = cors_headers(client_of(tmp_path, APP), APP, method="OPTIONS")
    assert set(headers.pop("Access-Control-Allow-Methods").split(", ")) == {"OPTIONS", "POST"}
    assert headers == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Headers": "*, Authorization",
        "Access-Control-Max-Age": "600",
    }


@pytest.mark.parametrize("origin", ["https://app.example.evil.example", "http://app.example", "null"])
def test_another_origin_is_not_allowed(tmp_path: Path, origin: str) -> None:
    client = client_of(tmp_path, APP)
    for method in ("POST", "OPTIONS"):
        assert cors_headers(client, origin, method=method) == {"Vary": "Origin"}


def test_any_origin_may_be_allowed(tmp_path: Path) -> None:
    assert cors_headers(client_of(tmp_path, "*"), "null")["Access-Control-Allow-Origin"] == "*"
