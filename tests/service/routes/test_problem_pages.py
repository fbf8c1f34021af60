import http
import inspect
import json
import re
import shlex
from html import unescape

import pytest
from flask.testing import FlaskClient
from gunicorn.workers.base import Worker

from service.errors import http_name
from service.openapi.examples import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_type_of_a_problem_is_the_path_of_its_page(client: FlaskClient, name: str) -> None:
    document = EXAMPLES[name].document
    response = client.get(document["type"])
    assert (response.status_code, response.mimetype) == (200, "text/html")
    text = unescape(response.text)
    for shown in (document["title"], f"Status {document['status']}", EXAMPLES[name].meaning, document["detail"]):
        assert shown in text
    assert EXAMPLES[name].text in text


def test_the_curl_command_of_a_page_works(client: FlaskClient) -> None:
    [command] = re.findall("<code>(curl .*)</code>", client.get("/problems/invalid").text)
    _, _, url, _, header, _, body = shlex.split(unescape(command))
    response = client.post(url, data=body, headers=[header.split(": ")])
    assert (response.status_code, response.get_json()["query"]) == (200, "123+456")


def test_all_problems_are_listed(client: FlaskClient) -> None:
    text = client.get("/problems").text
    assert set(re.findall('href="/problems/([^"]*)"', text)) == set(EXAMPLES)


def test_the_errors_of_gunicorn_and_flask_have_pages() -> None:
    by_gunicorn = {int(status) for status in re.findall(r"status_int = (\d+)", inspect.getsource(Worker.handle_error))}
    assert {400, 414, 431, 500, 501} < by_gunicorn
    assert {http_name(status) for status in by_gunicorn | {404, 405, 416}} <= set(EXAMPLES)


def test_an_unknown_problem_is_not_found(client: FlaskClient) -> None:
    response = client.get("/problems/nothing")
    assert response.status_code == 404
    assert json.loads(response.data)["type"] == f"/problems/{http_name(http.HTTPStatus.NOT_FOUND)}"


def test_a_page_without_a_model_has_no_request(broken_client: FlaskClient) -> None:
    problem = broken_client.post("/predict", json={"query": "1+1"}).get_json(force=True)
    response = broken_client.get(problem["type"])
    assert response.status_code == 200
    assert "curl" not in response.text
