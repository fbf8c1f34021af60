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
def test_warmup_has_a_request_for_each_batch_size(name: str) -> None:
    contents = metadata.read(newest(name))
    requests = logs(newest(name))
    assert [len(queries(log)) for log in requests] == contents.batch_sizes
    assert {query for log in requests for query in queries(log)} == {golden.query for golden in contents.golden}
    specs = [log.predict_log.request.model_spec for log in requests]
    assert {(spec.name, spec.signature_name) for spec in specs} == {(name, "serving_default")}


def test_warmup_queries_get_their_golden_answers(barely_trained: Path) -> None:
    golden = {golden.query: golden.answer for golden in metadata.read(barely_trained).golden}
    serving = tf.saved_model.load(str(barely_trained)).signatures["serving_default"]
    for log in logs(barely_trained):
        answers = serving(query=tf.constant(queries(log)))["answer"].numpy()
        assert [answer.decode() for answer in answers] == [golden[query] for query in queries(log)]


def test_requests_have_the_wire_format_of_tensorflow_serving() -> None:
    """The bytes were written by tensorflow-serving-api 2.21."""
    written = bytes.fromhex(
        "32340a320a180a0561646465721a0f73657276696e675f64656661756c7412160a057175657279120d08071204120208014203312b31"
    )
    log = warmup.PredictionLog.FromString(written)
    assert log.predict_log.request.model_spec.name == "adder"
    assert log.predict_log.request.model_spec.signature_name == "serving_default"
    assert queries(log) == ["1+1"]
    assert log.SerializeToString() == written
