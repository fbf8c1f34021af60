"""The curl examples of TensorFlow Serving's g3doc/api_rest.md, with our model."""

import json
import subprocess
from typing import Any

import pytest

from tests.conftest import newest
from tests.end_to_end.conftest import Service

pytestmark = pytest.mark.usefixtures("curl")


def curl(*arguments: str) -> tuple[str, Any]:
    """Run curl; return the status line and the JSON of the response."""
    ran = subprocess.run(["curl", "--silent", "--include", *arguments], capture_output=True, text=True, check=True)
    head, body = ran.stdout.split("\n\n", 1)
    assert "content-type: application/json" in head.lower()
    return head.splitlines()[0], json.loads(body)


def test_the_status_of_a_model(service: Service) -> None:
    line, document = curl(f"{service.url}/v1/models/adder")
    assert line == "HTTP/1.1 200 OK"
    statuses = document["model_version_status"]
    assert statuses[0]["version"] == newest("adder").name
    assert {status["state"] for status in statuses} == {"AVAILABLE"}
    assert {status["status"]["error_code"] for status in statuses} == {"OK"}


def test_a_predict_call(service: Service) -> None:
    data = '{"instances": ["123+456", "9+1", "999+999"]}'
    _, document = curl("-d", data, "-X", "POST", f"{service.url}/v1/models/adder:predict")
    assert [row["answer"] for row in document["predictions"]] == ["579", "10", "1998"]


def test_a_predict_call_by_columns_and_version(service: Service) -> None:
    data = '{"signature_name": "serving_default", "inputs": {"query": ["123+456", {"b64": "OSsx"}]}}'
    _, document = curl("-d", data, "-X", "POST", f"{service.url}/v1/models/adder/versions/1:predict")
    assert document["outputs"]["answer"] == ["579", "10"]


def test_the_metadata_of_a_model(service: Service) -> None:
    _, document = curl(f"{service.url}/v1/models/adder/metadata")
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert document["model_spec"] == {"name": "adder", "signature_name": "", "version": newest("adder").name}
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["query"]["dtype"] == "DT_STRING"
    assert [size["size"] for size in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]] == ["-1", "4", "12"]


def test_an_unknown_model(service: Service) -> None:
    data = '{"instances": [1.0, 5.0]}'
    line, document = curl("-i", "-d", data, "-X", "POST", f"{service.url}/v1/models/half:predict")
    assert line == "HTTP/1.1 404 NOT FOUND"
    assert document == {"error": "Servable not found for request: Latest(half)"}


def test_a_regress_call(service: Service) -> None:
    data = '{"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}'
    line, document = curl("-d", data, "-X", "POST", f"{service.url}/v1/models/adder:regress")
    assert line == "HTTP/1.1 400 BAD REQUEST"
    assert document["error"].startswith("Expected regression signature method_name to be tensorflow/serving/regress.")
