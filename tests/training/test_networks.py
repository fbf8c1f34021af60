import keras
import numpy as np
import pytest
import tensorflow as tf

from training import fit, networks, task

BUILT = [
    ("repeat_vector", "lstm"),
    ("repeat_vector", "gru"),
    ("repeat_vector", "simple_rnn"),
    ("simple_rnn_classifier", "simple_rnn"),
    ("cho2014", "gru"),
    ("sutskever2014", "lstm"),
]


def build(name: str, cell: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    return networks.NETWORKS[name].build(cell)


def test_repeat_vector_is_the_network_of_the_tutorial() -> None:
    network = build("repeat_vector", "lstm")
    assert [type(layer).__name__ for layer in network.layers] == ["LSTM", "RepeatVector", "LSTM", "TimeDistributed"]
    assert network.input_shape == (None, 7, 12)
    assert network.output_shape == (None, 4, 12)
    assert [layer.units for layer in network.layers if isinstance(layer, keras.layers.LSTM)] == [128, 128]
    assert network.count_params() == 205_324


def test_the_classifier_is_the_network_of_the_tutorial() -> None:
    network = build("simple_rnn_classifier", "simple_rnn")
    assert [type(layer).__name__ for layer in network.layers] == ["SimpleRNN", "Dense", "Reshape"]
    assert network.output_shape == (None, 1, 12)


@pytest.mark.parametrize(("name", "cell"), BUILT)
def test_step_by_step_gives_what_the_whole_gives(name: str, cell: str) -> None:
    network, architecture = build(name, cell), networks.NETWORKS[name]
    tokens = task.query_tokens(np.array([b"123+456", b"0+0", b"99+1"]))
    whole = fit.predict(network, tokens)
    state, previous = architecture.encode(network, tf.constant(tokens, tf.int32)), tf.fill([3], task.PAD)
    steps = []
    for _ in range(whole.shape[1]):
        probabilities, state = architecture.decode_step(network, state, previous)
        previous = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        steps.append(probabilities)
    np.testing.assert_allclose(tf.stack(steps, axis=1), whole, atol=1e-6)


@pytest.mark.parametrize("name", ["cho2014", "sutskever2014"])
def test_a_network_that_feeds_back_hears_the_character_before(name: str) -> None:
    network, architecture = build(name, "lstm"), networks.NETWORKS[name]
    state = architecture.encode(network, tf.zeros([1, 7], tf.int32))
    one, _ = architecture.decode_step(network, state, tf.constant([1]))
    other, _ = architecture.decode_step(network, state, tf.constant([2]))
    assert not np.allclose(one, other, atol=1e-4)
