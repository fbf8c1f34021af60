import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import run_training, run_training_process, training_process
from training import TrainingError, examples, fit, task
from training.recipe import default_recipe, read_recipe

SHORT = ["--epochs", "4", "--examples", "2048"]  # two steps an epoch


def weights(folder: Path) -> bytes:
    return b"".join(weight.numpy().tobytes() for weight in fit.read_checkpoint(folder).weights)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A short training in this process, with a TensorBoard log, and its output."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, run_training("train", folder, *SHORT, "--tensorboard")


@pytest.fixture
def uninterrupted(trained: tuple[Path, object]) -> Path:
    return trained[0]


def test_train_prints_loss_accuracy_and_progress(trained: tuple[Path, Any]) -> None:
    _, training = trained
    assert training.returncode == 0
    assert "epoch 4/4: loss 2." in training.stdout
    assert "validation exact-match 0." in training.stdout
    assert "8/8 [" in training.stderr


def test_initial_weights_depend_on_the_seed() -> None:
    def initial_weights(seed: int) -> bytes:
        network = fit.new_network(default_recipe("repeat_vector", "lstm", seed, 1, 2048, command=""), total_steps=2)
        return b"".join(weight.tobytes() for weight in network.get_weights())

    assert initial_weights(1) == initial_weights(1)
    assert initial_weights(1) != initial_weights(2)


def test_a_resumed_training_gives_the_same_weights(uninterrupted: Path, tmp_path: Path) -> None:
    """In processes of its own: this shows also that equal seeds give equal weights."""
    with training_process("train", tmp_path, *SHORT) as training:
        while not fit.checkpoint_file(tmp_path).exists():
            assert training.poll() is None
            time.sleep(0.01)
        training.send_signal(signal.SIGKILL)
    assert weights(tmp_path) != weights(uninterrupted)
    assert "epoch 1/4" not in run_training_process("train", tmp_path, *SHORT).stdout
    assert weights(tmp_path) == weights(uninterrupted)


def test_fit_uses_each_part_for_its_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StubNetwork:
        optimizer = SimpleNamespace(iterations=0)
        output_shape = (None, 4, 12)

        def fit(self, *_: Any, callbacks: list[keras.callbacks.Callback], **__: Any) -> Any:
            logs = {"loss": 0.0}
            callbacks[0].on_epoch_end(0, logs)
            return SimpleNamespace(history={name: [value] for name, value in logs.items()})

        def save(self, file: Path) -> None:
            file.touch()

    used: dict[str, Any] = {}
    monkeypatch.setattr(fit, "new_network", lambda *_: StubNetwork())
    monkeypatch.setattr(
        examples, "batches", lambda queries, *arguments: used.update(train=queries, seed_and_epoch=arguments[-2:])
    )
    monkeypatch.setattr(fit, "exact_match", lambda _, queries, __: used.update(validation=queries) or 0.0)
    fit.fit(default_recipe("repeat_vector", "lstm", 3, 1, 890_000, command=""), tmp_path)
    tokens, split = task.tokenize_queries(task.queries()), examples.split()
    for name, part in [("train", split.train), ("validation", split.validation)]:
        assert {query.tobytes() for query in used[name]} == {query.tobytes() for query in tokens[part]}
    assert used["seed_and_epoch"] == (3, 0)


def test_train_writes_a_tensorboard_log(uninterrupted: Path) -> None:
    log = EventAccumulator(str(uninterrupted / "tensorboard" / "train")).Reload()
    logged = [event.step for event in log.Tensors("epoch_validation_exact_match")]
    assert logged == [0, 1, 2, 3]
    assert len(log.Tensors("epoch_loss")) == 4


def test_train_leaves_a_finished_training_unchanged(uninterrupted: Path) -> None:
    before = fit.checkpoint_file(uninterrupted).read_bytes()
    assert run_training("train", uninterrupted, *SHORT).stdout.endswith("export it, or train into another folder\n")
    assert fit.checkpoint_file(uninterrupted).read_bytes() == before


def test_train_refuses_an_unsupported_cell(tmp_path: Path) -> None:
    refused = run_training("train", tmp_path, "--network", "cho2014", "--cell", "lstm")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == "Error: Invalid value for --cell: cho2014 supports gru"


def test_train_refuses_a_folder_with_another_recipe(uninterrupted: Path) -> None:
    refused = run_training("train", uninterrupted, *SHORT, "--seed", 7)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {uninterrupted} contains another training")
    assert len(refused.stderr.splitlines()) == 1


def test_a_checkpoint_without_a_recipe_is_refused(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    (tmp_path / "recipe.json").unlink()
    refused = run_training("train", tmp_path, *SHORT)
    assert refused.stderr == (
        f"error: {tmp_path} contains a checkpoint without recipe.json: use another folder, or remove it\n"
    )


def test_train_refuses_an_empty_folder_name() -> None:
    refused = run_training("train", "", *SHORT)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == "Error: Invalid value for 'CHECKPOINTS': a folder name is required"


def test_read_checkpoint_names_a_damaged_file(tmp_path: Path) -> None:
    fit.checkpoint_file(tmp_path).write_bytes(b"half of a checkpoint")
    with pytest.raises(TrainingError, match=r"network\.keras cannot be read"):
        fit.read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "missing or damaged"), ("[", "missing or damaged"), ("[]", "has fewer epochs than the checkpoint")],
)
def test_epochs_file_must_match_the_checkpoint(
    uninterrupted: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    (tmp_path / "epochs.json").unlink()
    if text is not None:
        (tmp_path / "epochs.json").write_text(text)
    refused = run_training("train", tmp_path, *SHORT)
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert message in line


def test_a_training_without_a_checkpoint_names_its_command(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copy(uninterrupted / "recipe.json", tmp_path)
    with pytest.raises(TrainingError, match=r"has no finished epoch: run `python -m training train .*` to its end"):
        fit.read_checkpoint(tmp_path)


def test_read_recipe_names_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(TrainingError, match=r"recipe\.json is damaged"):
        read_recipe(tmp_path)


def test_exact_match_requires_every_character() -> None:
    answers = np.eye(12, dtype=np.float32)[np.array([[5, 7, 9, 11], [5, 7, 8, 11], [5, 7, 9, 1]])]
    network = keras.Sequential([keras.Input((7, 12)), keras.layers.Lambda(lambda _: tf.constant(answers))])
    assert fit.exact_match(network, np.zeros([3, 7], np.uint8), np.array([b"579"] * 3)) == pytest.approx(1 / 3)
