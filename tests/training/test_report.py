import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData

from service.models.metadata import verify
from tests.conftest import ROOT, missing, newest, run_training, run_training_process
from tests.training.test_evaluate import TASK, evidence, outcome_with
from training import metadata, report

SHIPPED = sorted(file.parent for file in (ROOT / "model_artifacts").glob("*/*/MODEL_CARD.md"))


def evidence_with(wrong: list[bytes]) -> metadata.Evidence:
    """The evidence if these queries have wrong answers, and all the same confidence."""
    halves = np.full(1_000_000, 0.5, np.float32)
    return evidence(outcome_with(wrong)._replace(confidence=halves + np.float32(0.25), margins=halves), mismatches=0)


@pytest.fixture(scope="module")
def thirty_wrong() -> metadata.Evidence:
    return evidence_with([f"0+{number}".encode() for number in range(30)])


@pytest.fixture(scope="module")
def two_wrong() -> metadata.Evidence:
    return evidence_with([b"0+0", b"3+99"])


@pytest.fixture
def evaluated(artifact: Path, two_wrong: metadata.Evidence) -> Path:
    """An artifact whose evidence has two wrong answers."""
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": two_wrong}))
    return artifact


def pictures(card: str) -> list[tuple[str, str]]:
    return [(file, caption) for caption, file in re.findall(r"!\[(.*)\]\((.*)\)", card)]


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_shipped_card_matches_its_metadata(shipped: Path) -> None:
    contents, card = metadata.read(shipped), (shipped / "MODEL_CARD.md").read_text()
    assert contents.evidence is not None
    assert card == report.card(contents, contents.evidence, pictures(card))
    assert {file for file, _ in pictures(card)} == {file.name for file in shipped.glob("*.png")}


def test_every_newest_version_has_a_card() -> None:
    for model in (ROOT / "model_artifacts").iterdir():
        assert newest(model.name) in SHIPPED


def test_report_writes_card_and_pictures_with_valid_checksums(artifact: Path, thirty_wrong: metadata.Evidence) -> None:
    if shutil.which("dot") is None:
        missing("graphviz")
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": thirty_wrong}))
    reported = run_training_process("report", artifact)
    assert reported.stdout == f"{artifact / 'MODEL_CARD.md'}\n", reported.stderr
    shown = [file for file, _ in pictures((artifact / "MODEL_CARD.md").read_text())]
    assert shown == ["encoder.png", "decoder.png", "learning_curves.png", "wrong_shares.png", "wrong_answers.png"]
    for file in shown:
        assert (artifact / file).read_bytes().startswith(b"\x89PNG\r\n")
    assert verify(artifact).metadata.version == 1


def test_no_plot_is_drawn_without_enough_data(
    tmp_path: Path, two_wrong: metadata.Evidence, thirty_wrong: metadata.Evidence
) -> None:
    pattern = TASK.query_pattern
    assert report.wrong_shares(two_wrong, tmp_path) == report.wrong_answers(two_wrong, pattern, tmp_path) == []
    unnamed = thirty_wrong.model_copy(update={"wrong_queries": thirty_wrong.wrong_queries[:25]})
    assert report.wrong_answers(unnamed, pattern, tmp_path) == []
    words = thirty_wrong.model_copy(update={"wrong_queries": ["abc"] * 30})
    assert report.wrong_answers(words, "([a-e]+)", tmp_path) == []
    ungrouped = thirty_wrong.model_copy(update={"groups": {}})
    assert report.wrong_shares(ungrouped, tmp_path) == []
    assert report.reliability_diagram(two_wrong, tmp_path) == []
    assert report.learning_curves([], tmp_path) == []
    assert list(tmp_path.glob("*.png")) == []


def test_reliability_is_plotted_for_two_or_more_bins(two_wrong: metadata.Evidence, tmp_path: Path) -> None:
    bins = [metadata.Bin(queries=100, confidence=mean, accuracy=mean) for mean in (0.5, 0.9)]
    drawn = report.reliability_diagram(two_wrong.model_copy(update={"reliability": bins}), tmp_path)
    assert [file for file, _ in drawn] == [file.name for file in tmp_path.glob("*.png")] == ["reliability.png"]


def test_hugging_face_reads_the_front_matter(evaluated: Path) -> None:
    contents = metadata.read(evaluated)
    assert contents.evidence is not None
    held_out = round(contents.evidence.held_out.exact_match, 6)
    read = ModelCard(report.card(contents, contents.evidence, [])).data
    assert isinstance(read, ModelCardData)
    [result] = read.eval_results or []
    assert (result.metric_type, result.metric_value) == ("exact_match", held_out)


def test_a_card_shows_the_evidence(evaluated: Path) -> None:
    contents = metadata.read(evaluated).model_copy(
        update={
            "ablations": [
                metadata.Ablation(
                    name="seed 2",
                    epochs=12,
                    train=metadata.Part(queries=890_000, wrong=1234, exact_match=0.99),
                    validation=metadata.Part(queries=10_000, wrong=5, exact_match=0.9995),
                    margin=0.0625,
                )
            ]
        }
    )
    assert contents.evidence is not None
    assert contents.provenance is not None
    card, margin = report.card(contents, contents.evidence, []), contents.evidence.margin
    for line in [
        "| all | 1,000,000 | 2 | 99.9998% |",
        "| digits 1+1 | 100 | 1 | 99.0000% |",
        "| digits 1+2 | 900 | 1 | 99.8889% |",
        "| carries 2 | 338,625 | 1 | 99.9997% |",
        "Queries with a wrong answer: `0+0`, `3+99`.",
        "| seed 2 | 12 | 1,234 of 890,000 | 5 of 10,000 | 0.0625 |",
        contents.provenance.command,
        "- Expected calibration error: 0.249998",
        f"- Smallest margin (difference of the two highest probabilities of a character): 0.5, at `{margin.query}`",
    ]:
        assert f"\n{line}\n" in card


def test_report_refuses_an_artifact_without_evidence(artifact: Path) -> None:
    refused = run_training("report", artifact)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"error: {artifact} has no evidence: run `python -m training evaluate {artifact}` first\n"
    )


def test_report_requires_graphviz(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    refused = run_training("report", evaluated)
    assert refused.stderr == "error: the program `dot` is missing, which draws the network: install graphviz\n"
    assert not (evaluated / "MODEL_CARD.md").exists()
