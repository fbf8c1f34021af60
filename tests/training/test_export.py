import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import missing, newest, run_training
from training import TrainingError, export, fit, litert, metadata, networks, task
from training.recipe import read_recipe


@pytest.fixture(scope="module")
def signatures(barely_trained: Path) -> dict[str, Any]:
    return dict(tf.saved_model.load(str(barely_trained)).signatures)


@pytest.fixture(scope="module")
def network(checkpoints: Path) -> keras.Model:
    return fit.read_checkpoint(checkpoints)


@pytest.fixture
def stub_save(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export.save` copies what it wrote for `barely_trained`, because its conversions are slow."""
    later = shutil.ignore_patterns("assets.extra", "metadata.json", "checksums.txt")
    monkeypatch.setattr(export, "save", lambda _, folder: shutil.copytree(barely_trained, folder, ignore=later))


def test_signatures_have_the_contracted_outputs(signatures: dict[str, Any]) -> None:
    shapes = {
        name: {output: (spec.dtype, spec.shape.as_list()) for output, spec in signature.structured_outputs.items()}
        for name, signature in signatures.items()
    }
    assert shapes == {
        "serving_default": {
            "answer": (tf.string, [None]),
            "probabilities": (tf.float32, [None, 4, 12]),
            "confidence": (tf.float32, [None]),
        },
        "serving_bytes": {
            "answer": (tf.uint8, [None, 4]),
            "probabilities": (tf.float32, [None, 4, 12]),
            "confidence": (tf.float32, [None]),
        },
        "k_best": {"answers": (tf.string, [None, None]), "log_probabilities": (tf.float32, [None, None])},
        "k_best_bytes": {"answers": (tf.uint8, [None, None, 4]), "log_probabilities": (tf.float32, [None, None])},
        "encode": {"state": (tf.float32, [None, 768])},
        "encode_bytes": {"state": (tf.float32, [None, 768])},
        "decode_step": {"probabilities": (tf.float32, [None, 12]), "state": (tf.float32, [None, 768])},
    }


def test_confidence_is_the_product_over_answer_and_end(signatures: dict[str, Any]) -> None:
    queries = np.random.default_rng(3).choice(task.queries(), 500)
    returned = signatures["serving_default"](query=tf.constant(queries))
    for answer, confidence, rows in zip(*(returned[key].numpy() for key in OUTPUTS), strict=True):
        assert confidence == pytest.approx(np.prod(rows.max(-1)[: len(answer) + 1]), rel=1e-5)


def test_k_best_scores_match_serving_default(signatures: dict[str, Any]) -> None:
    queries = tf.constant(np.random.default_rng(4).choice(task.queries(), 50))
    serving, best = signatures["serving_default"](query=queries), signatures["k_best"](query=queries, k=tf.constant(5))
    rows, totals = np.log(serving["probabilities"].numpy()), best["log_probabilities"].numpy()
    for row, answers, total in zip(rows, best["answers"].numpy(), totals, strict=True):
        padded = [answer.decode().ljust(5)[: len(answer) + 1][:4] for answer in answers]
        expected = [
            sum(row[place, task.ALPHABET.index(character)] for place, character in enumerate(characters))
            for characters in padded
        ]
        np.testing.assert_allclose(total, expected, atol=1e-4)
        assert len(set(answers)) == 5
    assert (np.diff(totals) <= 0).all()
    assert (totals[:, 0] >= np.log(serving["confidence"]) - 1e-4).all()


@pytest.mark.parametrize("name", ["adder", "cho2014", "last-digit", "sutskever2014"])
def test_k_best_of_a_shipped_model_starts_with_its_answer(name: str) -> None:
    golden = metadata.read(newest(name)).golden
    best = tf.saved_model.load(str(newest(name))).signatures["k_best"]
    answers = best(query=tf.constant([each.query for each in golden]), k=tf.constant(3))["answers"].numpy()
    assert answers[:, 0].tolist() == [each.answer.encode() for each in golden]


@pytest.mark.parametrize("query", ["1234+567", "12345678", "1-2", "1+2é"])
def test_serving_default_rejects_a_query_outside_the_alphabet(signatures: dict[str, Any], query: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="a query has at most 7 characters"):
        signatures["serving_default"](query=tf.constant(["1+2", query]))


def test_check_refuses_another_network(signatures: dict[str, Any], barely_trained: Path) -> None:
    keras.utils.set_random_seed(2)
    with pytest.raises(TrainingError, match="the Keras network and serving_default differ"):
        export.check(networks.repeat_vector("lstm"), signatures, barely_trained)


def test_check_refuses_probabilities_beyond_the_tolerance(
    network: keras.Model, signatures: dict[str, Any], barely_trained: Path
) -> None:
    def slightly_off(query: tf.Tensor) -> dict[str, tf.Tensor]:
        returned = dict(signatures["serving_default"](query=query))
        return returned | {"probabilities": returned["probabilities"] + 2e-5}

    with pytest.raises(TrainingError, match=r"differ in 0 of 10000 answers, and in probability by up to 2\.0e-05"):
        export.check(network, signatures | {"serving_default": slightly_off}, barely_trained)


def test_check_refuses_nan_probabilities(
    network: keras.Model, signatures: dict[str, Any], barely_trained: Path
) -> None:
    def undefined(query: tf.Tensor) -> dict[str, tf.Tensor]:
        returned = dict(signatures["serving_default"](query=query))
        return returned | {"probabilities": returned["probabilities"] * np.nan}

    with pytest.raises(TrainingError, match="differ in 0 of 10000 answers, and in probability by up to nan"):
        export.check(network, signatures | {"serving_default": undefined}, barely_trained)


def test_check_refuses_a_different_decode_step(
    network: keras.Model, signatures: dict[str, Any], barely_trained: Path
) -> None:
    def stateless(state: tf.Tensor, previous: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(signatures["decode_step"](state=state, previous=previous)) | {"state": state}

    with pytest.raises(TrainingError, match="step-by-step decoding and serving_default differ"):
        export.check(network, signatures | {"decode_step": stateless}, barely_trained)


def test_check_refuses_answers_that_do_not_match_probabilities(
    network: keras.Model, signatures: dict[str, Any], barely_trained: Path
) -> None:
    def shuffled(query: tf.Tensor) -> dict[str, tf.Tensor]:
        returned = dict(signatures["serving_default"](query=query))
        return returned | {"answer": tf.roll(returned["answer"], 1, axis=0)}

    with pytest.raises(TrainingError, match=r"differ in [1-9]\d* of 10000 answers"):
        export.check(network, signatures | {"serving_default": shuffled}, barely_trained)


def test_check_refuses_answers_that_depend_on_the_batch(
    network: keras.Model, signatures: dict[str, Any], barely_trained: Path
) -> None:
    def batch_dependent(query: tf.Tensor) -> dict[str, tf.Tensor]:
        returned = dict(signatures["serving_default"](query=query))
        shift = int(len(query) == 7)
        return returned | {"probabilities": tf.roll(returned["probabilities"], shift, axis=0)}

    with pytest.raises(TrainingError, match="serving_default in batches of 7 and serving_default differ"):
        export.check(network, signatures | {"serving_default": batch_dependent}, barely_trained)


def test_check_refuses_another_network_in_serving_tflite(
    network: keras.Model, signatures: dict[str, Any], artifact: Path, shipped: Path
) -> None:
    shutil.copy(shipped / "serving_bytes.tflite", artifact)
    with pytest.raises(TrainingError, match="LiteRT in batches of 1 and serving_default differ"):
        export.check(network, signatures, artifact)


def test_check_refuses_another_network_in_decoding_tflite(
    network: keras.Model, signatures: dict[str, Any], artifact: Path, shipped: Path
) -> None:
    shutil.copy(shipped / "decoding.tflite", artifact)
    with pytest.raises(TrainingError, match="LiteRT's step-by-step decoding and serving_default differ"):
        export.check(network, signatures, artifact)


@pytest.mark.parametrize(
    ("output", "changed", "message"),
    [
        ("answers", lambda answers: answers[:, ::-1], r"differ in [1-9]\d* of"),
        ("log_probabilities", lambda totals: totals + 1e-3, r"differ in 0 of .* answers, and in probability by up to"),
    ],
)
def test_check_refuses_a_different_k_best_in_litert(
    network: keras.Model,
    signatures: dict[str, Any],
    barely_trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    changed: Callable[[Any], Any],
    message: str,
) -> None:
    from_litert = litert.decoding_signatures(barely_trained)

    def k_best(query: Any, k: Any) -> dict[str, Any]:
        returned = from_litert["k_best_bytes"](query=query, k=k)
        return returned | {output: changed(returned[output])}

    monkeypatch.setattr(litert, "decoding_signatures", lambda _: from_litert | {"k_best_bytes": k_best})
    with pytest.raises(TrainingError, match=f"LiteRT's k best and the SavedModel's {message}"):
        export.check(network, signatures, barely_trained)


@pytest.mark.usefixtures("stub_save")
def test_a_refused_export_leaves_no_files(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="export refused"):
        export.export(checkpoints, tmp_path, "adder", None)
    assert list((tmp_path / "adder").iterdir()) == []


def test_export_refuses_an_existing_version(checkpoints: Path, artifact: Path) -> None:
    refused = run_training(
        "export", checkpoints, "--artifacts", artifact.parent.parent, "--name", "adder", "--version", 1
    )
    assert refused.returncode == 1
    assert refused.stderr == f"error: {artifact} already exists: choose another version\n"


def test_export_refuses_a_folder_without_training(tmp_path: Path) -> None:
    refused = run_training("export", tmp_path / "nothing", "--artifacts", tmp_path, "--name", "adder")
    assert refused.stderr.startswith(f"error: {tmp_path / 'nothing'} contains no training")


@pytest.mark.parametrize("name", ["../x", "", "a b", ".hidden", "adder\n"])
def test_export_refuses_an_invalid_name(checkpoints: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingError, match="is invalid: use letters"):
        export.export(checkpoints, tmp_path, name, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stub_save")
def test_export_ignores_folders_that_are_no_versions(
    checkpoints: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "check", lambda *_: None)  # accepted the same network for `barely_trained`
    artifact.with_name("1.bak").mkdir()
    assert export.export(checkpoints, artifact.parent.parent, "adder", None) == artifact.with_name("2")


def test_export_refuses_an_unfinished_training(checkpoints: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    recipe = read_recipe(copy).model_copy(update={"epochs": 2})
    (copy / "recipe.json").write_text(recipe.model_dump_json())
    with pytest.raises(TrainingError, match="is at epoch 1 of 2: resume it by `python -m training train"):
        export.export(copy, tmp_path, "adder", None)


def test_provenance_records_command_seed_and_libraries(barely_trained: Path, checkpoints: Path) -> None:
    provenance = metadata.read(barely_trained).provenance
    assert provenance.command == f"python -m training train {checkpoints} --epochs 1 --examples 20480"
    assert provenance.seed == 1
    assert provenance.libraries["keras"] == keras.__version__


def test_golden_answers_are_those_of_the_exported_network(barely_trained: Path, signatures: dict[str, Any]) -> None:
    golden = metadata.read(barely_trained).golden
    answers = signatures["serving_default"](query=tf.constant([each.query for each in golden]))["answer"]
    assert [each.answer.encode() for each in golden] == answers.numpy().tolist()
    assert len(golden) == 32


def test_the_optimizer_is_not_shipped(barely_trained: Path) -> None:
    variables = sum(file.stat().st_size for file in (barely_trained / "variables").iterdir())
    assert variables < 4 * 205_324 + 4096


def test_checksums_are_valid_for_sha256sum(artifact: Path) -> None:
    json.loads((artifact / "metadata.json").read_text())
    if shutil.which("sha256sum") is None:
        missing("sha256sum")
    subprocess.run(["sha256sum", "--check", "--strict", "checksums.txt"], cwd=artifact, check=True)


OUTPUTS = ["answer", "confidence", "probabilities"]
