import re

import pytest
from flask.testing import FlaskClient


def test_the_page_is_made_of_what_the_service_has(client: FlaskClient) -> None:
    page = client.get("/docs").text
    made_of = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(made_of) == 4
    for path in made_of:
        assert client.get(path, buffered=True).status_code == 200, path
    assert "://" not in page


@pytest.mark.parametrize(
    ("asset", "media_type"), [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")]
)
def test_swagger_is_served_and_may_be_kept(client: FlaskClient, asset: str, media_type: str) -> None:
    response = client.get(f"/docs/{asset}", buffered=True)
    assert (response.mimetype, response.headers["Cache-Control"]) == (media_type, "no-cache")
    assert len(response.data) > 100_000
    assert (
        client.get(f"/docs/{asset}", headers={"If-None-Match": response.headers["ETag"]}, buffered=True).status_code
        == 304
    )


@pytest.mark.parametrize("asset", ["swagger-ui-standalone-preset.js", "..%2f..%2f__init__.py", "%2e%2e"])
def test_nothing_else_of_the_package_is_served(client: FlaskClient, asset: str) -> None:
    assert client.get(f"/docs/{asset}").status_code == 404


def test_no_script_may_stand_in_the_page(client: FlaskClient) -> None:
    policy = client.get("/docs").headers["Content-Security-Policy"]
    assert "'unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "img-src 'self' data:;" in policy


def test_without_a_model_there_is_nothing_to_describe(broken_client: FlaskClient) -> None:
    assert broken_client.get("/openapi.json").status_code == 503
    assert broken_client.get("/docs").status_code == 200
