import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from service.errors import Problem
from service.openapi.document import document
from service.openapi.examples import EXAMPLES
from tests.service.conftest import METADATA, StandIn, app_of

METHODS = {"get", "post"}


@pytest.fixture
def described(client: FlaskClient) -> dict[str, Any]:
    """The document, as it is served."""
    return dict(client.get("/openapi.json").get_json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_openapi(described: dict[str, Any]) -> None:
    validate(described)
    assert described["openapi"].startswith("3.1.")


def test_every_method_of_every_route_is_described_and_nothing_else(
    client: FlaskClient, described: dict[str, Any]
) -> None:
    served = {
        (re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(described)} == served
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names))


def examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    """Of each body: the path, the operation, the media type, and a body of that type."""
    for path, _, operation in operations(document):
        for media, body in operation.get("requestBody", {}).get("content", {}).items():
            for example in body.get("examples", {}).values():
                yield path, operation, media, example["value"]


def test_every_example_of_a_body_works(client: FlaskClient, described: dict[str, Any]) -> None:
    sent = 0
    for path, operation, media, example in examples(described):
        if "{label}" in path:  # no version has one
            continue
        body = example if isinstance(example, str) else json.dumps(example)
        response = client.post(path.format(model="adder", version=1), data=body, content_type=media)
        assert response.status_code == 200, (path, example, response.text)
        assert response.mimetype in operation["responses"]["200"]["content"]
        assert "/problems/" not in response.text or "report" in body, (path, example)
        sent += 1
    assert sent > 20


def test_every_example_in_a_url_works(client: FlaskClient, described: dict[str, Any]) -> None:
    parameters = described["paths"]["/predict/stream"]["get"]["parameters"]
    examples = {each["name"]: each["example"] for each in parameters if "example" in each}
    assert examples == {"query": "123+456"}
    assert client.get("/predict/stream", query_string=examples).status_code == 200


def kinds(of: type[Problem] = Problem) -> Iterator[type[Problem]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_problem_is_described_with_a_sample() -> None:
    for kind in kinds():
        sample = EXAMPLES[kind.name]
        assert sample.document["status"] == kind.status
        assert sample.document["title"] == kind.title


def test_every_problem_can_be_the_answer_of_an_operation(described: dict[str, Any]) -> None:
    answers = str(described["components"]["responses"])
    assert [kind.name for kind in kinds() if f"examples/{kind.name}'" not in answers] == ["invalid-argument"]


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
def test_a_refusal_is_one_that_is_described(
    client: FlaskClient, described: dict[str, Any], method: str, path: str, body: Any, status: int
) -> None:
    refused = client.open(path.format(model="adder"), method=method, json=body)
    assert refused.status_code == status
    reference = described["paths"][path][method]["responses"][str(status)]["$ref"]
    response = described["components"]["responses"][reference.rpartition("/")[2]]
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
def test_the_described_form_of_a_query_is_the_accepted_one(
    client: FlaskClient, described: dict[str, Any], query: str
) -> None:
    form = described["components"]["schemas"]["Query"]["pattern"].replace("$", r"\Z")  # ECMA's end is the very end
    assert bool(re.search(form, query)) == (client.post("/predict", json={"query": query}).status_code == 200)


def test_the_document_is_of_what_is_served(tmp_path: Path) -> None:
    class Other(StandIn):
        metadata = METADATA.model_copy(
            update={"name": "short", "version": 7, "query_pattern": r"^[0-9]\+[0-9]$", "query_example": "4+5"}
        )

    app = app_of(Other(), tmp_path, max_batch_queries=3)
    schemas = app.test_client().get("/openapi.json").get_json()["components"]["schemas"]
    assert schemas["ModelName"]["enum"] == ["short"]
    assert schemas["VersionNumber"]["enum"] == [7]
    assert schemas["Query"]["pattern"] == r"^ *[0-9] *\+ *[0-9] *$"
    assert schemas["Query"]["examples"] == ["4+5"]
    assert schemas["Queries"]["maxItems"] == 3


def test_a_form_whose_operands_cannot_be_told_apart_is_given_as_it_is(client: FlaskClient) -> None:
    class Other(StandIn):
        metadata = METADATA.model_copy(update={"query_pattern": "[0-9]{1,3}[+][0-9]{1,3}"})

    schemas = document(client.application, [Other()], 10)["components"]["schemas"]  # type: ignore[list-item]
    assert schemas["Query"]["pattern"] == "[0-9]{1,3}[+][0-9]{1,3}"


def test_headers_are_described(described: dict[str, Any]) -> None:
    predict = described["paths"]["/predict"]["post"]
    assert [each["$ref"].rpartition("/")[2] for each in predict["parameters"]] == ["X-Request-ID", "Request-Timeout"]
    assert set(predict["responses"]["200"]["headers"]) == {"X-Request-ID", "Server-Timing"}
    full = described["components"]["responses"][predict["responses"]["503"]["$ref"].rpartition("/")[2]]
    assert set(full["headers"]) == {"Retry-After"}


def test_what_is_known_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/openapi.json")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/models", headers={"If-None-Match": client.get("/models").headers["ETag"]}).status_code == 304
