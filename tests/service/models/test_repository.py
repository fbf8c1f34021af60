import gc
import weakref
from pathlib import Path
from typing import Any, cast

import pytest

from service.errors import ModelNotFound, ModelUnavailable
from service.models.artifact import Artifact
from service.models.catalog import Catalog, Model, Version, survey
from service.models.metadata import Metadata
from service.models.repository import Repository
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service.conftest import METADATA


class EmptyArtifact:
    """A version without files; a file `sha256` names its checksum. A folder with `broken` in it cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        if (folder / "broken").exists():
            raise ModelUnavailable(f"{folder} is broken")
        self.metadata: Metadata = METADATA.model_copy(update={"name": folder.parent.name, "version": int(folder.name)})
        self.sha256 = sha256_of(folder)
        self.engine: Any = type("Engine", (), {"predict": None, "name": "litert", "answer_length": 4})


def sha256_of(folder: Path) -> str:
    file = folder / "sha256"
    return file.read_text() if file.exists() else "5f"


def load_empty(folder: Path, _signature_def: object = None) -> Artifact:
    return cast(Artifact, EmptyArtifact(folder))


class Served:
    """A repository over a folder, and the generation that is active."""

    def __init__(self, artifacts: Path, models: str = "adder,*", *folders: str) -> None:
        for folder in folders:
            (artifacts / folder).mkdir(parents=True)
        self.settings = Settings(artifacts=artifacts, models=models)
        self.active = 0
        self.repository = Repository(self.settings, load_empty, Metrics(), lambda: self.active)

    def survey(self) -> Catalog:
        return survey(self.settings, lambda folder: EmptyArtifact(folder).sha256)

    def load(self) -> bool:
        return self.repository.load(self.survey())

    def served(self) -> list[str]:
        return [f"{each.metadata.name} {each.metadata.version}" for each in self.repository.artifacts()]


def test_versions_are_served_in_the_order_of_the_catalog(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder,*", "adder/1", "adder/2", "z/1", "a/3")
    assert service.load()
    assert service.served() == ["adder 2", "adder 1", "a 3", "z 1"]


def test_a_request_can_name_model_and_version(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    assert service.load()
    find = service.repository.find
    assert find().artifact.metadata.version == 2
    assert find("adder", 1).artifact.metadata.version == 1
    assert find(version=1).artifact.metadata.name == "adder"
    assert find("z").artifact.metadata.name == "z"


@pytest.mark.parametrize(("model", "version"), [("y", None), ("", None), ("z", 2), ("z", 0), (None, 3)])
def test_an_unknown_model_or_version_lists_the_known(tmp_path: Path, model: str | None, version: int | None) -> None:
    service = Served(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    assert service.load()
    with pytest.raises(ModelNotFound, match=r"the models, with their versions, are adder \(2, 1\), z \(1\)$"):
        service.repository.find(model, version)


def test_a_request_can_name_a_label(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1", "adder/2")
    (tmp_path / "adder/serving.json").write_text('{"labels": {"old": 1}}')
    assert service.load()
    assert service.repository.find(label="old").artifact.metadata.version == 1
    with pytest.raises(ModelNotFound, match="no model 'adder' with label 'new' exists"):
        service.repository.find("adder", label="new")
    with pytest.raises(ModelNotFound, match="no model 'z' with label 'old' exists"):
        service.repository.find("z", label="old")


def test_a_canary_answers_requests_that_name_no_version(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1", "adder/2")
    (tmp_path / "adder/serving.json").write_text('{"labels": {"canary": 1}, "canary_percent": 50}')
    assert service.load()
    ids = [str(number) for number in range(200)]
    found = [service.repository.find(request_id=each).artifact.metadata.version for each in ids]
    assert 60 < found.count(1) < 140
    assert found == [service.repository.find("adder", request_id=each).artifact.metadata.version for each in ids]
    assert {service.repository.find(version=2, request_id=each).artifact.metadata.version for each in ids} == {2}
    assert service.repository.find().artifact.metadata.version == 2  # no request


def test_a_shadow_gets_a_copy_from_all_others_until_it_is_none(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1", "adder/2", "adder/3")
    serving = tmp_path / "adder/serving.json"
    serving.write_text('{"labels": {"next": 3}, "shadow": "next", "default": 2}')
    assert service.load()

    def copied() -> list[int]:
        return [number for number in (1, 2, 3) if service.repository.find(version=number).batcher.copy is not None]

    assert copied() == [1, 2]
    serving.write_text('{"default": 2}')
    assert not service.repository.prepare(0, service.survey())
    service.repository.switch()
    assert copied() == []


def test_a_required_model_may_be_unloaded(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder,*", "adder/1", "z/1")
    assert service.repository.load(service.survey().unload("adder"))
    assert service.served() == ["z 1"]
    assert service.repository.find().artifact.metadata.name == "z"


def test_nothing_is_served_before_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no model could be loaded"):
        Served(tmp_path, "adder", "adder/1").repository.find()


@pytest.mark.parametrize(("models", "is_loaded"), [("z,*", True), ("adder,*", False), ("adder", False)])
def test_a_named_model_that_cannot_be_loaded_stops_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, models: str, is_loaded: bool
) -> None:
    service = Served(tmp_path, models, "adder/1", "z/1")
    catalog = service.survey()
    (tmp_path / "adder/1/broken").mkdir()  # since the look
    assert service.repository.load(catalog) == is_loaded
    assert f"{tmp_path}/adder/1 is broken" in caplog.text
    if not is_loaded:
        assert not service.repository.switch().models
        with pytest.raises(ModelUnavailable, match="no model could be loaded: see the log of the service"):
            service.repository.find()


def test_an_unexpected_error_of_loading_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def load(_folder: Path, _signature_def: object) -> Artifact:
        raise RuntimeError("unexpected")

    catalog = Served(tmp_path, "adder", "adder/1").survey()
    assert not Repository(Settings(artifacts=tmp_path), load, Metrics()).load(catalog)
    assert "RuntimeError: unexpected" in caplog.text


def test_a_change_takes_effect_when_its_generation_is_active(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1")
    assert service.load()
    kept = service.repository.find()
    (tmp_path / "adder/2").mkdir()
    assert not service.repository.prepare(1, service.survey())
    assert service.repository.find() is kept
    service.active = 1
    assert service.repository.find().artifact.metadata.version == 2
    assert service.repository.find("adder", 1) is kept  # not loaded again


def test_a_version_with_other_files_is_loaded_again(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1")
    assert service.load()
    (tmp_path / "adder/1/sha256").write_text("6a")
    assert not service.repository.prepare(0, service.survey())
    service.repository.switch()
    assert service.repository.find().artifact.sha256 == "6a"


def test_a_version_that_changes_while_it_is_loaded_is_a_problem(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1")
    catalog = service.survey()
    (tmp_path / "adder/1/sha256").write_text("6a")
    assert service.repository.prepare(0, catalog) == {
        ("adder", 1): f"{tmp_path}/adder/1 has changed since it was looked at"
    }


def test_an_unloaded_version_is_freed_after_its_last_request(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1", "adder/2")
    assert service.load()
    found = service.repository.find(version=1)
    freed = weakref.ref(found.artifact)
    (tmp_path / "adder/1").rmdir()
    assert not service.repository.prepare(0, service.survey())
    service.repository.switch()
    states = {(status.version, status.state) for status in service.repository.statuses()}
    assert states == {(2, "AVAILABLE"), (1, "UNLOADING")}
    del found
    gc.collect()
    assert freed() is None
    assert [status.version for status in service.repository.statuses()] == [2]


def test_states_are_those_of_tensorflow_serving(tmp_path: Path) -> None:
    service = Served(tmp_path, "adder", "adder/1")
    damaged = Version(state="damaged", is_served=False, reason="it has changed")
    served = Version(state="available", is_served=True, sha256="5f")
    assert service.repository.load(Catalog(models={"adder": Model(default=1, versions={2: damaged, 1: served})}))
    loading = []

    def load(*given: Any) -> Artifact:
        loading.extend(service.repository.statuses())
        return load_empty(given[1])

    service.repository.prepare(0, Catalog(models={"adder": Model(default=1, versions={3: served, 1: served})}), load)
    assert [status[1:] for status in loading] == [
        (1, "AVAILABLE", ""),
        (3, "LOADING", ""),
        (2, "END", "it has changed"),
    ]
