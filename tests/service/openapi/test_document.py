import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from tests.service.conftest import StandIn, app_of, with_task


@pytest.fixture
def openapi(client: FlaskClient) -> dict[str, Any]:
    """The document that the service returns."""
    return dict(client.get("/openapi.json").get_json())


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_valid_openapi(openapi: dict[str, Any]) -> None:
    validate(openapi)
    assert openapi["openapi"].startswith("3.1.")


def test_every_route_is_documented_but_files_of_pages(client: FlaskClient, openapi: dict[str, Any]) -> None:
    served = {
        (re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        if "<asset>" not in rule.rule
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(openapi)} == served
    names = [operation["operationId"] for _, _, operation in operations(openapi)]
    assert len(names) == len(set(names))


def examples(openapi: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    """The path, operation, media type and body of each example."""
    for path, _, operation in operations(openapi):
        for media, body in operation.get("requestBody", {}).get("content", {}).items():
            for example in body.get("examples", {}).values():
                yield path, operation, media, example["value"]


def test_every_example_of_a_body_works(client: FlaskClient, openapi: dict[str, Any]) -> None:
    sent = 0
    for path, operation, media, example in examples(openapi):
        if "{label}" in path:  # no version has one
            continue
        body = example if isinstance(example, str) else json.dumps(example)
        response = client.post(path.format(model="adder", version=1), data=body, content_type=media)
        assert response.status_code == 200, (path, example, response.text)
        assert response.mimetype in operation["responses"]["200"]["content"]
        assert "/problems/" not in response.text or "report" in body, (path, example)
        sent += 1
    assert sent > 20


def test_every_example_of_an_argument_works(client: FlaskClient, openapi: dict[str, Any]) -> None:
    parameters = openapi["paths"]["/predict/stream"]["get"]["parameters"]
    examples = {each["name"]: each["example"] for each in parameters if "example" in each}
    assert examples == {"query": "123+456"}
    assert "event: done" in client.get("/predict/stream", query_string=examples).text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "/predict", {"query": "1+"}, 422),
        ("post", "/predict", {"query": "1+1", "model": "third"}, 404),
        ("post", "/predict/batch", {"queries": ["1+1"] * 11}, 422),
        ("post", "/explain", [], 422),
        ("post", "/predict/stream", {}, 422),
        ("post", "/v1/models/{model}:predict", {"inputs": "1"}, 400),
        ("post", "/v2/models/{model}/infer", {"inputs": []}, 400),
    ],
)
def test_a_refusal_is_a_documented_response(
    client: FlaskClient, openapi: dict[str, Any], method: str, path: str, body: Any, status: int
) -> None:
    refused = client.open(path.format(model="adder"), method=method, json=body)
    assert refused.status_code == status
    reference = openapi["paths"][path][method]["responses"][str(status)]["$ref"]
    response = openapi["components"]["responses"][reference.rpartition("/")[2]]
    content = response["content"][refused.mimetype]
    if refused.mimetype == "application/problem+json":
        narrowed = content["schema"]["allOf"][1]["properties"]
        assert refused.get_json(force=True)["type"] in narrowed["type"]["enum"]


@pytest.mark.parametrize(
    "query",
    [
        "1+1",
        "0+999",
        " 1 + 1 ",
        "  12+  3",
        "1 +1",
        "",
        "+",
        "1+",
        "01+1",
        "1+1000",
        "1 1+1",
        "1+1+1",
        "-1+1",
        "1+1\n",
        "1\t+1",
        "٣+1",
    ],
)
def test_the_documented_pattern_accepts_the_same_queries(
    client: FlaskClient, openapi: dict[str, Any], query: str
) -> None:
    pattern = openapi["components"]["schemas"]["Query"]["pattern"].replace(
        "$", r"\Z"
    )  # ECMA's $ matches at the end only
    assert bool(re.search(pattern, query)) == (client.post("/predict", json={"query": query}).status_code == 200)


def test_the_document_describes_the_served_models(tmp_path: Path) -> None:
    class Other(StandIn):
        metadata = with_task(query_pattern=r"^[0-9]\+[0-9]$", example="4+5").model_copy(
            update={"name": "short", "version": 7}
        )

    app = app_of(Other(), tmp_path, max_batch_queries=3)
    schemas = app.test_client().get("/openapi.json").get_json()["components"]["schemas"]
    assert schemas["ModelName"]["enum"] == ["short"]
    assert schemas["VersionNumber"]["enum"] == [7]
    assert schemas["Query"]["pattern"] == r"^[0-9]\+[0-9]$"
    assert schemas["Query"]["examples"] == ["4+5"]
    assert schemas["Queries"]["maxItems"] == 3


def test_headers_are_documented(openapi: dict[str, Any]) -> None:
    predict = openapi["paths"]["/predict"]["post"]
    assert [each["$ref"].rpartition("/")[2] for each in predict["parameters"]] == ["X-Request-ID", "Request-Timeout"]
    assert set(predict["responses"]["200"]["headers"]) == {"X-Request-ID", "Server-Timing"}
    full = openapi["components"]["responses"][predict["responses"]["503"]["$ref"].rpartition("/")[2]]
    assert set(full["headers"]) == {"Retry-After"}


def test_a_client_can_cache_the_document(client: FlaskClient) -> None:
    first = client.get("/openapi.json")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/models", headers={"If-None-Match": client.get("/models").headers["ETag"]}).status_code == 304
