from pathlib import Path

import pytest
from click.testing import CliRunner

from training import compare, fit, metadata
from training.__main__ import cli


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's own
def test_what_each_recipe_gave_is_written_into_the_artifact(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = dict(list(compare.TRIALS.items())[:2])  # each is asked 900,000 queries
    monkeypatch.setattr(compare, "TRIALS", trials)
    arguments = ["compare", str(artifact), str(tmp_path / "trials"), "--epochs", "1", "--examples", "2048"]
    compared = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert compared.exit_code == 0, compared.output
    tried = metadata.read(artifact).tried
    assert [each.name for each in tried] == list(trials)
    recipes = {folder.name: fit.read_recipe(folder) for folder in (tmp_path / "trials").iterdir()}
    for name, changed in trials.items():
        assert recipes[name.replace(" ", "-")].model_dump().items() >= changed.items()
    trained = [fit.read_checkpoint(folder) for folder in (tmp_path / "trials").iterdir()]
    assert len({network.get_weights()[0].tobytes() for network in trained}) == len(trials)
    for each, line in zip(tried, compared.stdout.splitlines()[-len(tried) :], strict=True):
        assert (each.epochs, each.train.queries, each.validation.queries) == (1, 890_000, 10_000)
        assert each.train.wrong > 800_000
        assert line.startswith(f"{each.name}: train {each.train.wrong:,} wrong of 890,000, ")
