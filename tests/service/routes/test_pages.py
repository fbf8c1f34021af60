import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.service.conftest import EVIDENCE, SHA256, StandIn, app_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PNG = b"\x89PNG\r\n\x1a\n a picture"


class Evaluated(StandIn):
    metadata = StandIn.metadata.model_copy(update={"evidence": EVIDENCE})


@pytest.fixture
def pictured(tmp_path: Path) -> FlaskClient:
    """The client of an application with an evaluated artifact, whose model card has a picture."""
    client = app_of(Evaluated(), tmp_path).test_client()
    folder = tmp_path / "adder" / "1"
    (folder / "MODEL_CARD.md").write_text("# adder\n\n![Where <it> is wrong](wrong_shares.png)\n\n*Where*\n")
    (folder / "wrong_shares.png").write_bytes(PNG)
    (folder / "metadata.json").write_text("{}")
    return client


def assert_protected(response: TestResponse) -> None:
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


def assert_revalidated(client: FlaskClient, path: str) -> None:
    first = client.get(path, buffered=True)
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]}, buffered=True)
    assert (again.status_code, again.data) == (304, b"")


def test_the_page_offers_the_models_with_their_tasks(client: FlaskClient) -> None:
    response = client.get("/")
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    for shown in [
        '<option value="adder/1" data-example="123+456" data-hint="two whole numbers',
        'data-truth="sum" data-answer-length="4"',
        'Write <span id="hint">two whole numbers with one &#39;+&#39; between them',
        'value="123+456"',
        "curl -s http://localhost/predict",
    ]:
        assert shown in response.text


def test_the_page_of_models_shows_their_figures(pictured: FlaskClient) -> None:
    response = pictured.get("/models", headers=BROWSER)
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert response.headers["Vary"] == "Accept"
    for shown in [
        "Each answer is compared with the sum of the numbers",
        "engine <code>litert</code>",
        SHA256,
        "wrong answers, out of all 4 queries</dt>\n      <dd>2</dd>",
        "<dd>50.0000%</dd>",
        "<dd>0.250000</dd>",
        '<a href="/?query=1%2B2&amp;model=adder%2F1">1+2</a>',
        'src="/models/adder/1/wrong_shares.png" alt="Where &lt;it&gt; is wrong"',
        "curl http://localhost/models",
    ]:
        assert shown in response.text
    assert pictured.get("/models").mimetype == "application/json"


def test_the_page_of_models_shows_that_one_is_not_evaluated(client: FlaskClient) -> None:
    page = client.get("/models", headers=BROWSER).text
    assert "This version has not been evaluated: its accuracy is unknown." in page
    assert "<img" not in page


def test_the_page_of_metrics_shows_counts_and_means(client: FlaskClient) -> None:
    for query in ("1+2", "3+4", "x"):
        client.post("/predict", json={"query": query})
    page = client.get("/metrics", headers=BROWSER).text
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "adder_requests Requests. model route status version value adder /predict 200 1 2 /predict 422 1" in text
    assert re.search(r"adder_batch_size [^.]*\. model version count mean adder 1 2 1 ", text)
    assert client.get("/metrics").mimetype == "text/plain"


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/models", "/models/adder/1/wrong_shares.png"])
def test_a_page_has_security_headers_and_is_revalidated(pictured: FlaskClient, path: str) -> None:
    assert_protected(pictured.get(path, buffered=True))
    assert_revalidated(pictured, path)


def test_the_page_has_no_inline_style_or_script(pictured: FlaskClient) -> None:
    page = pictured.get("/").text
    assert page.count("<script") == page.count('<script type="module" src="/static/') == 1
    for forbidden in ["<style", " style=", " onclick=", "javascript:", "//cdn"]:
        assert forbidden not in page


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_the_files_of_the_page_have_their_media_types(client: FlaskClient, path: str, media_type: str) -> None:
    assert client.get(f"/static/{path}", buffered=True).mimetype == media_type


def test_a_picture_of_the_model_card_is_served(pictured: FlaskClient) -> None:
    response = pictured.get("/models/adder/1/wrong_shares.png", buffered=True)
    assert (response.mimetype, response.data) == ("image/png", PNG)


@pytest.mark.parametrize(
    "path",
    [
        "/models/adder/1/metadata.json",
        "/models/adder/1/checksums.txt",
        "/models/adder/1/nothing.png",
        "/models/adder/2/wrong_shares.png",
        "/models/other/1/wrong_shares.png",
        "/models/adder/1/..%2f1%2fwrong_shares.png",
        "/models/adder/1/%00.png",
        "/static/../app.py",
        "/static/nothing.js",
    ],
)
def test_other_files_are_not_served(pictured: FlaskClient, path: str) -> None:
    response = pictured.get(path, buffered=True)
    assert (response.status_code, response.mimetype) == (404, "application/problem+json")
