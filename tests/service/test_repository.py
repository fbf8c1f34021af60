import shutil
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from service.artifact import Artifact, Metadata, verify
from service.problems import BrokenArtifact, NotReady, UnknownModel
from service.repository import Repository, open_all
from service.settings import Settings
from tests.service.conftest import METADATA


class Loaded:
    def __init__(self, folder: Path) -> None:
        if (folder / "broken").exists():
            raise BrokenArtifact(f"{folder} is broken")
        self.metadata: Metadata = METADATA.model_copy(update={"name": folder.parent.name, "version": int(folder.name)})
        self.predict: Any = None


def repository_of(artifacts: Path, models: str, *folders: str) -> Repository:
    for folder in folders:
        (artifacts / folder).mkdir(parents=True)
    return Repository(Settings(artifacts=artifacts, models=models), lambda folder: cast(Artifact, Loaded(folder)))


def test_the_newest_version_is_served(tmp_path: Path) -> None:
    repository = repository_of(
        tmp_path, "adder", "adder/1", "adder/2", "adder/10", "adder/.11.unfinished", "adder/²", "adder/v12"
    )
    repository.load()
    assert repository.find().artifact.metadata.version == 10


def test_a_broken_version_is_passed_over(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, "adder", "adder/1", "adder/2/broken")
    repository.load()
    assert repository.find().artifact.metadata.version == 1


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
def test_every_version_of_the_models_asked_for_is_served(tmp_path: Path, models: str, served: list[str]) -> None:
    there = ["adder/1", "adder/2", "a/3", "z/1", "broken/1/broken", "empty", ".hidden/1", "a name/1"]
    repository = repository_of(tmp_path, models, *there)
    repository.load()
    assert [f"{metadata.name} {metadata.version}" for metadata in repository.all()] == served
    default = repository.find().artifact.metadata
    assert f"{default.name} {default.version}" == served[0]


def test_a_model_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match="empty holds no version"):
        repository_of(tmp_path, "adder,empty", "adder/1", "empty").load()
    with pytest.raises(BrokenArtifact, match="broken/1 is broken"):
        repository_of(tmp_path, "broken,*", "broken/1/broken").load()
    (tmp_path / "none").mkdir()
    with pytest.raises(BrokenArtifact, match="none holds no model"):
        repository_of(tmp_path / "none", "*").load()


def test_a_model_and_a_version_can_be_named(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    repository.load()
    assert repository.find("adder", 1).artifact.metadata.version == 1
    assert repository.find(version=1).artifact.metadata.name == "adder"
    assert repository.find("z").artifact.metadata.name == "z"


@pytest.mark.parametrize(("model", "version"), [("y", None), ("", None), ("z", 2), ("z", 0), (None, 3)])
def test_what_there_is_is_named_where_something_else_is_wanted(
    tmp_path: Path, model: str | None, version: int | None
) -> None:
    repository = repository_of(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    repository.load()
    with pytest.raises(UnknownModel, match=r"those there are, with their versions: adder \(2, 1\), z \(1\)$"):
        repository.find(model, version)


def test_nothing_is_served_until_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="are being loaded: try again"):
        repository_of(tmp_path, "adder", "adder/1").find()


def test_loading_in_the_background_says_when_it_is_ready(tmp_path: Path) -> None:
    repository, ready = repository_of(tmp_path, "adder", "adder/1"), Event()
    repository.start(ready.set)
    assert ready.wait(10)
    assert repository.find().artifact.metadata.version == 1


def test_loading_in_the_background_never_raises_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = repository_of(tmp_path, "adder", "adder/1/broken")
    repository.start(lambda: pytest.fail("it is not ready")).join(10)
    with pytest.raises(BrokenArtifact, match="a model could not be loaded: the log says why"):
        repository.find()
    assert f"{tmp_path}/adder/1 is broken" in caplog.text


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=f"{tmp_path}/adder holds no version: export one, or set ADDER_ARTIFACTS"):
        open_all(Settings(artifacts=tmp_path), verify)


def test_the_check_passes_when_one_version_is_whole(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))  # which says that it is version 1
    assert list(open_all(Settings(artifacts=artifact.parent.parent), verify)["adder"]) == [1]


def test_the_check_tells_what_is_wrong_with_the_newest(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))
    for version in ("1", "2"):
        (artifact.with_name(version) / "saved_model.pb").unlink()
    with pytest.raises(BrokenArtifact, match=r"/2/saved_model\.pb cannot be read"):
        open_all(Settings(artifacts=artifact.parent.parent), verify)
