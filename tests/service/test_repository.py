import shutil
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from service.artifact import Artifact, Metadata, verify
from service.problems import BrokenArtifact, NotReady
from service.repository import Repository, newest
from service.settings import Settings
from tests.service.conftest import METADATA


class Loaded:
    def __init__(self, folder: Path) -> None:
        if (folder / "broken").exists():
            raise BrokenArtifact(f"{folder} is broken")
        self.metadata: Metadata = METADATA.model_copy(update={"version": int(folder.name)})
        self.predict: Any = None


def repository_of(artifacts: Path, *folders: str) -> Repository:
    for folder in folders:
        (artifacts / "adder" / folder).mkdir(parents=True)
    return Repository(Settings(artifacts=artifacts), lambda folder: cast(Artifact, Loaded(folder)))


def test_the_newest_version_is_served(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, "1", "2", "10", ".11.unfinished", "²", "v12")
    repository.load()
    assert repository.current().artifact.metadata.version == 10


def test_a_broken_version_is_passed_over(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, "1", "2/broken")
    repository.load()
    assert repository.current().artifact.metadata.version == 1


def test_nothing_is_served_until_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="is being loaded: try again"):
        repository_of(tmp_path, "1").current()


def test_loading_in_the_background_says_when_it_is_ready(tmp_path: Path) -> None:
    repository, ready = repository_of(tmp_path, "1"), Event()
    repository.start(ready.set)
    assert ready.wait(10)
    assert repository.current().artifact.metadata.version == 1


def test_loading_in_the_background_never_raises_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = repository_of(tmp_path, "1/broken")
    repository.start(lambda: pytest.fail("it is not ready")).join(10)
    with pytest.raises(BrokenArtifact, match="no version could be loaded: the log says why"):
        repository.current()
    assert f"{tmp_path}/adder/1 is broken" in caplog.text


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=f"{tmp_path}/adder holds no version: export one, or set ADDER_ARTIFACTS"):
        newest(Settings(artifacts=tmp_path), verify)


def test_the_check_passes_when_one_version_is_whole(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))  # which says that it is version 1
    assert newest(Settings(artifacts=artifact.parent.parent), verify).version == 1


def test_the_check_tells_what_is_wrong_with_the_newest(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))
    for version in ("1", "2"):
        (artifact.with_name(version) / "saved_model.pb").unlink()
    with pytest.raises(BrokenArtifact, match=r"/2/saved_model\.pb cannot be read"):
        newest(Settings(artifacts=artifact.parent.parent), verify)
