from typing import NoReturn

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient

from service.errors import FieldError, Invalid, QueueFull
from service.rest import problem_details
from service.telemetry import middleware


def test_an_unknown_path_is_a_problem(client: FlaskClient) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert response.mimetype == "application/problem+json"
    assert response.get_json(force=True) == {
        "type": "/problems/not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "GET /nothing is not served: near it are POST /predict, POST /predict/batch",
    }


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/predict/", "POST /predict, POST /predict/batch, GET /predict/stream, POST /predict/stream"),
        ("/health", "GET /health/live, GET /health/ready"),
        ("/models/adder/2", "GET /models"),
        ("/PREDCIT", "POST /predict"),
        ("/metric", "GET /metrics"),
    ],
)
def test_an_unknown_path_names_what_is_near(client: FlaskClient, path: str, near: str) -> None:
    detail = client.get(path).get_json(force=True)["detail"]
    assert detail.startswith(f"GET {path} is not served: near it are ")
    assert near in detail


def test_a_wrong_method_is_a_problem_with_allow(client: FlaskClient) -> None:
    response = client.get("/predict")
    assert response.status_code == 405
    assert response.allow is not None
    assert set(response.allow) == {"OPTIONS", "POST"}
    assert response.get_json(force=True)["type"] == "/problems/method-not-allowed"


@pytest.mark.parametrize("path", ["//predict", "/predict/", "/PREDICT", "/predict/batch/1", "/%00", "/é"])
def test_a_misspelled_path_is_not_redirected(client: FlaskClient, path: str) -> None:
    assert client.post(path, json={"query": "1+1"}).status_code == 404


def test_an_internal_error_is_a_problem_without_a_traceback(client: FlaskClient) -> None:
    client.application.add_url_rule("/broken", view_func=lambda: str(1 / 0))
    response = client.get("/broken")
    assert response.status_code == 500
    assert response.get_json(force=True)["type"] == "/problems/internal-server-error"
    assert b"ZeroDivisionError" not in response.data


def test_the_paths_of_the_dialects_are_known(client: FlaskClient) -> None:
    app = client.application
    dialects = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if getattr(getattr(app.view_functions[rule.endpoint], "operation", None), "error_documents", False)
    }
    assert dialects
    assert dialects == {
        rule.rule for rule in app.url_map.iter_rules() if problem_details.DIALECT_PATHS.match(rule.rule)
    }


@pytest.mark.parametrize("dialect", ["/v1", "/v2"])
def test_a_dialect_has_error_documents(dialect: str) -> None:
    def fail(name: str) -> NoReturn:
        problems = {"full": QueueFull(3, 4), "invalid": Invalid([FieldError(pointer="#/x", detail="it is wrong")], 2)}
        raise problems[name]

    app, routes = Flask(__name__), Blueprint("dialect", __name__, url_prefix=dialect)
    middleware.register(app, [])
    problem_details.register(app)
    problem_details.register_error_documents(routes)
    routes.add_url_rule("/<name>", view_func=fail)
    app.register_blueprint(routes)
    client = app.test_client()
    responses = {name: client.get(f"{dialect}/{name}") for name in ("full", "invalid", "unexpected")}
    assert {name: response.status_code for name, response in responses.items()} == {
        "full": 503,
        "invalid": 400,
        "unexpected": 500,
    }
    assert {name: response.json for name, response in responses.items()} == {
        "full": {"error": "3 queries are in the queue, and the limit is 4: try again"},
        "invalid": {"error": "#/x: it is wrong (and 1 more)"},
        "unexpected": {"error": "internal error: see the log of the service"},
    }
    assert responses["full"].headers["Retry-After"] == "1"
