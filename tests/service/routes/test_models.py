import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.errors import ModelUnavailable
from service.models.engines.model_output import ModelOutput
from service.rest.media_types import NDJSON
from tests.service.conftest import EVIDENCE, METADATA, SHA256, StandIn, app_loading, wait_until


class Other(StandIn):
    """Answers with the second operand, backwards."""

    metadata = METADATA.model_copy(update={"name": "other", "architecture": "cho2014", "evidence": EVIDENCE})

    def answer(self, query: str) -> ModelOutput:
        return StandIn.answer(self, query[::-1])


def client_of(tmp_path: Path) -> FlaskClient:
    """The client of an application with two models."""
    models = {"adder": StandIn(), "other": Other()}
    return app_loading(lambda folder: models[folder.parent.name], tmp_path, "adder/1", "other/1").test_client()


def test_models_are_listed_with_their_evidence(tmp_path: Path) -> None:
    adder, other = client_of(tmp_path).get("/models").get_json()["models"]
    assert adder == {
        "name": "adder",
        "version": 1,
        "sha256": SHA256,
        "is_default": True,
        "labels": [],
        "state": "available",
        "reason": None,
        "architecture": "repeat_vector",
        "engine": "litert",
        "query_example": "123+456",
        "hint": "two whole numbers with one '+' between them, each at most 999",
        "truth": "sum",
        "evidence": None,
    }
    assert (other["name"], other["architecture"], other["evidence"]) == ("other", "cho2014", EVIDENCE.model_dump())


class Versioned(StandIn):
    """A version that answers with its number."""

    def __init__(self, folder: Path) -> None:
        self.metadata = METADATA.model_copy(update={"version": int(folder.name)})

    def answer(self, query: str) -> ModelOutput:
        return StandIn.answer(self, f"{self.metadata.version}+{query}")


@pytest.fixture
def labelled(tmp_path: Path) -> FlaskClient:
    """The client of an application with two versions, of which the older has a label and is a canary of all."""
    (tmp_path / "adder").mkdir()
    serving = {"labels": {"canary": 1, "stable": 2}, "canary_percent": 100}
    (tmp_path / "adder" / "serving.json").write_text(json.dumps(serving))
    return app_loading(Versioned, tmp_path, "adder/1", "adder/2").test_client()


def test_a_label_names_a_version_in_each_dialect(labelled: FlaskClient) -> None:
    for label, version in (("canary", 1), ("stable", 2)):
        ours = labelled.post("/predict", json={"query": "3+4", "label": label}).get_json()
        assert (ours["answer"], ours["model"]["version"]) == (str(version), version)
        batch = labelled.post("/predict/batch", json={"queries": ["3+4"], "label": label}).get_json()
        assert batch["model"]["version"] == version
        line = labelled.post("/predict/batch", data=f'{{"query":"3+4","label":"{label}"}}', content_type=NDJSON)
        assert json.loads(line.data)["model"]["version"] == version
        url = f"/v1/models/adder/labels/{label}"
        assert labelled.post(f"{url}:predict", json={"instances": ["3+4"]}).get_json()["predictions"][0][
            "answer"
        ] == str(version)
        assert labelled.get(url).get_json()["model_version_status"][0]["version"] == str(version)
        assert labelled.get(f"{url}/metadata").get_json()["model_spec"]["version"] == str(version)
    listed = labelled.get("/models").get_json()["models"]
    assert [(model["version"], model["labels"]) for model in listed] == [(2, ["stable"]), (1, ["canary"])]


def test_a_canary_answers_in_each_dialect(labelled: FlaskClient) -> None:
    assert labelled.post("/predict", json={"query": "3+4"}).get_json()["answer"] == "1"
    rows = labelled.post("/v1/models/adder:predict", json={"instances": ["3+4"]}).get_json()["predictions"]
    assert rows[0]["answer"] == "1"
    tensor = {"name": "query", "shape": [1], "datatype": "BYTES", "data": ["3+4"]}
    inferred = labelled.post("/v2/models/adder/infer", json={"inputs": [tensor]}).get_json()
    assert inferred["model_version"] == "1"
    stream = labelled.post("/predict/stream", json={"query": "3+4"}).text
    assert '"version":1' in stream


def test_a_shadow_is_asked_and_answers_nobody(tmp_path: Path) -> None:
    (tmp_path / "adder").mkdir()
    (tmp_path / "adder" / "serving.json").write_text('{"shadow": 1}')
    client = app_loading(Versioned, tmp_path, "adder/1", "adder/2").test_client()
    assert client.post("/predict", json={"query": "2+4"}).get_json()["answer"] == "2"
    assert client.post("/predict", json={"query": "2+4", "version": 1}).get_json()["answer"] == "1"  # is not copied

    def shadowed(outcome: str) -> bool:
        line = f'adder_shadow_answers_total{{model="adder",outcome="{outcome}",version="1"}} 1.0'
        return line in client.get("/metrics").text.splitlines()

    wait_until(lambda: shadowed("differed"))
    assert not shadowed("agreed")


def test_an_unknown_label_is_refused(labelled: FlaskClient) -> None:
    refused = labelled.post("/predict", json={"query": "3+4", "label": "new"})
    assert (refused.status_code, refused.get_json(force=True)["type"]) == (404, "/problems/model-not-found")
    for version, status in ((2, 200), (1, 404)):
        both = labelled.post("/predict", json={"query": "3+4", "label": "stable", "version": version})
        assert both.status_code == status
    unknown = labelled.post("/v1/models/adder/labels/new:predict", json={"instances": ["3+4"]})
    assert (unknown.status_code, unknown.get_json()) == (400, {"error": "Unrecognized servable version label: new"})


def test_versions_that_are_not_served_are_listed(tmp_path: Path) -> None:
    def load(folder: Path) -> StandIn:
        if folder.name == "2":
            raise ModelUnavailable("2 is damaged")
        return StandIn()

    client = app_loading(load, tmp_path, "adder/1", "adder/2").test_client()
    listed = client.get("/models").get_json()
    assert [model["version"] for model in listed["models"]] == [1]
    assert listed["skipped"] == [{"name": "adder", "version": 2, "state": "damaged", "reason": "2 is damaged"}]
    assert listed["problems"] == []
    page = client.get("/models", headers={"Accept": "text/html"}).text
    assert "adder, version 2, is not served: 2 is damaged." in page
    [served, refused] = client.get("/v1/models/adder").get_json()["model_version_status"]
    assert (served["version"], served["state"]) == ("1", "AVAILABLE")
    status = {"error_code": "FAILED_PRECONDITION", "error_message": "2 is damaged"}
    assert refused == {"version": "2", "state": "END", "status": status}
    assert client.get("/v1/models/adder/versions/2").get_json()["model_version_status"] == [refused]
    [served, refused] = client.post("/v2/repository/index").get_json()
    assert (served["state"], served["reason"]) == ("READY", "")
    assert (refused["state"], refused["reason"]) == ("UNAVAILABLE", "2 is damaged")


def test_a_request_can_name_the_model(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    prediction = client.post("/predict", json={"query": "12+34", "model": "other", "version": 1}).get_json()
    assert (prediction["answer"], prediction["model"]) == ("43", {"name": "other", "version": 1, "sha256": SHA256})
    assert client.post("/predict", json={"query": "12+34"}).get_json()["answer"] == "12"
    batch = client.post("/predict/batch", json={"queries": ["1+2", "3+4"], "model": "other"}).get_json()
    assert [prediction["answer"] for prediction in batch["predictions"]] == ["2", "4"]
    assert batch["model"] == {"name": "other", "version": 1, "sha256": SHA256}


def test_an_unknown_model_is_a_404_that_lists_the_models(tmp_path: Path) -> None:
    response = client_of(tmp_path).post("/predict", json={"query": "1+2", "model": "third"})
    assert (response.status_code, response.content_type) == (404, "application/problem+json")
    problem = response.get_json(force=True)
    assert problem["type"] == "/problems/model-not-found"
    assert problem["detail"] == ("no model 'third' exists; the models, with their versions, are adder (1), other (1)")
    assert problem["example"] == {"query": "123+456"}


def test_an_invalid_name_or_version_is_refused(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    for body, pointer in [
        ({"query": "1+2", "model": 1}, "#/model"),
        ({"query": "1+2", "version": "1"}, "#/version"),
        ({"query": "1+2", "version": True}, "#/version"),
    ]:
        response = client.post("/predict", json=body)
        assert response.status_code == 422
        assert [error["pointer"] for error in response.get_json(force=True)["errors"]] == [pointer]
