import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from service.errors import ModelNotFound, ModelUnavailable
from service.models.artifact import Artifact
from service.models.metadata import Metadata, verify
from service.models.repository import Repository, for_each_version
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service.conftest import METADATA, SHA256


class EmptyArtifact:
    """A version without files. A folder with `broken` in it cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        if (folder / "broken").exists():
            raise ModelUnavailable(f"{folder} is broken")
        self.metadata: Metadata = METADATA.model_copy(update={"name": folder.parent.name, "version": int(folder.name)})
        self.sha256 = SHA256
        self.engine: Any = type("Engine", (), {"predict": None, "name": "litert", "answer_length": 4})


def repository_of(artifacts: Path, models: str, *folders: str) -> Repository:
    for folder in folders:
        (artifacts / folder).mkdir(parents=True)
    metrics = Metrics()
    return Repository(
        Settings(artifacts=artifacts, models=models),
        lambda folder: cast(Artifact, EmptyArtifact(folder)),
        metrics.observe_model,
        metrics.observe_skipped,
    )


def test_the_newest_version_is_served(tmp_path: Path) -> None:
    repository = repository_of(
        tmp_path, "adder", "adder/1", "adder/2", "adder/10", "adder/.11.unfinished", "adder/²", "adder/v12"
    )
    assert repository.load()
    assert repository.find().artifact.metadata.version == 10


def test_a_broken_version_is_skipped(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, "adder", "adder/1", "adder/2/broken")
    assert repository.load()
    assert repository.find().artifact.metadata.version == 1


def test_a_version_with_zeros_in_front_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = repository_of(tmp_path, "adder", "adder/1", "adder/00000002", "adder/01")
    assert repository.load()
    assert repository.find().artifact.metadata.version == 1
    assert f"version skipped: {tmp_path}/adder/00000002 has zeros in front of its number: call it 2" in caplog.text


@pytest.mark.parametrize(
    ("models", "served"),
    [
        ("adder", ["adder 2", "adder 1"]),
        ("adder,*", ["adder 2", "adder 1", "a 3", "z 1"]),
        ("*", ["a 3", "adder 2", "adder 1", "z 1"]),
        ("*,adder", ["a 3", "z 1", "adder 2", "adder 1"]),
        ("z,adder,z", ["z 1", "adder 2", "adder 1"]),
    ],
)
def test_all_versions_of_the_configured_models_are_served(tmp_path: Path, models: str, served: list[str]) -> None:
    folders = ["adder/1", "adder/2", "a/3", "z/1", "broken/1/broken", "empty", ".hidden/1", "a name/1"]
    repository = repository_of(tmp_path, models, *folders)
    assert repository.load()
    assert [f"{each.metadata.name} {each.metadata.version}" for each in repository.artifacts()] == served
    default = repository.find().artifact.metadata
    assert f"{default.name} {default.version}" == served[0]


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ("adder,empty", "empty has no version"),
        ("broken,*", "broken/1 is broken"),
        ("none,*", "none has no version"),
    ],
)
def test_a_configured_model_must_exist(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, models: str, problem: str
) -> None:
    assert not repository_of(tmp_path, models, "adder/1", "empty", "broken/1/broken").load()
    assert problem in caplog.text


def test_at_least_one_model_must_exist(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not repository_of(tmp_path, "*").load()
    assert f"{tmp_path} has no model" in caplog.text


def test_a_request_can_name_model_and_version(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    assert repository.load()
    assert repository.find("adder", 1).artifact.metadata.version == 1
    assert repository.find(version=1).artifact.metadata.name == "adder"
    assert repository.find("z").artifact.metadata.name == "z"


@pytest.mark.parametrize(("model", "version"), [("y", None), ("", None), ("z", 2), ("z", 0), (None, 3)])
def test_an_unknown_model_or_version_lists_the_known(tmp_path: Path, model: str | None, version: int | None) -> None:
    repository = repository_of(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    assert repository.load()
    with pytest.raises(ModelNotFound, match=r"the models, with their versions, are adder \(2, 1\), z \(1\)$"):
        repository.find(model, version)


def test_nothing_is_served_before_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no model could be loaded"):
        repository_of(tmp_path, "adder", "adder/1").find()


def test_the_reason_of_a_failed_load_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = repository_of(tmp_path, "adder", "adder/1/broken")
    assert not repository.load()
    with pytest.raises(ModelUnavailable, match="no model could be loaded: see the log of the service"):
        repository.find()
    assert f"{tmp_path}/adder/1 is broken" in caplog.text


def test_an_unexpected_error_of_loading_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def load(_folder: Path) -> Artifact:
        raise RuntimeError("unexpected")

    (tmp_path / "adder" / "1").mkdir(parents=True)
    metrics = Metrics()
    assert not Repository(Settings(artifacts=tmp_path), load, metrics.observe_model, metrics.observe_skipped).load()
    assert "RuntimeError: unexpected" in caplog.text


def test_a_missing_version_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"{tmp_path}/adder has no version: export one, or set ADDER_ARTIFACTS"):
        for_each_version(Settings(artifacts=tmp_path), verify)


def test_one_complete_version_is_enough(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))  # its metadata says version 1
    assert list(for_each_version(Settings(artifacts=artifact.parent.parent), verify)["adder"]) == [1]


def test_the_problem_of_the_newest_version_is_raised(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))
    for version in ("1", "2"):
        (artifact.with_name(version) / "saved_model.pb").unlink()
    with pytest.raises(ModelUnavailable, match=r"/2/saved_model\.pb cannot be read"):
        for_each_version(Settings(artifacts=artifact.parent.parent), verify)
