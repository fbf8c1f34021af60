import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.models.engines.model_output import ModelOutput
from tests.service.conftest import METADATA, SHA256, TASK, StandIn, app_of


def test_a_query_is_answered_by_the_model(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "123+456"})
    assert response.status_code == 200
    assert response.json == {
        "query": "123+456",
        "answer": "123",
        "confidence": 0.0625,
        "model": {"name": "adder", "version": 1, "sha256": SHA256},
    }


def test_spaces_around_the_operands_are_removed(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "  12 +  3 "})
    assert response.json is not None
    assert response.json["query"] == "12+3"


def test_characters_have_probabilities_and_runners_up(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "9+1", "characters": True})
    assert response.json is not None
    first, end = response.json["characters"]
    assert (first["character"], first["probability"]) == ("9", 0.5)
    assert [each["character"] for each in first["runners_up"]] == ["0", "1", "2"]
    assert [each["probability"] for each in first["runners_up"]] == pytest.approx([0.06, 0.0573, 0.0545], abs=1e-4)
    assert end["character"] == ""
    assert response.json["confidence"] == first["probability"] * end["probability"]


def test_an_answer_of_full_length_has_no_end(tmp_path: Path) -> None:
    class Long(StandIn):
        def answer(self, query: str) -> ModelOutput:
            return super().answer("1998+" + query)

    client = app_of(Long(), tmp_path).test_client()
    response = client.post("/predict", json={"query": "999+999", "characters": True})
    assert response.json is not None
    assert "".join(each["character"] for each in response.json["characters"]) == "1998"


def test_a_batch_is_answered_in_order(client: FlaskClient) -> None:
    response = client.post("/predict/batch", json={"queries": ["3+1", "1+1", "2+1"]})
    assert response.json is not None
    assert [each["answer"] for each in response.json["predictions"]] == ["3", "1", "2"]
    assert [each["query"] for each in response.json["predictions"]] == ["3+1", "1+1", "2+1"]
    assert response.json["model"] == {"name": "adder", "version": 1, "sha256": SHA256}


def test_the_response_has_the_version_of_the_artifact(tmp_path: Path) -> None:
    class Third(StandIn):
        metadata = METADATA.model_copy(update={"version": 3})

    client = app_of(Third(), tmp_path).test_client()
    third = {"name": "adder", "version": 3, "sha256": SHA256}
    assert client.post("/predict", json={"query": "1+1"}).get_json()["model"] == third
    assert client.post("/predict/batch", json={"queries": ["1+1"]}).get_json()["model"] == third
    assert client.get("/health/ready").get_json()["models"] == [third]


def test_a_batch_can_have_characters(client: FlaskClient) -> None:
    response = client.post("/predict/batch", json={"queries": ["3+1"], "characters": True})
    assert response.json is not None
    assert [each["character"] for each in response.json["predictions"][0]["characters"]] == ["3", ""]


def test_alternatives_are_the_most_probable_answers(client: FlaskClient) -> None:
    response = client.post("/predict", json={"query": "9+1", "alternatives": 3})
    assert response.get_json()["alternatives"] == [
        {"answer": "9", "probability": 0.25},
        {"answer": "10", "probability": 0.125},
        {"answer": "11", "probability": 0.0625},
    ]


@pytest.mark.parametrize(("min_confidence", "abstained"), [(0.25, False), (0.26, True), (0, False), (1, True)])
def test_an_answer_below_min_confidence_is_abstained(
    client: FlaskClient, min_confidence: float, abstained: bool
) -> None:
    prediction = client.post("/predict", json={"query": "9+1", "min_confidence": min_confidence}).get_json()
    assert (prediction["answer"], prediction["confidence"], prediction["abstained"]) == ("9", 0.25, abstained)
    batch = client.post("/predict/batch", json={"queries": ["9+1"], "min_confidence": min_confidence}).get_json()
    assert batch["predictions"][0]["abstained"] is abstained


def test_a_batch_can_report_invalid_queries_in_their_place(client: FlaskClient) -> None:
    queries = ["1+1", "x", "2+2", 7, " 3 + 3"]
    response = client.post("/predict/batch", json={"queries": queries, "on_error": "report"})
    assert response.status_code == 200
    first, malformed, second, not_text, third = response.get_json()["predictions"]
    assert [each["answer"] for each in (first, second, third)] == ["1", "2", "3"]
    assert (malformed["status"], malformed["type"], malformed["errors"][0]["pointer"]) == (
        422,
        "/problems/invalid",
        "#/queries/1",
    )
    assert not_text["errors"] == [{"pointer": "#/queries/3", "detail": "Input should be a valid string"}]


def test_a_batch_without_a_valid_query_is_reported(client: FlaskClient) -> None:
    response = client.post("/predict/batch", json={"queries": ["x", "y"], "on_error": "report"})
    assert [each["status"] for each in response.get_json()["predictions"]] == [422, 422]


@pytest.mark.parametrize("queries", [[], ["1+1"] * 11, "1+1", None])
def test_an_invalid_batch_is_refused_though_errors_are_reported(client: FlaskClient, queries: Any) -> None:
    response = client.post("/predict/batch", json={"queries": queries, "on_error": "report"})
    assert response.status_code == 422
    assert response.get_json(force=True)["errors"][0]["pointer"] == "#/queries"


NO_QUERIES = ["", "1", "1+2+3", "-1+2", "1 2+3", "1+2\n", "１+2", "{0}+2"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        *((text, f"{text!r} is not a query: write {TASK.hint}, like '123+456'") for text in NO_QUERIES),
        ("1000+1", "the operand '1000' is too large: 999 is the largest, like '123+456'"),
        ("1+007", "the operand '007' has a leading zero: write it without, like '1+7'"),
        ("1+" + "9" * 5000, f"the operand '{'9' * 39}…' is too large: 999 is the largest, like '123+456'"),
    ],
)
def test_an_invalid_query_is_refused(tmp_path: Path, query: str, detail: str) -> None:
    response = app_of(StandIn(), tmp_path).test_client().post("/predict", json={"query": query})
    assert response.status_code == 422
    assert response.mimetype == "application/problem+json"
    assert response.get_json(force=True) == {
        "type": "/problems/invalid",
        "title": "The request breaks a rule",
        "status": 422,
        "detail": f"#/query: {detail}",
        "errors": [{"pointer": "#/query", "detail": detail}],
        "example": {"query": "123+456"},
    }


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "#/query", "Field required"),
        ({"query": 5}, "#/query", "Input should be a valid string"),
        ({"query": None}, "#/query", "Input should be a valid string"),
        ({"query": ["1+1"]}, "#/query", "Input should be a valid string"),
        ({"query": "1+1", "verison": 1}, "#/verison", "it is not a field: did you mean 'version'?"),
        (
            {"query": "1+1", "a/b~c d": 1},
            "#/a~1b~0c%20d",
            "it is not a field: they are model, version, label, characters, min_confidence, query, alternatives",
        ),
        ({"query": "1+1", "characters": 1}, "#/characters", "Input should be a valid boolean"),
        ({"query": "1+1", "alternatives": 0}, "#/alternatives", "Input should be greater than or equal to 1"),
        ({"query": "1+1", "alternatives": 11}, "#/alternatives", "Input should be less than or equal to 10"),
        ({"query": "1+1", "alternatives": True}, "#/alternatives", "Input should be a valid integer"),
        ({"query": "1+1", "min_confidence": 1.1}, "#/min_confidence", "Input should be less than or equal to 1"),
        ({"query": "1+1", "min_confidence": "1"}, "#/min_confidence", "Input should be a valid number"),
        (
            {"query": "1+1", "on_error": "report"},
            "#/on_error",
            "it is not a field: they are model, version, label, characters, min_confidence, query, alternatives",
        ),
        (["1+1"], "#", "the body should be a JSON object"),
    ],
)
def test_an_invalid_field_is_refused(client: FlaskClient, body: Any, pointer: str, detail: str) -> None:
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert response.get_json(force=True)["errors"] == [{"pointer": pointer, "detail": detail}]


def test_each_invalid_query_of_a_batch_is_listed(client: FlaskClient) -> None:
    response = client.post("/predict/batch", json={"queries": ["1+1", "x", "2+2", 7]})
    assert response.status_code == 422
    problem = response.get_json(force=True)
    assert [error["pointer"] for error in problem["errors"]] == ["#/queries/1", "#/queries/3"]
    assert problem["detail"].endswith("(and 1 more)")
    assert problem["example"] == {"queries": ["123+456"]}


def test_listed_errors_are_limited_by_the_batch_size(client: FlaskClient) -> None:
    response = client.post("/predict/batch", json={str(number): 0 for number in range(50)})
    problem = response.get_json(force=True)
    assert len(problem["errors"]) == 10
    assert problem["detail"].endswith("(and 50 more)")


@pytest.mark.parametrize("count", [0, 11])
def test_the_size_of_a_batch_is_limited(client: FlaskClient, count: int) -> None:
    response = client.post("/predict/batch", json={"queries": ["1+1"] * count})
    assert response.status_code == 422
    detail = response.get_json(force=True)["detail"]
    assert detail.startswith(f"#/queries: a batch has 1 to 10 queries, and this one has {count}")
    assert ("send lines to /predict/batch as application/x-ndjson" in detail) == (count > 10)


ALLOWED = (200, 400, 413, 422)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["query", "queries", "characters"]), inner),
    max_leaves=5,
)


@given(json_like, st.sampled_from(["/predict", "/predict/batch"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_json_causes_a_500(client: FlaskClient, body: object, route: str) -> None:
    assert client.post(route, data=json.dumps(body), content_type="application/json").status_code in ALLOWED


@given(st.binary(), st.sampled_from(["/predict", "/predict/batch"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_cause_a_500(client: FlaskClient, body: bytes, route: str) -> None:
    response = client.post(route, data=body, content_type="application/json")
    assert response.status_code in (400, 422)
    assert response.mimetype == "application/problem+json"
