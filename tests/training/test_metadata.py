import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from training import TrainingError, metadata


def test_read_returns_the_metadata(artifact: Path) -> None:
    assert metadata.read(artifact).name == "adder"


@pytest.mark.parametrize("change", ["change", "remove", "add"])
def test_read_refuses_a_changed_file(artifact: Path, change: str) -> None:
    file = artifact / "variables" / "variables.index"
    if change == "change":
        file.write_bytes(b"something else")
    elif change == "remove":
        file.unlink()
    else:
        (artifact / "variables" / "more").touch()
    with pytest.raises(TrainingError, match="was changed, added or removed after the export"):
        metadata.read(artifact)


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    """A version of before a field was added keeps its SHA-256 when it is measured again."""
    artifact = shutil.copytree(ROOT / "model_artifacts" / "adder" / "1", tmp_path / "adder" / "1")
    before = {name: (artifact / name).read_bytes() for name in ("metadata.json", "checksums.txt")}
    metadata.write(artifact, metadata.read(artifact))
    assert {name: (artifact / name).read_bytes() for name in before} == before
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": None}))
    assert metadata.read(artifact).evidence is None


def test_metadata_may_differ_from_its_checksum(artifact: Path) -> None:
    checksums = (artifact / "checksums.txt").read_text()
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"batch_sizes": [1, 2]}))
    (artifact / "checksums.txt").write_text(checksums)  # as if the process was killed between the two files
    assert metadata.read(artifact).batch_sizes == [1, 2]


def test_card_and_pictures_may_differ_from_the_checksums(artifact: Path) -> None:
    (artifact / "MODEL_CARD.md").touch()
    (artifact / "encoder.png").touch()
    assert metadata.read(artifact).name == "adder"
    (artifact / "variables" / "encoder.png").touch()
    with pytest.raises(TrainingError, match="was changed, added or removed after the export"):
        metadata.read(artifact)


def test_read_names_a_folder_without_artifact(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"{tmp_path} is not an artifact"):
        metadata.read(tmp_path)
