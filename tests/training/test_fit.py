import re
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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import run_training, run_training_process, training_process
from training import TrainingError, fit
from training.examples import keys, queries_of
from training.recipe import Recipe, read_recipe
from training.tasks import Task, find_task
from training.tasks.task import Texts, Tokens

SHORT = ["--epochs", "4", "--examples", "2048", "--batch-size", "1024"]  # four steps an epoch


ADDITION = find_task("addition")


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {"task": "addition", "epochs": 1, "examples": 2048, "command": ""}
    return Recipe(**fields | changes)


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
    assert training.stdout.startswith("compiling the first step: it takes up to a minute\nepoch 1/4: loss")
    assert "epoch 4/4: loss 2." in training.stdout
    assert "validation exact-match 0." in training.stdout
    assert training.stderr == ""  # no progress bar off a terminal


def test_initial_weights_depend_on_the_seed() -> None:
    def initial_weights(seed: int) -> bytes:
        network = fit.new_network(recipe(seed=seed), ADDITION, total_steps=2)
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


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's own
def test_fit_uses_each_part_for_its_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StubStepwise:
        def __init__(self, *_: object) -> None:
            pass

        def fit(self, *_: Any, callbacks: list[keras.callbacks.Callback], **__: Any) -> Any:
            logs = {"loss": 0.0}
            callbacks[0].on_epoch_end(0, logs)
            return SimpleNamespace(history={name: [value] for name, value in logs.items()})

    used: dict[str, Any] = {}

    def batches(_: Task, queries: Tokens, _answers: Tokens, recipe: Recipe, epoch: int) -> None:
        used.update(train=queries, seed_and_epoch=(recipe.seed, epoch))

    def predict(_network: object, task: Task, queries: Texts, _reverse: bool) -> fit.Probabilities:
        used["validation"] = fit.encode(task, queries)
        return np.zeros([len(queries), 4, 12], np.float32)

    monkeypatch.setattr(fit, "Stepwise", StubStepwise)
    monkeypatch.setattr(fit, "batches", batches)
    monkeypatch.setattr(fit, "predict", predict)
    fit.fit(recipe(seed=3, examples=445_445), tmp_path)
    for name, part in [("train", keys(ADDITION, "train")), ("validation", keys(ADDITION, "validation"))]:
        expected = {query.tobytes() for query in fit.encode(ADDITION, queries_of(ADDITION, part))}
        assert {query.tobytes() for query in used[name]} == expected
    assert used["seed_and_epoch"] == (3, 0)


def test_an_interrupted_training_names_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does: without the options, which its folder has."""
    options = ["--epochs", 10_000, "--examples", 2048]
    with training_process("train", tmp_path, *options) as training:
        while not fit.checkpoint_file(tmp_path).exists():
            assert training.poll() is None
            time.sleep(0.01)
        refused = run_training("train", tmp_path, *options)
        training.send_signal(signal.SIGINT)
        _, stderr = training.communicate()
    assert refused.stderr == f"error: another process trains in {tmp_path}: wait for it, or use another folder\n"
    [message] = stderr.splitlines()
    assert re.fullmatch(r"error: interrupted after epoch \d+ of 10000: the same command goes on", message)
    assert training.returncode == 1
    assert list(tmp_path.glob("unfinished*")) == []
    resumed: list[Recipe] = []
    monkeypatch.setattr(fit, "fit", lambda recipe, *_: resumed.append(recipe))
    assert run_training("train", tmp_path).returncode == 0
    assert resumed == [read_recipe(tmp_path)]


def test_train_writes_a_tensorboard_log(uninterrupted: Path) -> None:
    log = EventAccumulator(str(uninterrupted / "tensorboard" / "train")).Reload()
    logged = [event.step for event in log.Tensors("epoch_validation_exact_match")]
    assert logged == [0, 1, 2, 3]
    assert len(log.Tensors("epoch_loss")) == 4


def test_train_leaves_a_finished_training_unchanged(uninterrupted: Path) -> None:
    before = fit.checkpoint_file(uninterrupted).read_bytes()
    for options in ([], SHORT, ["--epochs", 4]):
        again = run_training("train", uninterrupted, *options)
        assert again.stdout.endswith("is finished: export it, add --epochs, or train into another folder\n")
    assert fit.checkpoint_file(uninterrupted).read_bytes() == before


def test_a_finished_training_is_extended_by_more_epochs(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    before = weights(tmp_path)
    extended = run_training("train", tmp_path, "--epochs", 6)
    assert re.findall(r"^epoch (\d/\d)", extended.stdout, re.MULTILINE) == ["5/6", "6/6"]
    assert weights(tmp_path) != before
    recipe = read_recipe(tmp_path)
    assert (recipe.epochs, recipe.examples) == (6, 2048)
    first, second = recipe.command.split(" && ")
    assert first == read_recipe(uninterrupted).command
    assert second.endswith("--epochs 6")
    assert len(fit.read_epochs(tmp_path, 6)) == 6
    network = fit.read_checkpoint(tmp_path)
    assert float(network.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)  # the end of a schedule of six
    assert "is finished" in run_training("train", tmp_path).stdout


def test_fewer_epochs_than_before_are_refused(uninterrupted: Path) -> None:
    refused = run_training("train", uninterrupted, "--epochs", 3)
    assert refused.stderr == (
        f"error: {uninterrupted} contains a training of 4 epochs: ask for more, or train into another folder\n"
    )


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--task", "sorting"],
            "Invalid value for '--task': the task 'sorting' does not exist: the tasks are",
        ),
        (["--examples", 445_446], "Invalid value for --examples: the task addition has 445,445 train pairs"),
        (["--task", "reversal", "--batch-size", 20_000], "has 17382 examples, fewer than the batch size of 20000"),
        (["--digits", 2, "--batch-size", 20_000], "the task addition-2 has 8898 examples, fewer than the batch size"),
        (["--digits", 6], "Invalid value for '--digits': 6 is not in the range 2<=x<=5."),
        (["--digits", 2, "--task", "addition"], "--digits names a task: give it without --task"),
        (["--network", "simple_rnn_classifier"], "the task addition has answers of up to 4"),
    ],
)
def test_train_refuses_options_that_do_not_fit(tmp_path: Path, options: list[object], message: str) -> None:
    refused = run_training("train", tmp_path / "new", *options)
    assert refused.returncode > 0
    assert message in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_a_network_reads_queries_reversed_and_padded() -> None:
    tokens = fit.encode(ADDITION, np.array([b"1+23"]))
    assert "".join(ADDITION.alphabet[token] for token in tokens[0]) == "   32+1"
    unreversed = fit.encode(ADDITION, np.array([b"1+23"]), reverse=False)
    assert "".join(ADDITION.alphabet[token] for token in unreversed[0]) == "1+23   "


def test_answers_end_at_their_first_end() -> None:
    probabilities = np.eye(12, dtype=np.float32)[np.array([[5, 7, 9, 11], [5, 11, 8, 1]])]
    assert fit.answers(ADDITION, probabilities).tolist() == [b"579", b"5"]
