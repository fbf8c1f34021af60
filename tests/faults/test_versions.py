"""Versions change while 16 connections ask: no request is refused, lost, or answered by anything but one version."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.end_to_end.conftest import Service, running
from tests.faults.load import CONNECTIONS, Load
from tests.service.conftest import edit_metadata, edit_task, remove_files
from training import metadata

UNHARMED = {"refused": 0, "lost": 0, "wrong": 0}
QUERIES = ["1+2", "123+456", "999+999", "0+0", "10+7", "512+88", "64+4", "700+30"]


class Folder:
    """The artifacts folder of a service, with `adder/1` in it; versions are made beside it."""

    def __init__(self, root: Path, shipped: Path) -> None:
        self._shipped = shipped
        self._made = root / "made"
        self._count = 0
        self.artifacts = root / "artifacts"
        self.adder = self.artifacts / "adder"
        self.adder.mkdir(parents=True)
        shutil.copytree(self.make(1), self.adder / "1")

    def make(self, version: int, source: Path | None = None) -> Path:
        """Make a complete version of `adder`, a copy of the shipped one, outside of the service's folder."""
        self._count += 1
        folder = self._made / str(self._count) / "adder" / str(version)
        shutil.copytree(source or self._shipped, folder)
        content = metadata.read(folder)
        metadata.write(folder, content.model_copy(update={"name": "adder", "version": version}))
        return folder

    def remove(self, *versions: int) -> None:
        for version in versions:
            shutil.rmtree(self.adder / str(version))


class Watched:
    """A service under load whose versions change."""

    def __init__(self, service: Service, folder: Folder, load: Load) -> None:
        self.service, self.folder, self.load = service, folder, load

    def add(self, made: Path) -> None:
        """Copy a version into place, as an operator would."""
        shutil.copytree(made, self.folder.adder / made.name)

    def default(self) -> int:
        models = self.service.get("/models").json()["models"]
        return int(next(model["version"] for model in models if model["is_default"]))

    def reasons(self) -> dict[int, tuple[str, str]]:
        """State and reason of the versions that have one."""
        models = self.service.get("/models").json()
        return {
            entry["version"]: (entry["state"], entry["reason"])
            for entry in (*models["models"], *models["skipped"])
            if entry["reason"]
        }

    def until_default(self, version: int) -> None:
        """Wait until all workers answer by a version; answers from then on are by no other."""
        self.service.until(lambda: self.default() == version)
        seen, count = self.load.by_version.copy(), self.load.by_version.total()
        self.service.until(lambda: self.load.by_version.total() > count + 2 * CONNECTIONS)
        seen, count = self.load.by_version.copy(), self.load.by_version.total()
        self.service.until(lambda: self.load.by_version.total() > count + 100)
        assert set(self.load.by_version - seen) == {version}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Iterator[tuple[Service, Folder]]:
    folder = Folder(tmp_path_factory.mktemp("faults"), shipped)
    with running(artifacts=folder.artifacts, workers=2, watch_seconds=0.2) as started:
        yield started, folder


@pytest.fixture
def alone(service: tuple[Service, Folder]) -> tuple[Service, Folder]:
    """The service with adder/1 alone."""
    started, folder = service
    for version in folder.adder.iterdir():
        if version.name not in ("1", "serving.json"):
            shutil.rmtree(version)
    (folder.adder / "serving.json").unlink(missing_ok=True)
    started.until(lambda: [len(started.get("/models").json()[listed]) for listed in ("models", "skipped")] == [1, 0])
    return service


@pytest.fixture
def watched(alone: tuple[Service, Folder]) -> Iterator[Watched]:
    """The service with adder/1 alone, under load; at the end no request must have been harmed."""
    started, folder = alone
    load = Load(started, QUERIES)
    load.expect(folder.adder / "1")
    with load.running():
        yield Watched(started, folder, load)
    assert load.outcome() == UNHARMED, load.wrong[:3]
    assert load.right > 0


def test_a_good_version_takes_over(watched: Watched) -> None:
    made = watched.folder.make(2)
    watched.load.expect(made)
    watched.add(made)
    watched.until_default(2)
    watched.folder.remove(2)
    watched.until_default(1)


Damage = Callable[[Path], Any]
DAMAGES: dict[str, tuple[str, str, Damage]] = {
    "half copied": ("damaged", "checksums.txt cannot be read", lambda made: (made / "checksums.txt").unlink()),
    "wrong checksum": (
        "damaged",
        "saved_model.pb has changed since it was exported",
        lambda made: (made / "saved_model.pb").write_bytes(b"x"),
    ),
    "no model": ("damaged", "does not name saved_model.pb", lambda made: remove_files(made, "saved_model.pb")),
    "another alphabet": ("failed", "has an alphabet", lambda made: edit_task(made, alphabet="123456789+0 ")),
    "golden queries": (
        "failed",
        "answers 1+1 with '2', at its export with '3'",
        lambda made: edit_metadata(made, golden=[{"query": "1+1", "answer": "3"}]),
    ),
    "no evidence": ("held_back", "it was not evaluated", lambda made: edit_metadata(made, evidence=None)),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_version_does_not_take_over(watched: Watched, kind: str) -> None:
    state, reason, damage = DAMAGES[kind]
    made = watched.folder.make(2)
    damage(made)
    watched.add(made)
    watched.service.until(lambda: 2 in watched.reasons())
    found = watched.reasons()[2]
    assert found[0] == state
    assert reason in found[1]
    assert watched.service.metric_value("adder_versions", model="adder", state=state) == 1
    watched.until_default(1)


def test_a_version_that_is_less_right_does_not_take_over(watched: Watched, barely_trained: Path) -> None:
    watched.add(watched.folder.make(2, barely_trained))
    watched.service.until(lambda: watched.reasons().get(2, ("", ""))[0] == "held_back")
    watched.until_default(1)
    answer = watched.service.post("/predict", {"query": "1+2", "version": 2}).json()
    assert answer["model"]["version"] == 2


def test_a_version_that_is_damaged_in_its_place_goes_on(watched: Watched) -> None:
    (watched.folder.adder / "1" / "saved_model.pb").write_bytes(b"half of one")
    watched.service.until(lambda: watched.reasons().get(1, ("", ""))[0] == "damaged")
    watched.until_default(1)
    whole = watched.folder.make(1)
    shutil.copy(whole / "saved_model.pb", watched.folder.adder / "1")
    watched.service.until(lambda: not watched.reasons())


def test_other_files_of_the_same_version_take_over(watched: Watched, tmp_path: Path) -> None:
    before = watched.service.get("/models").json()["models"][0]["sha256"]
    made = watched.folder.make(1)
    edit_metadata(made, architecture="another")
    watched.load.expect(made)
    (watched.folder.adder / "1").rename(tmp_path / "old")
    made.rename(watched.folder.adder / "1")
    watched.service.until(lambda: watched.service.get("/models").json()["models"][0]["sha256"] != before)
    shutil.rmtree(watched.folder.adder / "1")
    (tmp_path / "old").rename(watched.folder.adder / "1")
    watched.service.until(lambda: watched.service.get("/models").json()["models"][0]["sha256"] == before)


def test_a_label_moves_and_a_rollback_is_one_edit(watched: Watched) -> None:
    made = watched.folder.make(2)
    watched.load.expect(made)
    watched.add(made)
    watched.until_default(2)
    serving = watched.folder.adder / "serving.json"
    serving.write_text('{"labels": {"stable": 1}, "default": "stable"}')
    watched.until_default(1)
    serving.write_text('{"labels": {"stable": 2}, "default": "stable"}')
    watched.until_default(2)
    serving.write_text("half of one")
    watched.service.until(lambda: watched.service.metric_value("adder_reload_failed") == 1)
    watched.until_default(2)
    serving.unlink()
    watched.service.until(lambda: watched.service.metric_value("adder_reload_failed") == 0)


def test_the_command_line_labels_and_rolls_back(watched: Watched) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "service", "models", *arguments]
        environment = os.environ | {"ADDER_URL": watched.service.url, "ADDER_ARTIFACTS": str(watched.folder.artifacts)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    made = watched.folder.make(2)
    watched.load.expect(made)
    watched.add(made)
    watched.until_default(2)
    assert run("label", "adder", "old", "1") == "adder: old is version 1\n"
    watched.service.until(lambda: run("status") == "adder 2 available default\nadder 1 available old\n")
    assert run("rollback", "adder") == "adder: default is version 1, and was 2\n"
    watched.until_default(1)
    assert run("status") == "adder 1 available default old\nadder 2 available\n"
    assert run("rollback", "adder") == f"Error: {watched.service.url} serves no version of adder before 1\n"
    assert run("label", "adder", "default", "7").endswith("serving.json names version 7, which cannot be served\n")
    (watched.folder.adder / "serving.json").unlink()


def test_many_versions_at_once_end_with_the_newest(watched: Watched) -> None:
    made = [watched.folder.make(version) for version in range(2, 12)]
    for folder in made:
        watched.load.expect(folder)
        watched.add(folder)
    watched.until_default(11)
    watched.folder.remove(*range(2, 12))
    watched.until_default(1)


def test_sighup_in_the_midst(watched: Watched) -> None:
    made = watched.folder.make(2)
    watched.load.expect(made)
    watched.add(made)
    for _ in range(3):
        watched.service.process.send_signal(signal.SIGHUP)
    watched.until_default(2)


def test_a_folder_that_is_replaced_by_a_link(watched: Watched) -> None:
    """As Kubernetes replaces the files of a ConfigMap: `..data` is a link, of which another takes the place."""
    made = watched.folder.make(2)
    watched.load.expect(made)
    artifacts, adder = watched.folder.artifacts, watched.folder.adder
    for name, versions in (("..first", [adder / "1"]), ("..second", [adder / "1", made])):
        for version in versions:
            shutil.copytree(version, artifacts / name / "adder" / version.name)
    (artifacts / "..data").symlink_to("..first")
    (artifacts / "link").symlink_to("..data/adder")
    real = adder.rename(artifacts.parent / "real")
    (artifacts / "link").rename(adder)
    try:
        (artifacts / "..next").symlink_to("..second")
        (artifacts / "..next").rename(artifacts / "..data")
        watched.until_default(2)
    finally:
        adder.unlink()
        real.rename(adder)
    watched.until_default(1)


def test_a_worker_that_is_killed_while_it_loads(alone: tuple[Service, Folder]) -> None:
    started, folder = alone
    load = Load(started, QUERIES)
    made = folder.make(7)
    for version in (folder.adder / "1", made):
        load.expect(version)
    watched = Watched(started, folder, load)
    with load.running():
        watched.add(made)
        os.kill(started.workers()[-1], signal.SIGKILL)
        watched.until_default(7)
        started.until(lambda: started.metric_value("adder_workers_ready") == 2)
    assert load.outcome() | {"lost": 0} == UNHARMED
    assert load.lost <= CONNECTIONS  # what was in its hands
