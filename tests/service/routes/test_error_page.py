import pytest
from flask.testing import FlaskClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8,application/x;v=b3;q=0.7"


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/predict", 405, "GET /predict is not served: near it are POST /predict"),
        ("GET", "/<b>", 404, "GET /&lt;b&gt; is not served"),
        ("GET", "/predict/stream?query=007%2B5", 422, "the operand &#39;007&#39; has a leading zero"),
    ],
)
def test_a_browser_gets_a_page(client: FlaskClient, method: str, path: str, status: int, sentence: str) -> None:
    page = client.open(path, method=method, headers={"Accept": BROWSER})
    assert (page.status_code, page.mimetype) == (status, "text/html")
    assert sentence in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.9", ""])
def test_other_clients_get_a_problem_document(client: FlaskClient, accept: str) -> None:
    assert client.get("/predict", headers={"Accept": accept}).mimetype == "application/problem+json"
