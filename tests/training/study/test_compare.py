import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_training
from training import TrainingError
from training.recipe import Recipe
from training.study import compare, comparisons

SHORT: dict[str, Any] = {"task": "reversal", "examples": 2048, "epochs": 2, "batch_size": 256, "units": 16}
TRIALS = {
    "short": {"base": SHORT, "unreversed": SHORT | {"reverse": False}},
    "other": {"the same base": SHORT},
}


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two comparisons of which one training is in both."""
    monkeypatch.setattr(comparisons, "COMPARISONS", TRIALS)
    monkeypatch.setattr(comparisons, "SEEDS", (1,))


def test_every_setting_is_a_recipe() -> None:
    for name in comparisons.COMPARISONS:
        for recipes in comparisons.settings(name).values():
            seeds = [recipe.seed for recipe in recipes]
            assert seeds == ([1] if name in comparisons.ONE_SEED else [1, 2, 3])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's own
@pytest.mark.usefixtures("trials")
def test_a_study_goes_on_where_it_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, trained = tmp_path / "results.jsonl", []
    run = compare.run

    def recorded(recipe: Recipe, folder: Path) -> compare.Line:
        trained.append(recipe.reverse)
        return run(recipe, folder)

    monkeypatch.setattr(compare, "run", recorded)
    compare.compare(["short", "other"], results, tmp_path / "checkpoints")
    assert trained == [True, False]
    lines = compare.read_lines(results)
    for line in lines:
        assert line.held_out.queries == 1953
        assert 0 < line.characters < 1
        assert [0 <= epoch.core_seconds < 100 for epoch in line.epochs if epoch.core_seconds is not None] == [True] * 2
    text = results.read_text()
    results.write_text(text[:-20])
    compare.compare(["short"], results, tmp_path / "checkpoints")  # from the checkpoints, which are whole
    assert trained == [True, False, False]
    assert "ends with half a line, of a training that was broken off: it is removed" in capsys.readouterr().err
    found = compare.read_lines(results)
    assert [line.held_out for line in found] == [line.held_out for line in lines]
    compare.compare(["short", "other"], results, tmp_path / "checkpoints")
    assert len(trained) == 3


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps({"recipe": {}}) + "\n")
    with pytest.raises(TrainingError, match=r"results\.jsonl is damaged in line 1: remove the line, to train again"):
        compare.read_lines(results)


def test_ray_is_optional(tmp_path: Path) -> None:
    refused = run_training(
        "compare", "--results", tmp_path / "new.jsonl", "--checkpoints", tmp_path, "--ray", "127.0.0.1:1"
    )
    assert refused.stderr == "error: Ray is missing: install training/requirements-ray.txt\n"
