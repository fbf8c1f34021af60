"""A model of another task beside the shipped ones, by either engine, without a change to the service."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from service.client import Client, HTTPStatusError
from tests.conftest import ROOT, newest, run_training_process
from tests.end_to_end.browser import chromium
from tests.end_to_end.conftest import Service, running

MODEL = {"model": "reverser"}
BAD_QUERIES = {  # and the sentence of the task's own rule
    "abF": "'F' is a capital letter: write small letters, like 'abcde'",
    "abz": "'z' is not one of the letters a to e, like 'abcde'",
    "": "the word is empty, like 'abcde'",
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest shipped adder, and a network that turns words round, trained and exported by the command line."""
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "adder").mkdir()
    (folder / "adder" / newest("adder").name).symlink_to(newest("adder"))
    checkpoints = folder / ".checkpoints"
    for command in [
        ["train", checkpoints, "--task", "reversal", "--epochs", 8, "--batch-size", 256],
        ["export", checkpoints, "--artifacts", folder, "--name", "reverser"],
        ["evaluate", folder / "reverser" / "1"],
        ["report", folder / "reverser" / "1"],
    ]:
        done = run_training_process(*command)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["litert", "saved_model"])
def reversing(request: pytest.FixtureRequest, artifacts: Path) -> Iterator[Service]:
    with running(artifacts=artifacts, engine=request.param, workers=1) as service:
        [_, reverser] = service.get("/models").json()["models"]
        assert (reverser["name"], reverser["engine"]) == ("reverser", request.param)
        yield service


def answer(service: Service, query: str) -> str:
    return str(service.post("/predict", {"query": query, **MODEL}).json()["answer"])


def test_the_network_has_learned_the_task(reversing: Service, artifacts: Path) -> None:
    evidence = reversing.get("/models").json()["models"][1]["evidence"]
    assert evidence["held_out"]["exact_match"] > 0.9
    samples = (artifacts / "reverser/1/samples.ndjson").read_text().splitlines()
    right = {sample["query"]: sample["answer"] for sample in map(json.loads, samples)}
    assert all(answer == query[::-1] for query, answer in right.items())
    predictions = reversing.post("/predict/batch", {"queries": list(right), **MODEL}).json()["predictions"]
    assert sum(each["answer"] == right[each["query"]] for each in predictions) > 0.9 * len(right)

    def compared(outcome: str) -> float:
        return reversing.metric_value("adder_answers_total", model="reverser", outcome=outcome)

    reversing.until(lambda: compared("right") + compared("wrong") >= len(right))
    assert compared("right") > 0.9 * len(right)
    assert reversing.metric_value("adder_model_info", model="reverser", truth="samples") == 1


def test_every_dialect_answers_the_same(reversing: Service) -> None:
    expected = answer(reversing, "abcde")
    v1 = reversing.post("/v1/models/reverser:predict", {"instances": ["abcde"]}).json()
    tensor = {"name": "query", "datatype": "BYTES", "shape": [1], "data": [" abcde "]}
    v2 = reversing.post("/v2/models/reverser/infer", {"inputs": [tensor]}).json()
    outputs = {output["name"]: output["data"] for output in v2["outputs"]}
    assert v1["predictions"][0]["answer"] == outputs["answer"][0] == expected


def test_stream_explain_and_alternatives_answer_the_same(reversing: Service) -> None:
    expected = answer(reversing, "bad")
    streamed = reversing.get("/predict/stream?query=bad&model=reverser").text.split("\n\n")
    characters = [json.loads(event.partition("data: ")[2])["character"] for event in streamed if "runners_up" in event]
    assert characters == [*expected, ""]
    explained = reversing.post("/explain", {"query": "bad", **MODEL}).json()
    assert (explained["answer"], explained["hidden"], explained["characters"]) == (expected, [*"bad"], [*expected, ""])
    predicted = reversing.post("/predict", {"query": "bad", "alternatives": 3, "characters": True, **MODEL}).json()
    assert predicted["alternatives"][0]["answer"] == expected
    assert [each["character"] for each in predicted["characters"]] == [*expected, ""]


def test_a_bad_query_gets_the_sentence_of_its_task(reversing: Service) -> None:
    for query, sentence in BAD_QUERIES.items():
        refused = reversing.post("/predict", {"query": query, **MODEL})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["detail"] == sentence
        assert refused.json()["example"] == {"query": "abcde", **MODEL}
    error = reversing.post("/v1/models/reverser:predict", {"inputs": ["abz"]}).json()["error"]
    assert BAD_QUERIES["abz"] in error


def test_lines_are_answered(reversing: Service) -> None:
    lines = b"".join(json.dumps({"query": query, **MODEL}).encode() + b"\n" for query in ["abc", "xyz"])
    url, headers = f"{reversing.url}/predict/batch", {"content-type": "application/x-ndjson"}
    good, bad = map(json.loads, requests.post(url, data=lines, headers=headers, timeout=30).text.splitlines())
    assert good["answer"] == answer(reversing, "abc")
    assert "'x' is not one of the letters a to e" in bad["detail"]


def test_the_client_and_its_command_line_ask(reversing: Service) -> None:
    with Client(reversing.url) as client:
        assert client.predict("abc", model="reverser").answer == answer(reversing, "abc")
        assert [entry.query_example for entry in client.models()] == ["123+456", "abcde"]
        with pytest.raises(HTTPStatusError, match="'z' is not one of the letters"):
            client.predict("z", model="reverser")
    command = [sys.executable, "-m", "service", "ask", "abc", "--model", "reverser", "--url", reversing.url, "--stream"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout == f"{answer(reversing, 'abc')}\n"


def test_the_page_shows_hint_and_example_of_the_task(reversing: Service) -> None:
    with chromium() as browser:
        page = browser.new_page(base_url=reversing.url)
        page.goto("/")
        expect(page.locator("#hint")).to_contain_text("two whole numbers")
        page.get_by_label("Model", exact=True).select_option("reverser/1")
        expect(page.locator("#hint")).to_contain_text("letters a to e")
        expect(page.get_by_role("textbox")).to_have_value("abcde")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".summary")).to_contain_text("by reverser, version 1")
        expect(page.locator(".verdict")).to_be_hidden()  # no right answer is known to the page
        tiles = page.locator(".characters .tile").all_text_contents()
        assert "".join(tiles).removesuffix("end") == answer(reversing, "abcde")
        page.goto("/models")
        card = page.get_by_role("region", name="reverser, version 1")
        expect(card).to_contain_text("sample queries are compared with the right ones")
