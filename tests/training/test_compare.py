import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.conftest import newest, run_training
from training import compare, examples, fit, metadata
from training.recipe import read_recipe
from training.tasks import Task, find_task
from training.tasks.task import Texts


def test_compare_writes_ablations_into_the_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stub in place of 900,000 predictions: two wrong answers in the train part, one in the validation part."""
    task = find_task("last-digit")
    split, measured = examples.split(task), set()

    def predict(network: keras.Model, _: Task, queries: Texts) -> fit.Probabilities:
        part, wrong = (split.train, 2) if len(queries) == 890_000 else (split.validation, 1)
        assert np.array_equal(queries, part)
        if part is split.train:
            measured.add(network.get_weights()[0].tobytes())
        answers = task.tokenize_answers(task.answers(part))
        answers[:wrong] = (answers[:wrong] + 1) % 10
        return np.eye(len(task.alphabet), dtype=np.float32)[answers] * np.float32(0.5)

    monkeypatch.setattr(fit, "predict", predict)
    trials = dict(list(compare.ABLATIONS.items())[:2])  # each is a training
    monkeypatch.setattr(compare, "ABLATIONS", trials)
    artifact = shutil.copytree(newest("last-digit"), tmp_path / "artifact")
    compared = run_training("compare", artifact, tmp_path / "trials", "--epochs", 1, "--examples", 2048)
    assert compared.returncode == 0, compared.stderr
    ablations = metadata.read(artifact).ablations
    assert [each.name for each in ablations] == list(trials)
    recipes = {folder.name: read_recipe(folder) for folder in (tmp_path / "trials").iterdir()}
    for name, changes in trials.items():
        assert recipes[name.replace(" ", "-")].model_dump().items() >= changes.items()
    trained = [fit.read_checkpoint(folder) for folder in (tmp_path / "trials").iterdir()]
    assert {network.get_weights()[0].tobytes() for network in trained} == measured
    assert len(measured) == len(trials)
    for each, line in zip(ablations, compared.stdout.splitlines()[-len(ablations) :], strict=True):
        assert (each.epochs, each.train.queries, each.validation.queries) == (1, 890_000, 10_000)
        assert (each.train.wrong, each.validation.wrong, each.margin) == (2, 1, 0.5)
        assert line == f"{each.name}: train 2 wrong of 890,000, validation 1 of 10,000, smallest margin 0.5"


def test_compare_refuses_a_network_trained_elsewhere(artifact: Path, tmp_path: Path) -> None:
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"provenance": None}))
    refused = run_training("compare", artifact, tmp_path / "trials")
    assert refused.stderr == f"error: {artifact} was trained elsewhere: it has no recipe to compare\n"
