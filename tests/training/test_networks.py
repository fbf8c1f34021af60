import keras
import numpy as np
import pytest
import tensorflow as tf

from training import TrainingError, fit, networks
from training.recipe import CELLS
from training.tasks import Task, find_task

BUILT = [(name, cell) for name, cells in CELLS.items() for cell in cells]


def task_of(name: str) -> Task:
    return find_task("last-digit" if name == "simple_rnn_classifier" else "addition")


def build(name: str, cell: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    return networks.ARCHITECTURES[name].build(task_of(name), cell, 128)


def test_every_architecture_has_its_cells() -> None:
    assert networks.ARCHITECTURES.keys() == CELLS.keys()


@pytest.mark.parametrize(("name", "cell"), BUILT)
def test_build_uses_the_name_and_the_cell(name: str, cell: str) -> None:
    network = build(name, cell)
    assert network.name == name
    recurrent = [layer for layer in network.layers if isinstance(layer, keras.layers.RNN)]
    assert {type(layer) for layer in recurrent} == {networks.RECURRENT_LAYERS[cell]}


def test_repeat_vector_has_the_layers_of_the_tutorial() -> None:
    network = build("repeat_vector", "lstm")
    assert [type(layer).__name__ for layer in network.layers] == ["LSTM", "RepeatVector", "LSTM", "TimeDistributed"]
    assert network.input_shape == (None, 7, 12)
    assert network.output_shape == (None, 4, 12)
    assert [layer.units for layer in network.layers if isinstance(layer, keras.layers.LSTM)] == [128, 128]
    assert network.count_params() == 205_324


def test_simple_rnn_classifier_has_the_layers_of_the_tutorial() -> None:
    network = build("simple_rnn_classifier", "simple_rnn")
    assert [type(layer).__name__ for layer in network.layers] == ["SimpleRNN", "Dense", "Reshape"]
    assert network.output_shape == (None, 1, 12)


def test_simple_rnn_classifier_refuses_longer_answers() -> None:
    with pytest.raises(TrainingError, match="the task addition has answers of up to 4: choose another network or task"):
        networks.ARCHITECTURES["simple_rnn_classifier"].build(find_task("addition"), "simple_rnn", 128)


def test_networks_have_the_sizes_of_their_task() -> None:
    network = networks.repeat_vector(find_task("reversal"), "gru", 128)
    assert (network.input_shape, network.output_shape) == ((None, 6, 6), (None, 6, 6))


@pytest.mark.parametrize(("name", "cell"), BUILT)
def test_decode_steps_match_the_keras_network(name: str, cell: str) -> None:
    network, architecture, task = build(name, cell), networks.ARCHITECTURES[name], task_of(name)
    queries = np.array([b"123+456", b"0+0", b"99+1"])
    whole = fit.predict(network, task, queries)
    tokens = tf.constant(fit.encode(task, queries), tf.int32)
    state, previous = architecture.encode(network, tokens), tf.fill([3], task.end_token)
    steps = []
    for _ in range(whole.shape[1]):
        probabilities, state = architecture.decode_step(network, state, previous)
        previous = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        steps.append(probabilities)
    np.testing.assert_allclose(tf.stack(steps, axis=1), whole, atol=1e-6)


@pytest.mark.parametrize("name", ["cho2014", "sutskever2014"])
def test_autoregressive_decode_step_uses_the_previous_character(name: str) -> None:
    network, architecture = build(name, "lstm"), networks.ARCHITECTURES[name]
    state = architecture.encode(network, tf.zeros([1, 7], tf.int32))
    one, _ = architecture.decode_step(network, state, tf.constant([1]))
    other, _ = architecture.decode_step(network, state, tf.constant([2]))
    assert not np.allclose(one, other, atol=1e-4)
