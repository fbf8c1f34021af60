from pathlib import Path

import pytest
import tensorflow as tf

from tests.conftest import newest
from training import metadata, warmup


def logs(artifact: Path) -> list[warmup.PredictionLog]:
    records = tf.data.TFRecordDataset(str(artifact / "assets.extra" / "tf_serving_warmup_requests"))
    return [warmup.PredictionLog.FromString(record) for record in records.as_numpy_iterator()]


def queries(log: warmup.PredictionLog) -> list[str]:
    [given] = log.predict_log.request.inputs
    assert given.key == "query"
    return [query.decode() for query in tf.make_ndarray(given.value).tolist()]


@pytest.mark.parametrize("name", ["adder", "cho2014", "last-digit", "sutskever2014"])
def test_every_batch_size_is_asked_for(name: str) -> None:
    described = metadata.read(newest(name))
    asked = logs(newest(name))
    assert [len(queries(log)) for log in asked] == described.batch_sizes
    assert {query for log in asked for query in queries(log)} == {golden.query for golden in described.golden}
    specs = [log.predict_log.request.model_spec for log in asked]
    assert {(spec.name, spec.signature_name) for spec in specs} == {(name, "serving_default")}


def test_the_network_answers_what_it_is_asked(barely_trained: Path) -> None:
    golden = {golden.query: golden.answer for golden in metadata.read(barely_trained).golden}
    serving = tf.saved_model.load(str(barely_trained)).signatures["serving_default"]
    for log in logs(barely_trained):
        answers = serving(query=tf.constant(queries(log)))["answer"].numpy()
        assert [answer.decode() for answer in answers] == [golden[query] for query in queries(log)]


def test_the_fields_are_those_of_tensorflow_serving() -> None:
    """An example as tensorflow-serving-api 2.21 writes it."""
    written = bytes.fromhex(
        "32340a320a180a0561646465721a0f73657276696e675f64656661756c7412160a057175657279120d08071204120208014203312b31"
    )
    log = warmup.PredictionLog.FromString(written)
    assert log.predict_log.request.model_spec.name == "adder"
    assert log.predict_log.request.model_spec.signature_name == "serving_default"
    assert queries(log) == ["1+1"]
    assert log.SerializeToString() == written
