import json
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.service.conftest import TASK, StandIn

INFER = "/v2/models/adder/infer"
LENGTH = "Inference-Header-Content-Length"


def tensor(*queries: Any, **fields: Any) -> dict[str, Any]:
    """An input."""
    return {"name": "query", "datatype": "BYTES", "shape": [len(queries)], "data": list(queries), **fields}


def in_binary(*queries: bytes) -> bytes:
    """BYTES elements by Triton's binary tensor extension: each after its length."""
    return b"".join(len(query).to_bytes(4, "little") + query for query in queries)


def post(client: FlaskClient, document: Any, binary_data: bytes = b"") -> TestResponse:
    """Post JSON as tritonclient does: without a content type; with the length of the JSON if binary data follows."""
    body = json.dumps(document).encode()
    return client.post(INFER, data=body + binary_data, headers={LENGTH: str(len(body))} if binary_data else {})


def outputs(response: TestResponse) -> dict[str, Any]:
    """The data of each output, by name."""
    assert response.status_code == 200, response.get_data()
    document = response.get_json()
    return {output["name"]: output["data"] for output in document["outputs"]}


def refusal(response: TestResponse) -> tuple[int, str]:
    """The status and the sentence of an error."""
    assert response.content_type == "application/json"
    [(key, sentence)] = response.get_json().items()
    assert key == "error"
    return response.status_code, sentence


@pytest.mark.parametrize("path", ["/v2/models/adder/infer", "/v2/models/adder/versions/1/infer"])
def test_a_request_returns_all_outputs(client: FlaskClient, path: str) -> None:
    response = client.post(path, json={"id": "42", "inputs": [tensor("12+3", " 4 + 5")]})
    document = response.get_json()
    probabilities = document["outputs"].pop()
    assert document == {
        "model_name": "adder",
        "model_version": "1",
        "id": "42",
        "outputs": [
            {"name": "answer", "datatype": "BYTES", "shape": [2], "data": ["12", "4"]},
            {"name": "confidence", "datatype": "FP32", "shape": [2], "data": [0.125, 0.25]},
        ],
    }
    assert probabilities["shape"] == [2, 4, 12]
    expected = [StandIn().answer(query).probabilities for query in ("12+3", "4+5")]
    assert np.reshape(np.float32(probabilities["data"]), [2, 4, 12]).tolist() == np.stack(expected).tolist()


def test_a_request_without_an_id_gets_one(client: FlaskClient) -> None:
    response = post(client, {"inputs": [tensor("1+1")]})
    assert response.get_json()["id"] == response.headers["X-Request-ID"]


def test_a_request_can_select_outputs(client: FlaskClient) -> None:
    selected = [{"name": "confidence"}, {"name": "answer"}]
    assert outputs(post(client, {"inputs": [tensor("1+1")], "outputs": selected})) == {
        "confidence": [0.25],
        "answer": ["1"],
    }


@pytest.mark.parametrize(
    ("shape", "data"), [([2], ["1+1", "2+2"]), ([2, 1], ["1+1", "2+2"]), ([2, 1], [["1+1"], ["2+2"]])]
)
def test_data_can_be_flat_or_nested(client: FlaskClient, shape: list[int], data: list[Any]) -> None:
    assert outputs(post(client, {"inputs": [tensor(shape=shape, data=data)]}))["answer"] == ["1", "2"]


def test_unknown_parameters_are_ignored(client: FlaskClient) -> None:
    document = {
        "model_name": "adder",
        "parameters": {"priority": 1, "timeout": 5, "x": "y"},
        "inputs": [tensor("1+1", parameters={"content_type": "str"})],
        "outputs": [{"name": "answer", "parameters": {"x": True}}],
    }
    assert outputs(post(client, document)) == {"answer": ["1"]}


def test_queries_can_be_binary(client: FlaskClient) -> None:
    binary_data = in_binary(b"12+3", b" 4 + 5")
    parameters = {"binary_data_size": len(binary_data)}
    described = {"name": "query", "datatype": "BYTES", "shape": [2, 1], "parameters": parameters}
    assert outputs(post(client, {"inputs": [described]}, binary_data))["answer"] == ["12", "4"]


def parts(response: TestResponse) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON of a binary response, and the binary data of each output, by name."""
    assert (response.status_code, response.mimetype) == (200, "application/octet-stream")
    length, body = int(response.headers[LENGTH]), response.get_data()
    document, start, found = json.loads(body[:length]), length, {}
    for output in document["outputs"]:
        if "parameters" in output:
            end = start + output["parameters"]["binary_data_size"]
            found[output["name"]], start = body[start:end], end
    assert start == len(body)
    return document, found


def test_all_outputs_can_be_binary(client: FlaskClient) -> None:
    document = {"inputs": [tensor("12+3", "4+5")], "parameters": {"binary_data_output": True}}
    described, found = parts(post(client, document))
    assert [output["shape"] for output in described["outputs"]] == [[2], [2], [2, 4, 12]]
    assert found["answer"] == in_binary(b"12", b"4")
    assert np.frombuffer(found["confidence"], "<f4").tolist() == [0.125, 0.25]
    expected = [StandIn().answer(query).probabilities for query in ("12+3", "4+5")]
    assert np.frombuffer(found["probabilities"], "<f4").tolist() == np.stack(expected).ravel().tolist()


@pytest.mark.parametrize("all_in_binary", [True, False])
def test_each_output_can_be_binary(client: FlaskClient, all_in_binary: bool) -> None:
    parameters = {"binary_data": False} if all_in_binary else {}
    selected = [
        {"name": "answer", "parameters": {"binary_data": True}},
        {"name": "confidence", "parameters": parameters},
    ]
    document = {"inputs": [tensor("12+3")], "outputs": selected, "parameters": {"binary_data_output": all_in_binary}}
    described, found = parts(post(client, document))
    assert found == {"answer": in_binary(b"12")}
    assert described["outputs"][1]["data"] == [0.125]


def test_a_body_without_json_is_one_query(client: FlaskClient) -> None:
    described, found = parts(client.post(INFER, data=b"12 + 3", headers={LENGTH: "0"}))
    assert found["answer"] == in_binary(b"12")
    assert described["outputs"][0]["shape"] == [1]


def test_the_server_describes_itself(client: FlaskClient) -> None:
    document = client.get("/v2").get_json()
    assert document["name"] == "neural-adder"
    assert document["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True}
    assert client.get("/v2/models").json == {"models": ["adder"]}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}'])
def test_the_repository_lists_its_models(client: FlaskClient, body: bytes) -> None:
    expected = [{"name": "adder", "version": "1", "state": "READY", "reason": ""}]
    assert client.post("/v2/repository/index", data=body).json == expected


@pytest.mark.parametrize("path", ["/v2/models/adder", "/v2/models/adder/versions/1"])
def test_a_model_describes_its_tensors(client: FlaskClient, path: str) -> None:
    assert client.get(path).json == {
        "name": "adder",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "query", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "answer", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4, 12]},
        ],
    }
    assert client.get(f"{path}/ready").json == {"name": "adder", "ready": True}


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/v2/models/half", 404, "no model 'half' exists; the models, with their versions, are adder (1)"),
        ("/v2/models/half/ready", 404, "no model 'half' exists"),
        ("/v2/models/adder/versions/3", 404, "no model 'adder' with version 3 exists"),
        ("/v2/models/adder/versions/x/ready", 400, "Failed to convert version: x to numeric."),
        ("/v2/models/adder/config", 404, "Malformed request: GET /v2/models/adder/config"),
        (INFER, 405, f"Malformed request: GET {INFER}"),
    ],
)
def test_an_invalid_path_is_refused(client: FlaskClient, path: str, status: int, sentence: str) -> None:
    actual_status, error = refusal(client.get(path))
    assert actual_status == status
    assert error.startswith(sentence)


def test_a_wrong_method_is_refused(client: FlaskClient) -> None:
    assert refusal(client.post("/v2")) == (405, "Malformed request: POST /v2")


def test_a_server_without_a_model_is_not_ready(broken_client: FlaskClient) -> None:
    assert broken_client.get("/v2/health/live").json == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/adder/ready", "/v2/models"):
        assert refusal(broken_client.get(path)) == (503, "no model could be loaded: see the log of the service")


NOT_A_QUERY = f"'x' is not a query: write {TASK.hint}, like '123+456'"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "#: the body should be a JSON object"),
        ({}, "#/inputs: Field required"),
        ({"inputs": []}, "#/inputs: List should have at least 1 item after validation, not 0"),
        (
            {"inputs": [tensor("1+1"), tensor("1+1")]},
            "#/inputs: List should have at most 1 item after validation, not 2",
        ),
        ({"inputs": [tensor("1+1")], "id": 5}, "#/id: Input should be a valid string"),
        (
            {"inputs": [tensor("1+1")], "id": "\ud800"},
            "#/id: it has half of a surrogate pair: send complete characters",
        ),
        ({"inputs": [tensor("1+1")], "parameters": 5}, "#/parameters: it should be a JSON object"),
        ({"inputs": [tensor("1+1", name="x")]}, "#/inputs/0/name: Input should be 'query'"),
        ({"inputs": [tensor("1+1", datatype="INT32")]}, "#/inputs/0/datatype: Input should be 'BYTES'"),
        ({"inputs": [tensor("1+1", shape=[])]}, "#/inputs/0/shape: '[]' is not the shape of queries, [N] or [N, 1]"),
        ({"inputs": [tensor("1+1", shape=[1, 2])]}, "#/inputs/0/shape: '[1, 2]' is not the shape of queries"),
        ({"inputs": [tensor("1+1", shape=[1, 1, 1])]}, "#/inputs/0/shape: '[1, 1, 1]' is not the shape of queries"),
        ({"inputs": [tensor("1+1", shape=["1"])]}, "#/inputs/0/shape/0: Input should be a valid integer"),
        ({"inputs": [tensor("1+1", shape=[2])]}, "#/inputs/0/data: the shape has 2 elements, and the data 1"),
        ({"inputs": [tensor("1+1", shape=[-1])]}, "#/inputs/0/data: the shape has -1 elements, and the data 1"),
        (
            {"inputs": [tensor("1+1", shape=[10**30])]},
            f"#/inputs/0/data: the shape has {10**30} elements, and the data",
        ),
        ({"inputs": [tensor()]}, "#/inputs/0/data: a batch has 1 to 10 queries, and this one has 0"),
        ({"inputs": [tensor(*["1+1"] * 11)]}, "#/inputs/0/data: a batch has 1 to 10 queries, and this one has 11"),
        ({"inputs": [tensor("1+1", "x")]}, f"#/inputs/0/data/1: {NOT_A_QUERY}"),
        ({"inputs": [tensor("x", "x")]}, f"#/inputs/0/data/0: {NOT_A_QUERY} (and 1 more)"),
        ({"inputs": [tensor(5)]}, "#/inputs/0/data/0: Input should be a valid string"),
        ({"inputs": [tensor([["1+1"]])]}, "#/inputs/0/data/0: Input should be a valid string"),
        ({"inputs": [tensor("1+1", data="1+1")]}, "#/inputs/0/data: Input should be a valid list"),
        (
            {"inputs": [tensor("1+1", parameters={"shared_memory_region": "x"})]},
            "#/inputs/0/parameters/shared_memory_region: it belongs to an extension that is not served: leave it out",
        ),
        (
            {"inputs": [tensor("1+1")], "outputs": [{"name": "answer", "parameters": {"classification": 2}}]},
            "#/outputs/0/parameters/classification: it belongs to an extension that is not served: leave it out",
        ),
        (
            {"inputs": [tensor("1+1")], "outputs": [{"name": "x"}]},
            "#/outputs/0/name: Input should be 'answer', 'confidence' or 'probabilities'",
        ),
        (
            {"inputs": [tensor("1+1")], "outputs": [{"name": "probabilities"}] * 4},
            "#/outputs: List should have at most 3 items after validation, not 4",
        ),
        (
            {"inputs": [tensor("1+1")], "outputs": [{"name": "answer", "parameters": {"binary_data": 1}}]},
            "#/outputs/0/parameters/binary_data: Input should be a valid boolean",
        ),
        (
            {"inputs": [tensor("1+1", parameters={"binary_data_size": 7})]},
            "#/inputs/0/data: the data is in binary too: send one of them, or leave binary_data_size out",
        ),
        (
            {"inputs": [{"name": "query", "parameters": {"binary_data_size": 7}}]},
            "#/inputs/0/parameters/binary_data_size: 0 bytes follow the JSON, and binary_data_size is",
        ),
    ],
)
def test_an_invalid_document_is_refused(client: FlaskClient, document: Any, sentence: str) -> None:
    status, error = refusal(post(client, document))
    assert status == 400
    assert error.startswith(sentence)


@pytest.mark.parametrize(
    ("binary_data", "size", "sentence"),
    [
        (
            in_binary(b"1+1"),
            8,
            "#/inputs/0/parameters/binary_data_size: 7 bytes follow the JSON, and binary_data_size is",
        ),
        (
            in_binary(b"1+1"),
            -7,
            "#/inputs/0/parameters/binary_data_size: 7 bytes follow the JSON, and binary_data_size is",
        ),
        (
            in_binary(b"1+1"),
            "7",
            "#/inputs/0/parameters/binary_data_size: 7 bytes follow the JSON, and binary_data_size is",
        ),
        (
            in_binary(b"1+1"),
            None,
            "#/inputs/0/parameters/binary_data_size: 7 bytes follow the JSON, and binary_data_size is",
        ),
        (b"\x03\0\0", 3, "#/inputs/0/data: element 0 in binary ends after 3 of 4 bytes of its length"),
        (b"\x03\0\0\x001+", 6, "#/inputs/0/data: element 0 in binary has 2 of its 3 bytes"),
        (b"\xff\xff\xff\xff1", 5, "#/inputs/0/data: element 0 in binary has 1 of its 4294967295 bytes"),
        (in_binary(b"1+1") + b"\0", 8, "#/inputs/0/data: element 1 in binary ends after 1 of 4 bytes of its length"),
        (in_binary(b"1+1", b"2+2"), 14, "#/inputs/0/data: the shape has 1 elements, and the data 2"),
        (in_binary(b"\xff+1"), 7, "#/inputs/0/data/0: '\\\\xff+1' is not a query: write two whole numbers"),
        (in_binary(b""), 4, "#/inputs/0/data/0: '' is not a query: write two whole numbers"),
    ],
)
def test_invalid_binary_data_is_refused(client: FlaskClient, binary_data: bytes, size: Any, sentence: str) -> None:
    described = {"name": "query", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    status, error = refusal(post(client, {"inputs": [described]}, binary_data))
    assert status == 400
    assert error.startswith(sentence)


def test_binary_data_without_a_size_is_refused(client: FlaskClient) -> None:
    documents: list[Any] = [{"inputs": [tensor("1+1")]}, {"inputs": [tensor("1+1"), tensor("1+1")]}, [], {}]
    for document in documents:
        assert refusal(post(client, document, b"1+1")) == (
            400,
            "#/inputs/0/parameters/binary_data_size: 3 bytes follow the JSON, and binary_data_size is missing",
        )


@pytest.mark.parametrize("length", ["-1", "x", "3", "", "1.0", "9" * 5000, "²"])
def test_an_invalid_json_length_is_refused(client: FlaskClient, length: str) -> None:
    status, error = refusal(client.post(INFER, data=b"{}", headers={LENGTH: length}))
    assert status == 400
    assert error.startswith(f"the header {LENGTH} is '{length[:30]}")
    assert error.endswith(": send the length of the JSON, at most the 2 bytes of the body")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is empty: send a JSON object"),
        (b"[" * 900, "Expecting value, at column 901"),
        (b'{"inputs": NaN}', "NaN is not JSON (RFC 8259 section 6)"),
        (b'{"id": "1", "id": "2"}', "the key 'id' appears twice in one object: name each field once"),
        (b'{"id": "\xff"}', "the byte at 8 is not UTF-8"),
    ],
)
def test_a_body_that_is_not_json_is_refused(client: FlaskClient, body: bytes, sentence: str) -> None:
    assert refusal(client.post(INFER, data=body)) == (400, sentence)


text = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | st.just("1+1"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["binary_data", "binary_data_size", "binary_data_output", "x"]), inner)
    ),
    max_leaves=4,
)
tensor_like = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("query") | json_like,
        "datatype": st.just("BYTES") | json_like,
        "shape": st.just([1]) | json_like,
        "data": st.just(["1+1"]) | st.lists(text, min_size=1, max_size=1) | json_like,
        "parameters": json_like,
    },
)
request_like = st.fixed_dictionaries(
    {},
    optional={
        "id": json_like,
        "inputs": st.lists(tensor_like) | json_like,
        "outputs": json_like,
        "parameters": json_like,
    },
)


@given(request_like, st.binary(max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_json_causes_a_500(client: FlaskClient, document: Any, binary_data: bytes) -> None:
    assert post(client, document, binary_data).status_code in (200, 400, 413)


@given(st.binary(), st.none() | st.integers(-1, 20).map(str) | st.text("0123456789abc-+ "))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_cause_a_500(client: FlaskClient, body: bytes, length: str | None) -> None:
    headers = {} if length is None else {LENGTH: length}
    assert client.post(INFER, data=body, headers=headers).status_code in (200, 400, 413)
