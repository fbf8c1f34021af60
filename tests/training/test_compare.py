from pathlib import Path

from tests.conftest import run_training
from training import compare, fit, metadata


def test_what_each_recipe_gave_is_written_into_the_artifact(artifact: Path, tmp_path: Path) -> None:
    compared = run_training("compare", artifact, tmp_path / "trials", "--epochs", 1, "--examples", 2048)
    assert compared.returncode == 0, compared.stderr
    tried = metadata.read(artifact).tried
    assert [each.name for each in tried] == list(compare.TRIALS)
    recipes = {folder.name: fit.read_recipe(folder) for folder in (tmp_path / "trials").iterdir()}
    for name, changed in compare.TRIALS.items():
        assert recipes[name.replace(" ", "-")].model_dump().items() >= changed.items()
    trained = [fit.read_checkpoint(folder) for folder in (tmp_path / "trials").iterdir()]
    assert len({network.get_weights()[0].tobytes() for network in trained}) == len(compare.TRIALS)
    for each, line in zip(tried, compared.stdout.splitlines()[-len(tried) :], strict=True):
        assert (each.epochs, each.train.queries, each.validation.queries) == (1, 890_000, 10_000)
        assert each.train.wrong > 800_000
        assert line.startswith(f"{each.name}: train {each.train.wrong:,} wrong of 890,000, ")
