import re
from pathlib import Path

import pytest

from tests.conftest import ROOT, newest
from training import TrainingError
from training.metadata import Epoch, Part
from training.recipe import Recipe
from training.study import comparisons, write
from training.study.compare import Line

STUDY = ROOT / "training" / "study"
SHORT = {"task": "addition", "examples": 2048, "epochs": 2}


def without_layers(text: str) -> str:
    """The text without what `explain` prints: its last digits may differ between machines."""
    return re.sub("```text\n.*?```", "", text, flags=re.DOTALL)


def line(recipe: Recipe, right: int) -> Line:
    epochs = [
        Epoch(loss=1 / right, validation_exact_match=share, validation_characters=share, core_seconds=right)
        for share in (0.5, 1.0)
    ]
    part = Part(queries=1000, wrong=1000 - right, exact_match=right / 1000)
    return Line(recipe=recipe, weights=12_345, epochs=epochs, held_out=part, characters=0.9876)


def test_the_study_is_that_of_the_results(tmp_path: Path) -> None:
    """Every figure of a training in STUDY.md is of a line of results.jsonl."""
    results = tmp_path / "results.jsonl"
    results.write_bytes((STUDY / "results.jsonl").read_bytes())
    text = write.write_study(results, Path("model_artifacts") / "adder" / "2").read_text()
    committed = (STUDY / "STUDY.md").read_text()
    assert without_layers(text) == without_layers(committed)
    for picture in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (tmp_path / picture).stat().st_size > 10_000
        assert (STUDY / picture).exists()


def test_a_table_has_the_spread_of_the_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = {"unreversed": {"reversed": SHORT, "unreversed": SHORT | {"reverse": False}}}
    monkeypatch.setattr(comparisons, "COMPARISONS", trials)
    monkeypatch.setattr(write, "COMPARISONS", trials)
    monkeypatch.setattr(write, "draw_states", lambda *_: [])
    results = tmp_path / "results.jsonl"
    found = comparisons.settings("unreversed")
    lines = [line(recipe, 980 + recipe.seed) for recipe in found["reversed"]]
    results.write_text("".join(each.model_dump_json() + "\n" for each in lines))
    text = write.write_study(results, newest("adder")).read_text()
    assert "3 of 6 trainings are missing: `python -m training compare --against unreversed`." in text
    lines += [line(recipe, 500) for recipe in found["unreversed"]]
    results.write_text("".join(each.model_dump_json() + "\n" for each in lines))
    text = write.write_study(results, newest("adder")).read_text()
    right, seconds = "98.20% (98.10% to 98.30%)", "1,964 (1,962 to 1,966)"
    assert f"| reversed | 12,345 | 2 | {right} | 98.76% (98.76% to 98.76%) | {seconds} |" in text
    assert "Most held-out answers are right with reversed, 98.20%, fewest with unreversed, 50.00%.\n" in text
    assert (tmp_path / "unreversed.png").exists()


def test_ours_is_as_good_as_the_example_after_a_share_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "COMPARISONS", {"keras-example": comparisons.COMPARISONS["keras-example"]})
    monkeypatch.setattr(write, "draw_states", lambda *_: [])
    lines = [
        line(recipe, 50 if "ours" in name else 100) for name, [recipe] in comparisons.settings("keras-example").items()
    ]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(each.model_dump_json() + "\n" for each in lines))
    text = write.write_study(results, newest("adder")).read_text()
    for digits in (2, 3, 4, 5):
        assert (
            f"- {digits} digits: the example's recipe ends with 100.00% of validation answers right after 200 seconds; "
            "ours has as many after 100 seconds, 0.50 of the time."
        ) in text


def test_damaged_results_are_named(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("{}\n")
    with pytest.raises(TrainingError, match="is damaged in line 1"):
        write.write_study(results, newest("adder"))
