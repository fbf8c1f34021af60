from pathlib import Path

from flask.testing import FlaskClient

from service.app import create_app
from service.models.catalog import Catalog
from service.settings import Settings
from tests.service.conftest import SHA256, StandIn, app_of


def test_a_worker_without_a_model_is_live_and_not_ready(tmp_path: Path) -> None:
    app = create_app(Settings(artifacts=tmp_path))
    assert not app.extensions["repository"].load(Catalog())
    client = app.test_client()
    assert client.get("/health/live").json == {"status": "live"}
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.get_json(force=True)["type"] == "/problems/model-unavailable"
    assert str(tmp_path) not in response.text
    assert client.post("/predict", json={"query": "1+1"}).status_code == 503


def test_a_worker_with_a_model_is_ready(tmp_path: Path) -> None:
    response = app_of(StandIn(), tmp_path).test_client().get("/health/ready")
    assert response.json == {"status": "ready", "models": [{"name": "adder", "version": 1, "sha256": SHA256}]}


def test_a_probe_can_use_head(client: FlaskClient) -> None:
    assert client.head("/health/ready").status_code == 200
