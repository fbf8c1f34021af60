"""The shipped models: selecting one, and loading a new version on SIGHUP."""

import hashlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, newest
from tests.end_to_end.conftest import Service, Start
from training import metadata

SHIPPED = sorted((ROOT / "model_artifacts").glob("*/[0-9]*"))


def versions(name: str) -> list[int]:
    """The shipped versions of a model, newest first."""
    return sorted((int(folder.name) for folder in SHIPPED if folder.parent.name == name), reverse=True)


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_each_shipped_version_answers_as_at_its_export(service: Service, shipped: Path) -> None:
    described = metadata.read(shipped)
    sha256 = hashlib.sha256((shipped / "checksums.txt").read_bytes()).hexdigest()
    model = {"name": described.name, "version": described.version, "sha256": sha256}
    body = {
        "queries": [golden.query for golden in described.golden],
        "model": described.name,
        "version": described.version,
    }
    answered = service.post("/predict/batch", body).json()
    assert answered["model"] == model
    assert [each["answer"] for each in answered["predictions"]] == [golden.answer for golden in described.golden]
    alone = service.post("/predict", {"query": described.task.example, "model": described.name}).json()
    assert (alone["model"]["name"], alone["model"]["version"]) == (described.name, versions(described.name)[0])


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_each_shipped_version_is_small_and_accurate(shipped: Path) -> None:
    evidence = metadata.read(shipped).evidence
    assert evidence is not None
    assert evidence.held_out.exact_match >= 0.999
    assert sum(file.stat().st_size for file in shipped.rglob("*") if file.is_file()) < 3_100_000


def test_the_models_are_listed_with_their_evidence(service: Service) -> None:
    listed = service.get("/models").json()["models"]
    assert (listed[0]["name"], listed[0]["version"]) == ("adder", versions("adder")[0])
    assert {f"{each['name']}/{each['version']}" for each in listed} == {"/".join(each.parts[-2:]) for each in SHIPPED}
    for each in listed:
        evidence = metadata.read(ROOT / "model_artifacts" / each["name"] / str(each["version"])).evidence
        assert evidence is not None
        assert each["evidence"]["domain"] == evidence.domain.model_dump()
        assert each["evidence"]["held_out"] == evidence.held_out.model_dump()


def test_an_unknown_model_gets_404_with_the_names_served(service: Service) -> None:
    refused = service.post("/predict", {"query": "1+2", "model": "multiplier"})
    assert refused.status_code == 404
    for name in {folder.parent.name for folder in SHIPPED}:
        assert name in refused.json()["detail"]


def test_a_model_of_four_digits_is_served_by_its_name(service: Service) -> None:
    request = {"query": "1234+5678", "model": "adder-4"}
    assert service.post("/predict", request).json()["answer"] == "6912"
    refused = service.post("/predict", request | {"query": "12345+1"}).json()
    assert refused["errors"][0]["detail"] == "the operand '12345' is too large: 9999 is the largest, like '1234+4567'"


def test_the_newest_version_corrects_the_one_before(service: Service) -> None:
    newest, older = versions("adder")[:2]
    evidence = metadata.read(ROOT / "model_artifacts" / "adder" / str(older)).evidence
    assert evidence is not None
    assert evidence.wrong_queries
    for query in evidence.wrong_queries:
        truth = str(sum(map(int, query.split("+"))))
        assert service.post("/predict", {"query": query, "version": newest}).json()["answer"] == truth
        assert service.post("/predict", {"query": query, "version": older}).json()["answer"] != truth


def test_sighup_loads_a_new_version_unless_it_is_damaged(start: Start, tmp_path: Path) -> None:
    newest, older = versions("adder")[:2]
    adder = shutil.copytree(ROOT / "model_artifacts" / "adder", tmp_path / "adder")
    damaged = adder / str(newest) / "saved_model.pb"
    damaged.write_bytes(b"half of one")
    service = start(artifacts=tmp_path, workers=2, watch_seconds=0).ready()
    assert service.post("/predict", {"query": "1+2"}).json()["model"]["version"] == older
    assert f"adder version {newest} is skipped: {damaged} has changed" in service.log
    assert service.metric_value("adder_versions", model="adder", state="damaged") == 1
    shutil.copy(ROOT / "model_artifacts" / "adder" / str(newest) / damaged.name, damaged)
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda: f"Serving adder version {newest}, adder version {older}" in service.log)
    for _ in range(20):  # by any worker
        assert service.post("/predict", {"query": "1+2"}).json()["model"]["version"] == newest
    service.until(lambda: service.metric_value("adder_versions", model="adder", state="damaged") == 0)
    assert len(service.workers()) == 2  # the same ones


def test_sighup_keeps_what_is_served_if_nothing_else_can_be(start: Start, artifact: Path) -> None:
    service = start(artifacts=artifact.parent.parent, workers=1, watch_seconds=0).ready()
    artifact.parent.rename(artifact.parent.with_name("other"))
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda: "the models that are served remain: " in service.log)
    service.until(lambda: service.metric_value("adder_reload_failed") == 1)
    assert "has no version" in service.get("/models").json()["problems"][0]
    assert service.post("/predict", {"query": "1+2"}).status_code == 200
    artifact.parent.with_name("other").rename(artifact.parent)
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda: service.metric_value("adder_reload_failed") == 0)


def test_a_log_of_predictions_is_replayed(start: Start, tmp_path: Path) -> None:
    service = start(models="adder@2", workers=2, prediction_log=tmp_path).ready()
    queries = ["0+0", "1+2", "123+456"]  # of which version 1 answers the first wrongly
    for query in queries:
        assert service.post("/predict", {"query": query}).status_code == 200

    def lines() -> int:
        return sum(len(file.read_text().splitlines()) for file in tmp_path.glob("predictions-*.ndjson"))

    service.until(lambda: lines() == len(queries))

    def replay(version: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service", "replay", str(tmp_path), "--version", version, *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    worse = replay("1")
    assert worse.stdout.startswith("2 of 3 answers agree\nright: 3 before, 2 now, of 3 that can be checked\n")
    assert (worse.returncode, worse.stderr) == (1, "adder version 1\n")
    same = replay("2", "--url", service.url)
    assert same.stdout.startswith("3 of 3 answers agree\nright: 3 before, 3 now, of 3 that can be checked\n")
    assert same.returncode == 0
    missing = replay("1", "--model", "cho2014")
    assert missing.returncode == 1
    assert missing.stderr == f"error: {tmp_path} has no answers of cho2014: set ADDER_PREDICTION_LOG for the service\n"


def test_models_are_loaded_and_unloaded_on_request(start: Start, tmp_path: Path) -> None:
    for name in ("adder", "cho2014"):
        shutil.copytree(newest(name), tmp_path / name / newest(name).name)
    service = start(artifacts=tmp_path, workers=2, watch_seconds=0, repository_control=True).ready()

    def change(model: str, action: str) -> tuple[int, str]:
        response = service.post(f"/v2/repository/models/{model}/{action}", {})
        return response.status_code, response.json().get("error", "")

    def states() -> dict[str, tuple[str, str]]:
        listed = service.post("/v2/repository/index", {}).json()
        return {entry["name"]: (entry["state"], entry["reason"]) for entry in listed}

    assert change("cho2014", "unload") == (200, "")
    for _ in range(20):  # by any worker
        assert service.post("/predict", {"query": "1+2", "model": "cho2014"}).status_code == 404
    assert states() == {"adder": ("READY", ""), "cho2014": ("UNAVAILABLE", "unloaded")}
    assert change("adder", "unload") == (503, "adder is the only model that is served: it cannot be unloaded")
    assert change("cho2014", "unload")[0] == 404
    (tmp_path / "cho2014" / newest("cho2014").name / "saved_model.pb").rename(tmp_path / "saved_model.pb")
    status, error = change("cho2014", "load")
    assert (status, "saved_model.pb cannot be read" in error) == (503, True)
    (tmp_path / "saved_model.pb").rename(tmp_path / "cho2014" / newest("cho2014").name / "saved_model.pb")
    assert change("cho2014", "load") == (200, "")
    for _ in range(20):
        assert service.post("/predict", {"query": "1+2", "model": "cho2014"}).json()["answer"] == "3"
    assert change("nope", "load")[0] == 404


def test_models_are_not_changed_on_request_unless_it_is_set(service: Service) -> None:
    for action in ("load", "unload"):
        refused = service.post(f"/v2/repository/models/adder/{action}", {})
        assert refused.status_code == 403
        assert refused.json() == {"error": "the service allows this if ADDER_REPOSITORY_CONTROL=true is set"}
