"""The examples of TensorFlow Serving's g3doc/api_rest.md for our model, and its error sentences."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.conftest import METADATA, TASK, StandIn, app_loading, app_of

PREDICT = "/v1/models/adder:predict"
FORM = "application/x-www-form-urlencoded"  # the content type of `curl -d`


def post(client: FlaskClient, body: Any, path: str = PREDICT) -> Any:
    """The JSON of the response to JSON."""
    response = client.post(path, data=json.dumps(body), content_type=FORM)
    assert response.status_code == 200, response.get_data()
    assert response.mimetype == "application/json"
    return response.json


def refusal(client: FlaskClient, body: bytes | str, path: str = PREDICT) -> tuple[int, str]:
    """The status and the sentence of the error that a body causes."""
    response = client.post(path, data=body, content_type=FORM)
    assert response.content_type == "application/json"
    [(key, sentence)] = response.get_json().items()
    assert key == "error"
    return response.status_code, sentence


def answers(rows: Any) -> list[str]:
    return [row["answer"] for row in rows]


def test_rows_get_rows(client: FlaskClient) -> None:
    [first, second] = post(client, {"instances": ["12+3", " 4 + 5 "]})["predictions"]
    assert (first["answer"], first["confidence"]) == ("12", 0.125)
    assert (second["answer"], second["confidence"]) == ("4", 0.25)
    assert [len(first["probabilities"]), len(first["probabilities"][0])] == [4, 12]
    assert first["probabilities"][0][1] == 0.5  # of "1": the alphabet starts with the digits


def test_columns_get_columns(client: FlaskClient) -> None:
    outputs = post(client, {"inputs": ["12+3", "4+5"]})["outputs"]
    rows = post(client, {"instances": ["12+3", "4+5"]})["predictions"]
    assert outputs == {name: [row[name] for row in rows] for name in ("answer", "confidence", "probabilities")}


def test_a_request_can_name_the_input(client: FlaskClient) -> None:
    assert answers(post(client, {"instances": [{"query": "1+1"}, {"query": "2+2"}]})["predictions"]) == ["1", "2"]
    assert post(client, {"inputs": {"query": ["1+1", "2+2"]}})["outputs"]["answer"] == ["1", "2"]


@pytest.mark.parametrize("encoded", ["MTIrMw==", "MTIrMw"])
def test_a_query_can_be_in_base64(client: FlaskClient, encoded: str) -> None:
    b64 = {"b64": encoded}
    assert answers(post(client, {"instances": [b64, "4+5"]})["predictions"]) == ["12", "4"]
    assert answers(post(client, {"instances": [{"query": b64}]})["predictions"]) == ["12"]
    assert post(client, {"inputs": ["4+5", b64]})["outputs"]["answer"] == ["4", "12"]


@pytest.mark.parametrize("signature", ["", "serving_default"])
def test_a_request_can_name_the_signature(client: FlaskClient, signature: str) -> None:
    assert answers(post(client, {"signature_name": signature, "instances": ["1+1"]})["predictions"]) == ["1"]


def test_a_request_can_name_the_version(client: FlaskClient) -> None:
    path = "/v1/models/adder/versions/1:predict"
    assert answers(post(client, {"instances": ["1+1"]}, path)["predictions"]) == ["1"]


def test_a_body_needs_no_content_type(client: FlaskClient) -> None:
    for content_type in (None, "application/json", "text/plain"):
        response = client.post(PREDICT, data=b'{"instances": ["1+1"]}', content_type=content_type)
        assert response.status_code == 200


def test_the_status_lists_all_versions(tmp_path: Path) -> None:
    def load(folder: Path) -> StandIn:
        model = StandIn()
        model.metadata = METADATA.model_copy(update={"version": int(folder.name)})
        return model

    client = app_loading(load, tmp_path, "adder/1", "adder/2", "adder/10").test_client()
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert client.get("/v1/models/adder").json == {
        "model_version_status": [{"version": version, **available} for version in ("10", "2", "1")]
    }
    assert client.get("/v1/models/adder/versions/2").json == {"model_version_status": [{"version": "2", **available}]}


def test_the_metadata_has_the_signature(client: FlaskClient) -> None:
    for path in ("/v1/models/adder/metadata", "/v1/models/adder/versions/1/metadata"):
        assert client.get(path).json == {
            "model_spec": {"name": "adder", "signature_name": "", "version": "1"},
            "metadata": {"signature_def": {"signature_def": {"serving_default": StandIn.signature_def}}},
        }


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/models/half:predict", "Servable not found for request: Latest(half)"),
        ("/v1/models/half:regress", "Servable not found for request: Latest(half)"),
        ("/v1/models/adder/versions/3:predict", "Servable not found for request: Specific(adder, 3)"),
        ("/v1/models/half/versions/3:predict", "Servable not found for request: Specific(half, 3)"),
    ],
)
def test_an_unknown_model_or_version_is_not_found(client: FlaskClient, path: str, sentence: str) -> None:
    assert refusal(client, b'{"instances": ["1+1"]}', path) == (404, sentence)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/v1/models/half", 404, "Could not find any versions of model half"),
        ("/v1/models/adder/versions/3", 404, "Could not find version 3 of model adder"),
        ("/v1/models/half/metadata", 404, "Servable not found for request: Latest(half)"),
        ("/v1/models/adder/versions/3/metadata", 404, "Servable not found for request: Specific(adder, 3)"),
        ("/v1/models/adder/labels/stable", 400, "Unrecognized servable version label: stable"),
        ("/v1/models/adder/labels/stable/metadata", 400, "Unrecognized servable version label: stable"),
        ("/v1/models/adder/versions/x", 400, "Failed to convert version: x to numeric."),
        ("/v1/models/adder/versions/-1", 400, "Failed to convert version: -1 to numeric."),
        (f"/v1/models/adder/versions/{'9' * 5000}", 400, f"Failed to convert version: {'9' * 5000} to numeric."),
        ("/v1/foo", 404, "Malformed request: GET /v1/foo"),
        ("/v1/models", 404, "Malformed request: GET /v1/models"),
    ],
)
def test_an_invalid_path_is_refused(client: FlaskClient, path: str, status: int, sentence: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json) == (status, {"error": sentence})


def test_a_wrong_method_is_refused(client: FlaskClient) -> None:
    response = client.put(PREDICT, data=b"{}")
    assert (response.status_code, response.json) == (405, {"error": f"Malformed request: PUT {PREDICT}"})


@pytest.mark.parametrize(("method", "kind"), [("classify", "classification"), ("regress", "regression")])
def test_classify_and_regress_are_refused(client: FlaskClient, method: str, kind: str) -> None:
    assert refusal(client, b'{"examples": [{"query": "1+1"}]}', f"/v1/models/adder:{method}") == (
        400,
        f"Expected {kind} signature method_name to be tensorflow/serving/{method}. Was: tensorflow/serving/predict",
    )


def test_no_version_has_a_label(client: FlaskClient) -> None:
    for method in ("predict", "classify"):
        path = f"/v1/models/adder/labels/stable:{method}"
        assert refusal(client, b"{}", path) == (400, "Unrecognized servable version label: stable")


NOT_A_QUERY = (
    "'1-1' is not a query: write two whole numbers with one '+' between them, each at most 999, like '123+456'"
)
FAILED = "Failed to process element: 0 of 'instances' list."


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "JSON Parse error: the body is empty"),
        ("instances = [1, 2]", "JSON Parse error: Expecting value, at column 1"),
        ('{"instances": [NaN]}', "JSON Parse error: NaN is not JSON (RFC 8259 section 6)"),
        ("[" * 100_000, "JSON Parse error: arrays or objects are nested too deep"),
        ('["1+1"]', 'JSON Value: ["1+1"] Is not object'),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            '{"instances": ["1+1"], "inputs": ["1+1"]}',
            'JSON Value: {"instances": ["1+1"], "inputs": ["1+1"]} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"signature_name": 100}',
            'JSON Value: {"signature_name": 100} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            '{"signature_name": "encode", "instances": ["1+1"]}',
            'Serving signature name: "encode" not found in signature def',
        ),
        ('{"instances": "1+1"}', 'JSON Value: {"instances": "1+1"} Expecting \'instances\' to be an list/array'),
        ('{"instances": []}', "JSON Value: {\"instances\": []} No values in 'instances' array"),
        (
            '{"instances": [5]}',
            f"{FAILED} Error: INVALID_ARGUMENT: JSON Value: 5 Type: Number is not of expected type: string",
        ),
        (
            '{"instances": [null]}',
            f"{FAILED} Error: INVALID_ARGUMENT: JSON Value: null Type: Null is not of expected type: string",
        ),
        ('{"instances": [["1+1"]]}', f"{FAILED} Error: INVALID_ARGUMENT: Expecting shape [] but got: [1]"),
        ('{"instances": [{"b64": "%"}]}', f"{FAILED} Error: INVALID_ARGUMENT: Unable to base64 decode"),
        ('{"instances": [{"b64": "MTIrMw==="}]}', f"{FAILED} Error: INVALID_ARGUMENT: Unable to base64 decode"),
        ('{"instances": [{"b64": "\\u00e4"}]}', f"{FAILED} Error: INVALID_ARGUMENT: Unable to base64 decode"),
        (
            '{"instances": [{"query": {"b64": 5}}]}',
            f'{FAILED} Error: INVALID_ARGUMENT: JSON Value: {{"b64": 5}} not formatted correctly for base64 data',
        ),
        ('{"instances": [{"x": "1+1"}]}', f'{FAILED} JSON object: {{"x": "1+1"}} keys must be equal to: query'),
        ('{"instances": [{}]}', f"{FAILED} JSON object: {{}} keys must be equal to: query"),
        ('{"instances": [{"query": "1+1"}, "2+2"]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": ["2+2", {"query": "1+1"}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"inputs": {"x": ["1+1"]}}', "Missing named input: query in 'inputs' object."),
        ('{"inputs": "1+1"}', 'Expecting shape [-1] but got: [], by JSON Value: "1+1"'),
        ('{"inputs": [["1+1"]]}', "Expecting shape [] but got: [1]"),
        ('{"inputs": []}', "#/inputs: a batch has 1 to 10 queries, and this one has 0"),
        ('{"instances": ["2+2", "1-1"]}', f"#/instances/1: {NOT_A_QUERY}"),
        ('{"inputs": ["1-1"]}', f"#/inputs/0: {NOT_A_QUERY}"),
        (
            '{"instances": [{"b64": "/ys="}]}',
            f"#/instances/0: '\\\\xff+' is not a query: write {TASK.hint}, like '123+456'",
        ),
        ('{"instances": ["1+1"], "instances": ["2+2"]}', "the key 'instances' appears twice"),
    ],
)
def test_an_invalid_body_is_refused(tmp_path: Path, body: str, sentence: str) -> None:
    status, error = refusal(app_of(StandIn(), tmp_path, max_batch_queries=10).test_client(), body)
    assert status == 400
    assert sentence in error


def test_an_error_does_not_repeat_a_large_value(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path).test_client()
    long, deep = "1" * 100_000, '{"a":' * 900 + "1" + "}" * 900
    for value in (f'"{long}"', deep):
        status, error = refusal(client, f'{{"instances": {value}}}')
        assert status == 400
        assert len(error) < 200


def test_without_a_model_the_status_is_503(broken_client: FlaskClient) -> None:
    for response in (broken_client.get("/v1/models/adder"), broken_client.post(PREDICT, data=b"{}")):
        assert response.status_code == 503
        assert response.json == {"error": "no model could be loaded: see the log of the service"}


text = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | st.sampled_from(["1+1", "MSsx"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["query", "b64", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), json_like) | json_like)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_json_causes_a_500(client: FlaskClient, body: object) -> None:
    assert client.post(PREDICT, data=json.dumps(body)).status_code in (200, 400, 413)


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_cause_a_500(client: FlaskClient, body: bytes) -> None:
    assert refusal(client, body)[0] in (400, 413)
