import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelUnavailable
from service.models.catalog import Catalog, fingerprint, log_news, survey
from service.models.metadata import verify
from service.settings import Settings


def verify_empty(folder: Path) -> str:
    """A folder with `damaged` in it is; its checksum is in `sha256`."""
    if (folder / "damaged").exists():
        raise ModelUnavailable(f"{folder} is damaged")
    return (folder / "sha256").read_text() if (folder / "sha256").exists() else "5f"


def examine_empty(folder: Path) -> Mapping[str, Any]:
    if (folder / "failing").exists():
        raise ModelUnavailable(f"{folder} fails")
    return {"method_name": folder.name}


def look(artifacts: Path, models: str, *folders: str, before: Catalog | None = None, **changes: Any) -> Catalog:
    for folder in folders:
        (artifacts / folder).mkdir(parents=True)
    settings = Settings(artifacts=artifacts, models=models)
    return survey(settings, verify_empty, **{"examine": examine_empty, "before": before} | changes)


def test_the_newest_version_is_the_default(tmp_path: Path) -> None:
    folders = ["adder/1", "adder/2", "adder/10", "adder/.11.unfinished", "adder/²", "adder/v12"]
    assert look(tmp_path, "adder", *folders).served() == {"adder": [10, 2, 1]}


@pytest.mark.parametrize(
    ("models", "served"),
    [
        ("adder", {"adder": [2, 1]}),
        ("adder,*", {"adder": [2, 1], "a": [3], "z": [1]}),
        ("*", {"a": [3], "adder": [2, 1], "z": [1]}),
        ("*,adder", {"a": [3], "z": [1], "adder": [2, 1]}),
        ("z,adder,z", {"z": [1], "adder": [2, 1]}),
        ("adder@1,*", {"adder": [1], "a": [3], "z": [1]}),
        ("adder@1,adder@2", {"adder": [1, 2]}),
        ("adder@2,adder@7", {"adder": [2]}),
    ],
)
def test_the_configured_models_are_served(tmp_path: Path, models: str, served: dict[str, list[int]]) -> None:
    folders = ["adder/1", "adder/2", "a/3", "z/1", "damaged/1/damaged", "empty", ".hidden/1", "a name/1"]
    catalog = look(tmp_path, models, *folders)
    assert list(catalog.served().items()) == list(served.items())


def test_versions_that_are_not_served_have_a_reason(tmp_path: Path) -> None:
    folders = ["adder/1", "adder/2/damaged", "adder/3/failing", "adder/4", "adder/04", "adder/05"]
    catalog = look(tmp_path, "adder", *folders)
    states = {number: version.state for number, version in catalog.models["adder"].versions.items()}
    assert states == {5: "damaged", 4: "available", 3: "failed", 2: "damaged", 1: "available"}
    reasons = [catalog.version("adder", number).reason for number in (5, 3, 2)]
    folder = tmp_path / "adder"
    zeros = f"{folder}/05 has zeros in front of its number: call it 5"
    assert reasons == [zeros, f"{folder}/3 fails", f"{folder}/2 is damaged"]
    pinned = look(tmp_path, "adder@1").version("adder", 4)
    assert (pinned.state, pinned.is_served, pinned.reason) == ("not_pinned", False, "ADDER_MODELS names [1]")


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ("adder,empty", "empty has no version: export one, or set ADDER_ARTIFACTS"),
        ("damaged,*", "damaged/2 is damaged"),
        ("none,*", "none has no version"),
        ("adder@3", "adder has none of the versions that ADDER_MODELS names"),
        ("adder@2,adder@1", "adder/2 fails"),
    ],
)
def test_a_named_model_must_be_served(tmp_path: Path, models: str, problem: str) -> None:
    folders = ["adder/1/failing", "adder/2/failing", "adder/4", "empty", "damaged/1/damaged", "damaged/2/damaged"]
    with pytest.raises(ModelUnavailable, match=problem):
        look(tmp_path, models, *folders)


def test_one_model_must_be_served(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"{tmp_path} has no model that can be served"):
        look(tmp_path, "*", "adder/1/damaged")


def test_a_version_that_is_held_back_is_served_and_no_default(tmp_path: Path) -> None:
    def held_back(newer: Path, default: Path) -> str | None:
        return f"{default.name} is better" if int(newer.name) in (3, 4) else None

    catalog = look(tmp_path, "adder", "adder/1", "adder/2", "adder/3", "adder/4", held_back=held_back)
    assert catalog.served() == {"adder": [2, 4, 3, 1]}
    version = catalog.version("adder", 4)
    assert (version.state, version.is_served, version.reason) == ("held_back", True, "2 is better")


def configure(model: Path, **content: Any) -> None:
    (model / "serving.json").write_text(json.dumps(content))


def test_serving_json_names_the_default_whatever_is_held_back(tmp_path: Path) -> None:
    look(tmp_path, "adder", "adder/1", "adder/2", "adder/3")
    configure(tmp_path / "adder", labels={"stable": 2}, default="stable")
    assert look(tmp_path, "adder").served() == {"adder": [2, 3, 1]}
    configure(tmp_path / "adder", default=3)
    catalog = look(tmp_path, "adder", held_back=lambda *_: "worse")
    assert catalog.served() == {"adder": [3, 2, 1]}
    assert catalog.version("adder", 3).state == "held_back"


def test_serving_json_keeps_the_newest_and_those_that_it_names(tmp_path: Path) -> None:
    look(tmp_path, "adder", *(f"adder/{version}" for version in range(1, 7)))
    configure(tmp_path / "adder", labels={"old": 1}, default=4, keep=2)
    catalog = look(tmp_path, "adder")
    assert catalog.served() == {"adder": [4, 6, 5, 1]}
    kept = catalog.version("adder", 3)
    assert (kept.state, kept.is_served, kept.reason) == ("not_kept", False, "serving.json keeps others")


def test_the_last_good_serving_json_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    look(tmp_path, "adder", "adder/1", "adder/2")
    configure(tmp_path / "adder", default=1)
    before = look(tmp_path, "adder")
    configure(tmp_path / "adder", default=7)
    catalog = look(tmp_path, "adder", before=before)
    assert catalog.served() == {"adder": [1, 2]}
    problem = f"{tmp_path}/adder/serving.json names version 7, which cannot be served"
    assert catalog.problems() == [problem]
    log_news(catalog, before)
    assert problem in caplog.messages
    assert look(tmp_path, "adder").served() == {"adder": [2, 1]}  # there was none before
    shutil.rmtree(tmp_path / "adder/1")
    assert look(tmp_path, "adder", before=catalog).served() == {"adder": [2]}  # what it named is gone


def test_a_served_version_is_not_examined_again(tmp_path: Path) -> None:
    before = look(tmp_path, "adder", "adder/1", "adder/2")
    examined: list[str] = []

    def examine(folder: Path) -> Mapping[str, Any]:
        examined.append(folder.name)
        return {}

    (tmp_path / "adder/2/sha256").write_text("6a")
    catalog = look(tmp_path, "adder", "adder/3", before=before, examine=examine)
    assert examined == ["3", "2"]
    assert catalog.version("adder", 1).signature_def == {"method_name": "1"}


@pytest.mark.parametrize("change", ["damaged", "failing"])
def test_a_version_that_is_damaged_after_loading_is_still_served(tmp_path: Path, change: str) -> None:
    before = look(tmp_path, "adder", "adder/1", "adder/2")
    (tmp_path / "adder/2/sha256").write_text("6a")
    (tmp_path / "adder/2" / change).mkdir()
    catalog = look(tmp_path, "adder", before=before)
    assert catalog.served() == {"adder": [2, 1]}
    assert catalog.version("adder", 2).sha256 == "5f"  # of what is loaded
    assert catalog.version("adder", 2).state in ("damaged", "failed")
    (tmp_path / "adder/2" / change).rmdir()
    assert look(tmp_path, "adder", before=catalog).version("adder", 2).state == "available"
    shutil.rmtree(tmp_path / "adder/2")
    assert look(tmp_path, "adder", before=catalog).served() == {"adder": [1]}


def test_news_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = look(tmp_path, "adder", "adder/1", "adder/2/damaged")
    log_news(first, Catalog())
    assert caplog.messages == [f"adder version 2 is skipped: {tmp_path}/adder/2 is damaged"]
    log_news(look(tmp_path, "adder", "adder/3/damaged", before=first), first)
    assert caplog.messages[1:] == [f"adder version 3 is skipped: {tmp_path}/adder/3 is damaged"]


def test_the_fingerprint_changes_with_every_file(artifact: Path) -> None:
    settings = Settings(artifacts=artifact.parent.parent)
    seen = [fingerprint(settings)]
    (artifact / "saved_model.pb").write_bytes(b"x")
    seen.append(fingerprint(settings))
    (artifact / "variables/variables.index").touch()
    seen.append(fingerprint(settings))
    (artifact.parent / "serving.json").write_text("{}")
    seen.append(fingerprint(settings))
    (artifact / ".hidden").touch()  # no part of a version
    assert fingerprint(settings) == seen[-1]
    shutil.copytree(artifact, artifact.with_name("2"))
    seen.append(fingerprint(settings))
    shutil.rmtree(artifact.parent.parent)
    seen.append(fingerprint(settings))
    assert len(set(seen)) == 6
    assert "cannot be read" in seen[-1]


def test_what_a_worker_cannot_load_is_not_served(tmp_path: Path) -> None:
    active = look(tmp_path, "adder,*", "adder/1", "adder/2", "z/1")
    latest = look(tmp_path, "adder,*", "adder/3", "z/2", before=active)
    revised = latest.without({("adder", 3): "no memory"}, active)
    assert revised.served() == {"adder": [2, 1], "z": [2, 1]}
    assert revised.version("adder", 3).reason == "no memory"
    only = look(tmp_path / "other", "adder", "adder/7")
    whole = only.without({("adder", 7): "no memory"}, active)
    assert (whole.models, whole.problem) == (active.models, "no memory")


def test_a_whole_version_beside_a_wrong_one_is_enough(artifact: Path) -> None:
    shutil.copytree(artifact, artifact.with_name("2"))  # its metadata says version 1
    catalog = survey(Settings(artifacts=artifact.parent.parent), lambda folder: verify(folder).sha256)
    assert catalog.served() == {"adder": [1]}


def test_a_model_is_unloaded_until_it_is_loaded_again(tmp_path: Path) -> None:
    catalog = look(tmp_path, "adder,*", "adder/1", "adder/2/damaged", "z/1").unload("adder")
    assert catalog.served() == {"z": [1]}
    assert [catalog.version("adder", number).state for number in (1, 2)] == ["unloaded", "damaged"]
    assert look(tmp_path, "adder,*", before=catalog).served() == {"z": [1]}
    again = catalog.model_copy(update={"unloaded": set()})
    assert look(tmp_path, "adder,*", before=again).served() == {"adder": [1], "z": [1]}
    assert catalog.with_unloaded(set()).unloaded == set()
    with pytest.raises(ModelUnavailable, match="has no model that can be served"):
        look(tmp_path, "adder", before=catalog)
