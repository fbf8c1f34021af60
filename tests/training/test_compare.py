from pathlib import Path

import pytest
from click.testing import CliRunner

from training import compare, fit, metadata
from training.__main__ import cli
from training.recipe import read_recipe


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's own
def test_compare_writes_ablations_into_the_metadata(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = dict(list(compare.ABLATIONS.items())[:2])  # each is measured on 900,000 queries
    monkeypatch.setattr(compare, "ABLATIONS", trials)
    arguments = ["compare", str(artifact), str(tmp_path / "trials"), "--epochs", "1", "--examples", "2048"]
    compared = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert compared.exit_code == 0, compared.output
    ablations = metadata.read(artifact).ablations
    assert [each.name for each in ablations] == list(trials)
    recipes = {folder.name: read_recipe(folder) for folder in (tmp_path / "trials").iterdir()}
    for name, changes in trials.items():
        assert recipes[name.replace(" ", "-")].model_dump().items() >= changes.items()
    trained = [fit.read_checkpoint(folder) for folder in (tmp_path / "trials").iterdir()]
    assert len({network.get_weights()[0].tobytes() for network in trained}) == len(trials)
    for each, line in zip(ablations, compared.stdout.splitlines()[-len(ablations) :], strict=True):
        assert (each.epochs, each.train.queries, each.validation.queries) == (1, 890_000, 10_000)
        assert each.train.wrong > 800_000
        assert line.startswith(f"{each.name}: train {each.train.wrong:,} wrong of 890,000, ")
