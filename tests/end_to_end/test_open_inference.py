"""The Open Inference Protocol with the clients of Triton and KServe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.conftest import Service

ANSWERS = {"123+456": "579", " 9 + 1": "10", "999+999": "1998"}
NOT_A_QUERY = "'x' is no character of a query, like '123+456'"


@pytest.fixture(scope="module")
def triton(run_client: Callable[[str], Any]) -> Any:
    return run_client("triton")


@pytest.fixture(scope="module")
def kserve(run_client: Callable[[str], Any]) -> Any:
    return run_client("kserve_client")


def sums(queries: list[str]) -> list[str]:
    return [str(sum(map(int, query.split("+")))) for query in queries]


def test_triton_reads_health_metadata_and_repository(triton: Any, service: Service) -> None:
    assert [triton[what] for what in ("live", "ready", "model ready", "version ready")] == [True] * 4
    assert triton["unknown model ready"] is False
    assert triton["server"] == service.get("/v2").json()
    assert triton["model"]["versions"][-1] == "1"
    assert [tensor["name"] for tensor in triton["model"]["outputs"]] == ["answer", "confidence", "probabilities"]
    listed = {(each["name"], str(each["version"])) for each in service.get("/models").json()["models"]}
    assert {(each["name"], each["version"]) for each in triton["repository"]} == listed


def test_triton_gets_the_same_in_json_and_in_binary(triton: Any) -> None:
    by_json = triton["answers"]["JSON"]
    assert by_json["answer"] == list(ANSWERS.values())
    assert np.shape(by_json["probabilities"])[0] == len(ANSWERS)
    for way, answers in triton["answers"].items():
        assert answers == by_json, way
    assert triton["some"] == {name: by_json[name] for name in ("answer", "confidence")}


def test_triton_selects_a_version_and_sets_a_request_id(triton: Any) -> None:
    assert [triton["version"][key] for key in ("model_name", "model_version", "id")] == ["adder", "1", "42"]


def test_triton_sends_large_batches_and_many_at_once(triton: Any) -> None:
    for what in ("many", "at once"):
        queries, answers = triton[what]
        assert answers == sums(queries), what


@pytest.mark.parametrize(
    ("what", "status", "sentence"),
    [
        ("query", "400", f"#/inputs/0/data/1: {NOT_A_QUERY}"),
        ("bytes", "400", r"#/inputs/0/data/0: '\\' is no character of a query"),
        ("none", "400", "#/inputs/0/data: a batch has 1 to"),
        ("model", "404", "no model 'half' exists; the models, with their versions, are adder ("),
        ("version", "404", "no model 'adder' with version 7 exists"),
        ("output", "400", "#/outputs/0/name: Input should be 'answer', 'confidence' or 'probabilities'"),
        ("classes", "400", "#/outputs/0/parameters/classification: it belongs to an extension that is not served"),
        ("metadata", "404", "no model 'half' exists"),
        ("statistics", "404", "Malformed request: GET /v2/models/adder/stats"),
    ],
)
def test_triton_gets_errors_with_status_and_sentence(triton: Any, what: str, status: str, sentence: str) -> None:
    found_status, found = triton["errors"][what]
    assert found_status == status
    assert found.startswith(sentence)


def test_kserve_reads_health_and_sets_a_request_id(kserve: Any) -> None:
    assert [kserve[what] for what in ("live", "ready", "model ready")] == [True] * 3
    assert kserve["unknown model ready"] is False
    assert kserve["named"] == ["adder", "42"]


def test_kserve_gets_the_same_in_json_and_in_binary(kserve: Any) -> None:
    assert kserve["answers"]["JSON"]["answer"] == list(ANSWERS.values())
    assert kserve["answers"]["binary"] == kserve["answers"]["JSON"]
    queries, answers = kserve["at once"]
    assert answers == sums(queries)


def test_kserve_uses_the_routes_of_tensorflow_serving(kserve: Any) -> None:
    rows = kserve["rows"]["predictions"]
    assert [row["answer"] for row in rows] == list(ANSWERS.values())


@pytest.mark.parametrize(
    ("what", "status", "sentence"),
    [
        ("query", 400, f"#/inputs/0/data/0: {NOT_A_QUERY}"),
        ("model", 404, "no model 'half' exists"),
        ("row", 400, f"#/instances/0: {NOT_A_QUERY}"),
        ("servable", 404, "Servable not found for request: Latest(half)"),
    ],
)
def test_kserve_gets_errors_with_status_and_sentence(kserve: Any, what: str, status: int, sentence: str) -> None:
    found_status, found = kserve["errors"][what]
    assert found_status == status
    assert found.startswith(sentence)
