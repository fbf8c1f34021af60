from pathlib import Path

import pytest

from training import TrainingError, metadata


def test_a_whole_artifact_is_read(artifact: Path) -> None:
    assert metadata.read(artifact).name == "adder"


@pytest.mark.parametrize("change", ["change", "remove", "add"])
def test_another_file_than_the_exported_is_refused(artifact: Path, change: str) -> None:
    file = artifact / "variables" / "variables.index"
    if change == "change":
        file.write_bytes(b"something else")
    elif change == "remove":
        file.unlink()
    else:
        (artifact / "variables" / "more").touch()
    with pytest.raises(TrainingError, match="is not the file that was exported"):
        metadata.read(artifact)


def test_metadata_may_be_newer_than_its_checksum(artifact: Path) -> None:
    checksums = (artifact / "checksums.txt").read_text()
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"query_example": "1+1"}))
    (artifact / "checksums.txt").write_text(checksums)  # as after a kill between the two files
    assert metadata.read(artifact).query_example == "1+1"


def test_the_card_and_its_pictures_may_be_newer_too(artifact: Path) -> None:
    (artifact / "MODEL_CARD.md").touch()
    (artifact / "encoder.png").touch()
    assert metadata.read(artifact).name == "adder"
    (artifact / "variables" / "encoder.png").touch()
    with pytest.raises(TrainingError, match="is not the file that was exported"):
        metadata.read(artifact)


def test_what_is_no_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"{tmp_path} is not an artifact"):
        metadata.read(tmp_path)
