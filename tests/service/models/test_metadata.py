import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelUnavailable
from service.models.metadata import Metadata, verify
from tests.service.conftest import edit_metadata
from training import metadata as training_metadata


def test_a_whole_artifact_is_verified(barely_trained: Path) -> None:
    whole = verify(barely_trained)
    assert whole.metadata.query_example == "123+456"
    assert whole.sha256 == hashlib.sha256((barely_trained / "checksums.txt").read_bytes()).hexdigest()


def test_both_packages_mean_the_same_metadata() -> None:
    ours, theirs = (model.model_json_schema() for model in (Metadata, training_metadata.Metadata))

    def kind(schema: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in schema.items() if key in ("type", "items", "const", "$ref")}

    for field, schema in ours["properties"].items():
        assert kind(schema) == kind(theirs["properties"][field])
    for name, definition in ours["$defs"].items():
        for field, schema in definition["properties"].items():
            assert kind(schema) == kind(theirs["$defs"][name]["properties"][field])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.json", None, "cannot be read: No such file or directory"),
        ("serving_bytes.tflite", None, "cannot be read: No such file or directory"),
        ("decoding.tflite", None, "cannot be read: No such file or directory"),
        ("saved_model.pb", None, "cannot be read: No such file or directory"),
        ("checksums.txt", None, "cannot be read: No such file or directory"),
        ("checksums.txt", b"nothing", "is not a list of checksums"),
        ("checksums.txt", b"\xff", "is not a list of checksums"),
        ("checksums.txt", b"0  \x00", "does not name metadata.json"),
        ("checksums.txt", b"", "does not name metadata.json"),
        ("metadata.json", b"{}", "has changed since it was exported"),
        ("variables/variables.data-00000-of-00001", b"", "has changed since it was exported"),
        ("assets.extra/tf_serving_warmup_requests", b"", "has changed since it was exported"),
    ],
)
def test_a_damaged_artifact_is_named(artifact: Path, name: str, content: bytes | None, reason: str) -> None:
    (artifact / name).unlink()
    if content is not None:
        (artifact / name).write_bytes(content)
    with pytest.raises(ModelUnavailable, match=rf"{re.escape(str(artifact / name))} {re.escape(reason)}"):
        verify(artifact)


def test_a_file_without_a_checksum_is_named(artifact: Path) -> None:
    (artifact / "variables" / "more").touch()
    with pytest.raises(ModelUnavailable, match=r"checksums\.txt does not name variables/more"):
        verify(artifact)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 2}, "format_version: Input should be 4"),
        ({"largest_operand": "999"}, "largest_operand: Input should be a valid integer"),
        ({"batch_sizes": [8, 1]}, "batch_sizes: Value error, batch sizes must be positive and ascend"),
        ({"query_pattern": "[0-9]+"}, "the query '123+456' does not match query_pattern"),
        ({"batch_sizes": []}, "batch_sizes: List should have at least 1 item"),
        ({"version": 2}, "describes adder version 2, which is not its folder"),
    ],
)
def test_metadata_that_breaks_the_contract_is_named(artifact: Path, changes: dict[str, Any], reason: str) -> None:
    edit_metadata(artifact, **changes)
    with pytest.raises(ModelUnavailable, match=re.escape(reason)):
        verify(artifact)


def test_the_card_and_its_pictures_are_not_looked_at(artifact: Path) -> None:
    (artifact / "MODEL_CARD.md").touch()
    (artifact / "encoder.png").touch()
    assert verify(artifact).metadata.version == 1
    (artifact / "variables" / "encoder.png").touch()
    with pytest.raises(ModelUnavailable, match=r"does not name variables/encoder\.png"):
        verify(artifact)


@pytest.mark.parametrize("pattern", ["(", "^a{99999999999999999999}$", "(" * 5000 + ")" * 5000])
def test_a_pattern_that_cannot_be_compiled_is_refused(artifact: Path, pattern: str) -> None:
    edit_metadata(artifact, query_pattern=pattern)
    with pytest.raises(ModelUnavailable, match="query_pattern: Value error, the pattern cannot be compiled"):
        verify(artifact)
