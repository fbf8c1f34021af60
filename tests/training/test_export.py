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

from service.models.artifact import Artifact
from tests.conftest import missing, newest, run_training
from training import TrainingError, export, fit, metadata, networks
from training.engines import Engine, LiteRTEngine, Predictions, SavedModelEngine
from training.examples import keys
from training.recipe import read_recipe
from training.tasks import find_task
from training.tasks.task import Texts

TASK = find_task("addition")
QUERIES = export.many_queries(TASK)


@pytest.fixture(scope="module")
def signatures(barely_trained: Path) -> dict[str, Any]:
    return dict(tf.saved_model.load(str(barely_trained)).signatures)


@pytest.fixture(scope="module")
def network(checkpoints: Path) -> keras.Model:
    return fit.read_checkpoint(checkpoints)


@pytest.fixture
def stub_save(barely_trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export.save` copies what it wrote for `barely_trained`, because its conversions are slow."""
    later = shutil.ignore_patterns("assets.extra", "metadata.json", "samples.ndjson", "checksums.txt")
    monkeypatch.setattr(export, "save", lambda *to: shutil.copytree(barely_trained, to[-1], ignore=later))


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
    queries = np.random.default_rng(3).choice(QUERIES, 500)
    returned = signatures["serving_default"](query=tf.constant(queries))
    for answer, confidence, rows in zip(*(returned[key].numpy() for key in OUTPUTS), strict=True):
        assert confidence == pytest.approx(np.prod(rows.max(-1)[: len(answer) + 1]), rel=1e-5)


def test_k_best_scores_match_serving_default(signatures: dict[str, Any]) -> None:
    queries = tf.constant(np.random.default_rng(4).choice(QUERIES, 50))
    serving, best = signatures["serving_default"](query=queries), signatures["k_best"](query=queries, k=tf.constant(5))
    rows, totals = np.log(serving["probabilities"].numpy()), best["log_probabilities"].numpy()
    for row, answers, total in zip(rows, best["answers"].numpy(), totals, strict=True):
        padded = [answer.decode().ljust(5)[: len(answer) + 1][:4] for answer in answers]
        expected = [
            sum(row[place, TASK.alphabet.index(character)] for place, character in enumerate(characters))
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


@pytest.fixture(scope="module")
def saved_model(barely_trained: Path) -> SavedModelEngine:
    return SavedModelEngine(barely_trained, TASK)


def check(network: keras.Model, *engines: Engine) -> None:
    export.check(network, TASK, True, dict(zip(["the SavedModel", "LiteRT"], engines, strict=False)))


def test_check_accepts_the_exported_network(
    network: keras.Model, saved_model: SavedModelEngine, barely_trained: Path
) -> None:
    check(network, saved_model, LiteRTEngine(barely_trained, TASK))


def test_check_refuses_another_network(saved_model: SavedModelEngine) -> None:
    keras.utils.set_random_seed(2)
    with pytest.raises(TrainingError, match="the Keras network and the SavedModel differ"):
        check(networks.repeat_vector(TASK, "lstm", 128), saved_model)


class Changed(SavedModelEngine):
    """Changes the predictions of batches of some sizes."""

    def __init__(self, folder: Path, change: Callable[[Predictions], Predictions], *sizes: int) -> None:
        super().__init__(folder, TASK)
        self._change, self._sizes = change, sizes

    def predict(self, queries: Texts) -> Predictions:
        predictions = super().predict(queries)
        return self._change(predictions) if not self._sizes or len(queries) in self._sizes else predictions


@pytest.mark.parametrize(
    ("change", "sizes", "message"),
    [
        (
            lambda each: each._replace(probabilities=each.probabilities + 2e-5),
            (),
            r"differ in 0 of 10000 .* 2\.[01]e-05",
        ),
        (lambda each: each._replace(probabilities=each.probabilities * np.nan), (), "by up to nan"),
        (lambda each: each._replace(answers=np.roll(each.answers, 1)), (), r"differ in [1-9]\d* of 10000 answers"),
        (
            lambda each: each._replace(probabilities=np.roll(each.probabilities, 1, 0)),
            (7,),
            "the SavedModel in batches of 7 and the SavedModel differ",
        ),
    ],
)
def test_check_refuses_other_predictions(
    network: keras.Model, barely_trained: Path, change: Any, sizes: tuple[int, ...], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        check(network, Changed(barely_trained, change, *sizes))


def test_check_refuses_a_different_decode_step(network: keras.Model, barely_trained: Path) -> None:
    class Stateless(SavedModelEngine):
        def decode_step(self, state: Any, previous: Any) -> tuple[Any, Any]:
            return super().decode_step(state, previous)[0], state

    with pytest.raises(TrainingError, match="step-by-step decoding by the SavedModel and the SavedModel differ"):
        check(network, Stateless(barely_trained, TASK))


@pytest.mark.parametrize(
    ("file", "form"),
    [("serving_bytes.tflite", "LiteRT in batches of 1"), ("decoding.tflite", "step-by-step decoding by LiteRT")],
)
def test_check_refuses_the_litert_file_of_another_network(
    network: keras.Model, saved_model: SavedModelEngine, artifact: Path, shipped: Path, file: str, form: str
) -> None:
    shutil.copy(shipped / file, artifact)
    with pytest.raises(TrainingError, match=f"{form} and the SavedModel differ"):
        check(network, saved_model, LiteRTEngine(artifact, TASK))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answers, scores: (answers[:, ::-1], scores), r"differ in [1-9]\d* of"),
        (lambda answers, scores: (answers, scores + 1e-3), r"differ in 0 of .* answers, and in probability by up to"),
    ],
)
def test_check_refuses_a_different_k_best(
    network: keras.Model, saved_model: SavedModelEngine, barely_trained: Path, change: Any, message: str
) -> None:
    class Best(LiteRTEngine):
        def k_best(self, queries: Texts, k: int) -> Any:
            return change(*super().k_best(queries, k))

    with pytest.raises(TrainingError, match=f"the k best by LiteRT and the SavedModel {message}"):
        check(network, saved_model, Best(barely_trained, TASK))


@pytest.mark.usefixtures("stub_save")
def test_a_refused_export_leaves_no_files(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="export refused"):
        export.export_training(checkpoints, tmp_path, "adder", None)
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
        export.export_training(checkpoints, tmp_path, name, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stub_save")
def test_export_ignores_folders_that_are_no_versions(
    checkpoints: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "check", lambda *_: None)  # accepted the same network for `barely_trained`
    artifact.with_name("1.bak").mkdir()
    assert export.export_training(checkpoints, artifact.parent.parent, "adder", None) == artifact.with_name("2")


def test_export_refuses_an_unfinished_training(checkpoints: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    recipe = read_recipe(copy).model_copy(update={"epochs": 2})
    (copy / "recipe.json").write_text(recipe.model_dump_json())
    with pytest.raises(TrainingError, match="is at epoch 1 of 2: resume it by `python -m training train"):
        export.export_training(copy, tmp_path, "adder", None)


def test_provenance_records_command_seed_and_libraries(barely_trained: Path, checkpoints: Path) -> None:
    provenance = metadata.read(barely_trained).provenance
    assert provenance is not None
    assert provenance.command == f"python -m training train {checkpoints} --epochs 1 --examples 10000"
    assert provenance.seed == 1
    assert provenance.libraries["keras"] == keras.__version__


def test_golden_answers_are_those_of_the_exported_network(barely_trained: Path, signatures: dict[str, Any]) -> None:
    golden = metadata.read(barely_trained).golden
    answers = signatures["serving_default"](query=tf.constant([each.query for each in golden]))["answer"]
    assert [each.answer.encode() for each in golden] == answers.numpy().tolist()
    assert len(golden) == 32


def test_samples_are_held_out_queries_with_their_answers(barely_trained: Path) -> None:
    lines = [json.loads(line) for line in (barely_trained / "samples.ndjson").read_text().splitlines()]
    queries = np.array([line["query"].encode() for line in lines])
    assert len(np.unique(queries)) == 2000
    assert np.isin(queries, keys(TASK, "held_out")).all()
    assert [line["answer"].encode() for line in lines] == TASK.answers(queries).tolist()
    assert "samples.ndjson" in (barely_trained / "checksums.txt").read_text()


class TestElsewhere:
    """Networks that were not trained by this package."""

    REVERSAL = find_task("reversal")

    def tutorial(self, *last: keras.Layer) -> keras.Model:
        """The second network of the tutorial, with Keras' own names of layers."""
        layers = keras.layers
        end = last or (layers.TimeDistributed(layers.Dense(6, activation="softmax")),)
        return keras.Sequential(
            [
                keras.Input((6, 6)),
                layers.LSTM(8),
                layers.RepeatVector(6),
                layers.LSTM(8, return_sequences=True),
                *end,
            ]
        )

    def test_a_keras_network_is_exported_and_served(self, tmp_path: Path) -> None:
        network, folder = self.tutorial(), tmp_path / "tutorial" / "3"
        assert export.export(network, self.REVERSAL, folder) == folder
        contents = metadata.read(folder)
        assert (contents.name, contents.version, contents.architecture) == ("tutorial", 3, "other")
        assert (contents.provenance, contents.task.name) == (None, "reversal")
        engine = Artifact.load(folder).engine
        queries = export.many_queries(self.REVERSAL)[:50]
        expected = fit.predict(network, self.REVERSAL, queries, reverse=False)
        for query, steps in zip(queries.tolist(), expected, strict=True):
            [output] = engine.predict([query.decode()])
            assert output.probabilities == pytest.approx(steps, abs=1e-5)
            assert next(iter(engine.decode(query.decode()))) == pytest.approx(steps[0], abs=1e-5)
        with pytest.raises(TrainingError, match="already exists: choose another version"):
            export.export(network, self.REVERSAL, folder)

    def test_layers_that_litert_cannot_run_are_left_to_tensorflow(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gamma = keras.layers.Lambda(lambda inputs: tf.raw_ops.Lgamma(x=inputs + 2))
        network = keras.Sequential([keras.Input((6, 6)), gamma, keras.layers.Dense(6, activation="softmax")])
        folder = export.export(network, self.REVERSAL, tmp_path / "gamma" / "1")
        assert list(folder.glob("*.tflite")) == []
        assert "the version has no LiteRT files, and the service runs its SavedModel" in capsys.readouterr().err
        assert Artifact.load(folder).engine.name == "saved_model"

    @pytest.mark.parametrize(
        ("last", "version", "message"),
        [
            (
                [keras.layers.Dense(5, activation="softmax")],
                "1",
                r"the output of the network has the shape \(None, 6, 5\)",
            ),
            ([keras.layers.Dense(6)], "1", "is not probabilities that sum to 1: end it with a softmax"),
            ([], "one", "the version 'one' is invalid: it is a number from 1 on"),
        ],
    )
    def test_a_network_that_does_not_fit_is_refused(
        self, tmp_path: Path, last: list[keras.Layer], version: str, message: str
    ) -> None:
        with pytest.raises(TrainingError, match=message):
            export.export(self.tutorial(*last), self.REVERSAL, tmp_path / "tutorial" / version)
        assert list(tmp_path.iterdir()) == []

    def test_two_inputs_or_another_length_are_refused(self, tmp_path: Path) -> None:
        autoregressive = networks.cho2014(self.REVERSAL, "gru", 128)
        with pytest.raises(TrainingError, match="the network has 2 inputs and 1 outputs: one input"):
            export.export(autoregressive, self.REVERSAL, tmp_path / "tutorial" / "1")
        with pytest.raises(TrainingError, match=r"the input of the network has the shape \(None, 6, 6\): the task add"):
            export.export(self.tutorial(), TASK, tmp_path / "tutorial" / "1")


def test_the_optimizer_is_not_shipped(barely_trained: Path) -> None:
    variables = sum(file.stat().st_size for file in (barely_trained / "variables").iterdir())
    assert variables < 4 * 205_324 + 4096


def test_checksums_are_valid_for_sha256sum(artifact: Path) -> None:
    json.loads((artifact / "metadata.json").read_text())
    if shutil.which("sha256sum") is None:
        missing("sha256sum")
    subprocess.run(["sha256sum", "--check", "--strict", "checksums.txt"], cwd=artifact, check=True)


OUTPUTS = ["answer", "confidence", "probabilities"]
