from pathlib import Path

from flask.testing import FlaskClient

from service.errors import ModelUnavailable
from service.models.engines.model_output import ModelOutput
from tests.service.conftest import EVIDENCE, METADATA, SHA256, StandIn, app_loading


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


def test_versions_that_are_not_served_are_listed(tmp_path: Path) -> None:
    def load(folder: Path) -> StandIn:
        if folder.name == "2":
            raise ModelUnavailable("2 is damaged")
        return StandIn()

    client = app_loading(load, tmp_path, "adder/1", "adder/2").test_client()
    listed = client.get("/models").get_json()
    assert [model["version"] for model in listed["models"]] == [1]
    assert listed["skipped"] == [{"name": "adder", "version": 2, "state": "damaged", "reason": "2 is damaged"}]
    assert listed["problem"] is None
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
