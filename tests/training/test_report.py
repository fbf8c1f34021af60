import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData

from service.models.metadata import verify
from tests.conftest import ROOT, missing, newest, run_training
from training import evaluate, metadata, report, task

SHIPPED = sorted(file.parent for file in (ROOT / "model_artifacts").glob("*/*/MODEL_CARD.md"))


def evidence_with(wrong: list[int]) -> metadata.Evidence:
    """Counted as if the queries at these positions were answered wrongly, and everything with the same confidence."""
    size = len(task.queries())
    right = np.ones(size, np.bool_)
    right[wrong] = False
    return evaluate.count(task.queries(), right, np.full(size, 0.75, np.float32), np.full(size, 0.5, np.float32), 0)


@pytest.fixture(scope="module")
def thirty_wrong() -> metadata.Evidence:
    return evidence_with(list(range(30)))


@pytest.fixture(scope="module")
def two_wrong() -> metadata.Evidence:
    return evidence_with([0, 3099])


@pytest.fixture
def evaluated(artifact: Path, two_wrong: metadata.Evidence) -> Path:
    """An artifact that says of itself that two of its answers are wrong."""
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": two_wrong}))
    return artifact


def pictures(card: str) -> list[tuple[str, str]]:
    return [(file, caption) for caption, file in re.findall(r"!\[(.*)\]\((.*)\)", card)]


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_shipped_card_says_what_the_metadata_says(shipped: Path) -> None:
    described, card = metadata.read(shipped), (shipped / "MODEL_CARD.md").read_text()
    assert described.evidence is not None
    assert card == report.card(described, described.evidence, pictures(card))
    assert {file for file, _ in pictures(card)} == {file.name for file in shipped.glob("*.png")}


def test_every_newest_version_has_a_card() -> None:
    for model in (ROOT / "model_artifacts").iterdir():
        assert newest(model.name) in SHIPPED


def test_a_card_has_its_pictures_and_the_artifact_is_still_whole(
    artifact: Path, thirty_wrong: metadata.Evidence
) -> None:
    if shutil.which("dot") is None:
        missing("graphviz")
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": thirty_wrong}))
    told = run_training("report", artifact)
    assert told.stdout == f"{artifact / 'MODEL_CARD.md'}\n", told.stderr
    shown = [file for file, _ in pictures((artifact / "MODEL_CARD.md").read_text())]
    assert shown == ["encoder.png", "decoder.png", "learning_curves.png", "wrong_shares.png", "wrong_answers.png"]
    for file in shown:
        assert (artifact / file).read_bytes().startswith(b"\x89PNG\r\n")
    assert verify(artifact).metadata.version == 1


def test_a_picture_that_says_nothing_is_not_drawn(
    tmp_path: Path, two_wrong: metadata.Evidence, thirty_wrong: metadata.Evidence
) -> None:
    assert report.wrong_shares(two_wrong, tmp_path) == report.wrong_answers(two_wrong, tmp_path) == []
    unnamed = thirty_wrong.model_copy(update={"wrong_queries": thirty_wrong.wrong_queries[:25]})
    assert report.wrong_answers(unnamed, tmp_path) == []
    assert report.reliability_diagram(two_wrong, tmp_path) == []
    assert report.learning_curves([], tmp_path) == []
    assert list(tmp_path.glob("*.png")) == []


def test_bins_of_confidence_are_drawn_where_there_are_two(two_wrong: metadata.Evidence, tmp_path: Path) -> None:
    bins = [metadata.Bin(queries=100, confidence=mean, accuracy=mean) for mean in (0.5, 0.9)]
    drawn = report.reliability_diagram(two_wrong.model_copy(update={"reliability": bins}), tmp_path)
    assert [file for file, _ in drawn] == [file.name for file in tmp_path.glob("*.png")] == ["reliability.png"]


def test_hugging_face_reads_the_front_matter(evaluated: Path) -> None:
    described = metadata.read(evaluated)
    assert described.evidence is not None
    held_out = described.evidence.held_out.exact_match
    read = ModelCard(report.card(described, described.evidence, [])).data
    assert isinstance(read, ModelCardData)
    [result] = read.eval_results or []
    assert (result.metric_type, result.metric_value) == ("exact_match", held_out)


def test_a_card_gives_the_figures(evaluated: Path) -> None:
    described = metadata.read(evaluated).model_copy(
        update={
            "tried": [
                metadata.Tried(
                    name="seed 2",
                    epochs=12,
                    train=metadata.Part(queries=890_000, wrong=1234, exact_match=0.99),
                    validation=metadata.Part(queries=10_000, wrong=5, exact_match=0.9995),
                    margin=0.0625,
                )
            ]
        }
    )
    assert described.evidence is not None
    card = report.card(described, described.evidence, [])
    for line in [
        "| all | 1,000,000 | 2 | 99.9998% |",
        "| digits 1+1 | 100 | 1 | 99.0000% |",
        "| digits 1+2 | 900 | 1 | 99.8889% |",
        "| digits carried: 2 | 338,625 | 1 | 99.9997% |",
        "Answered wrongly: `0+0`, `3+99`.",
        "| seed 2 | 12 | 1,234 of 890,000 | 5 of 10,000 | 0.0625 |",
        described.made.command,
    ]:
        assert f"\n{line}\n" in card
    assert "Expected calibration error: 0.249998." in card
    assert f"the second character is 0.5, at `{described.evidence.margin.query}`" in card


def test_what_was_not_evaluated_has_no_card(artifact: Path) -> None:
    refused = run_training("report", artifact)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"error: {artifact} has no evidence: run `python -m training evaluate {artifact}` first\n"
    )


def test_a_machine_without_graphviz_is_told_so(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    refused = run_training("report", evaluated)
    assert refused.stderr == "error: the program dot is missing, which draws the networks: install graphviz\n"
    assert not (evaluated / "MODEL_CARD.md").exists()
