import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelUnavailable
from service.models import saved_model_check
from service.models.metadata import (
    DECODE_FILE,
    DOCUMENTATION,
    PREDICT_FILE,
    SAMPLES_FILE,
    Metadata,
    read_samples,
    verify,
)
from service.settings import NAME
from tests.service.conftest import edit_metadata, edit_task
from training import engines, export
from training import metadata as training_metadata


def test_a_complete_artifact_is_verified(barely_trained: Path) -> None:
    verified = verify(barely_trained)
    assert verified.metadata.task.example == "123+456"
    assert verified.sha256 == hashlib.sha256((barely_trained / "checksums.txt").read_bytes()).hexdigest()


class TestTwins:
    """What training writes and the service reads is defined in both, since neither imports the other."""

    def test_the_fields_of_the_metadata_have_the_same_types(self) -> None:
        read, written = (model.model_json_schema() for model in (Metadata, training_metadata.Metadata))

        def type_of(schema: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in schema.items() if key in ("type", "items", "const", "$ref")}

        for field, schema in read["properties"].items():
            assert type_of(schema) == type_of(written["properties"][field])
        for name, definition in read["$defs"].items():
            for field, schema in definition["properties"].items():
                assert type_of(schema) == type_of(written["$defs"][name]["properties"][field])

    def test_model_names_have_the_same_pattern(self) -> None:
        assert f"^{NAME}$" == training_metadata.NAME_PATTERN

    def test_the_files_have_the_same_names(self, artifact: Path) -> None:
        assert (engines.SERVING, engines.DECODING) == (PREDICT_FILE, DECODE_FILE)
        assert export.SAMPLES_FILE == SAMPLES_FILE
        metadata = training_metadata.read(artifact)
        for name in ("metadata.json", "checksums.txt"):
            (artifact / name).unlink()
        training_metadata.write(artifact, metadata)
        assert verify(artifact).metadata.version == 1

    def test_the_same_files_are_documentation(self) -> None:
        # `evaluate` and `compare` write metadata.json, too; the service compares it with its checksum.
        assert training_metadata.MUTABLE.pattern == rf"metadata\.json|{DOCUMENTATION.pattern}"

    def test_probabilities_have_the_same_tolerance(self) -> None:
        assert export.TOLERANCE == saved_model_check.TOLERANCE


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
def test_a_damaged_file_is_named(artifact: Path, name: str, content: bytes | None, reason: str) -> None:
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
        ({"format_version": 4}, "format_version: Input should be 5"),
        ({"batch_sizes": [8, 1]}, "batch_sizes: Value error, batch sizes must be positive and ascend"),
        ({"batch_sizes": []}, "batch_sizes: List should have at least 1 item"),
        ({"version": 2}, "describes adder version 2, which is not its folder"),
    ],
)
def test_metadata_that_breaks_the_contract_is_refused(artifact: Path, changes: dict[str, Any], reason: str) -> None:
    edit_metadata(artifact, **changes)
    with pytest.raises(ModelUnavailable, match=re.escape(reason)):
        verify(artifact)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"truth": "product"}, "task.truth: Input should be 'sum' or 'samples'"),
        ({"alphabet": "00123456789+ "}, "the alphabet must consist of different ASCII characters"),
        ({"alphabet": "0123456789+ é"}, "the alphabet must consist of different ASCII characters"),
        ({"end": "$"}, "the alphabet does not have '$', the end of an answer"),
        ({"query_pattern": "[0-9]+"}, "the query '123+456' does not match query_pattern"),
        ({"query_pattern": r"([0-9]+)\+[0-9]+"}, "drop a part of the query '123+456'"),
        (
            {"rules": [{"pattern": "(", "sentence": "wrong"}]},
            "task.rules.0.pattern: Value error, the pattern cannot",
        ),
        (
            {"rules": [{"pattern": "(a)", "sentence": "wrong", "replacement": r"\2"}]},
            "task.rules.0: Value error, the replacement does not fit the pattern: invalid group reference 2",
        ),
    ],
)
def test_a_task_that_breaks_the_contract_is_refused(artifact: Path, changes: dict[str, Any], reason: str) -> None:
    edit_task(artifact, **changes)
    with pytest.raises(ModelUnavailable, match=re.escape(reason)):
        verify(artifact)


def test_a_damaged_sample_is_named(artifact: Path) -> None:
    (artifact / "samples.ndjson").write_text('{"query": "1+1", "answer": 2}\n')
    with pytest.raises(ModelUnavailable, match=r"samples\.ndjson has a line that is no sample: Input should be a"):
        read_samples(artifact)


def test_the_model_card_and_its_pictures_are_not_compared(artifact: Path) -> None:
    (artifact / "MODEL_CARD.md").touch()
    (artifact / "encoder.png").touch()
    assert verify(artifact).metadata.version == 1
    (artifact / "variables" / "encoder.png").touch()
    with pytest.raises(ModelUnavailable, match=r"does not name variables/encoder\.png"):
        verify(artifact)


@pytest.mark.parametrize("pattern", ["(", "^a{99999999999999999999}$", "(" * 5000 + ")" * 5000])
def test_a_pattern_that_cannot_be_compiled_is_refused(artifact: Path, pattern: str) -> None:
    edit_task(artifact, query_pattern=pattern)
    with pytest.raises(ModelUnavailable, match=r"task\.query_pattern: Value error, the pattern cannot be compiled"):
        verify(artifact)


@pytest.mark.parametrize("hidden", [".git/HEAD", ".nfs000000", ".DS_Store", "variables/.DS_Store", "variables/.x/y"])
def test_hidden_names_are_no_part_of_a_version(artifact: Path, hidden: str) -> None:
    (artifact / hidden).parent.mkdir(exist_ok=True)
    (artifact / hidden).touch()
    assert verify(artifact).metadata.version == 1


def test_a_version_of_links_into_a_hidden_folder_is_verified(artifact: Path) -> None:
    """As Kubernetes mounts a ConfigMap."""
    mounted = artifact / "..2026_11_25_10_00_00.123456789"
    mounted.mkdir()
    for entry in [each for each in artifact.iterdir() if each != mounted]:
        entry.rename(mounted / entry.name)
        entry.symlink_to(f"..data/{entry.name}")
    (artifact / "..data").symlink_to(mounted.name)
    assert verify(artifact).metadata.version == 1
    (mounted / "variables" / "more").touch()
    with pytest.raises(ModelUnavailable, match="does not name variables/more"):
        verify(artifact)


def test_a_link_to_a_folder_above_it_ends(artifact: Path) -> None:
    (artifact / "variables" / "version").symlink_to(artifact)
    with pytest.raises(ModelUnavailable, match="does not name variables/version/"):
        verify(artifact)
