import re

import pytest
from flask.testing import FlaskClient


def test_the_page_loads_only_files_of_the_service(client: FlaskClient) -> None:
    page = client.get("/docs").text
    paths = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(paths) == 5
    for path in paths:
        assert client.get(path, buffered=True).status_code == 200, path
    assert "://" not in page


@pytest.mark.parametrize(
    ("asset", "media_type"), [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")]
)
def test_a_client_can_cache_the_files_of_swagger(client: FlaskClient, asset: str, media_type: str) -> None:
    response = client.get(f"/docs/{asset}", buffered=True)
    assert (response.mimetype, response.headers["Cache-Control"]) == (media_type, "no-cache")
    assert len(response.data) > 100_000
    assert (
        client.get(f"/docs/{asset}", headers={"If-None-Match": response.headers["ETag"]}, buffered=True).status_code
        == 304
    )


@pytest.mark.parametrize("asset", ["swagger-ui-standalone-preset.js", "..%2f..%2f__init__.py", "%2e%2e"])
def test_other_files_of_the_package_are_not_served(client: FlaskClient, asset: str) -> None:
    assert client.get(f"/docs/{asset}").status_code == 404


def test_the_policy_forbids_inline_scripts(client: FlaskClient) -> None:
    policy = client.get("/docs").headers["Content-Security-Policy"]
    assert "'unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "img-src 'self' data:;" in policy


def test_without_a_model_the_document_is_a_503(broken_client: FlaskClient) -> None:
    assert broken_client.get("/openapi.json").status_code == 503
    assert broken_client.get("/docs").status_code == 200
