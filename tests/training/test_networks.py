import keras
import numpy as np
import pytest
import tensorflow as tf

from training import networks, task


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return networks.repeat_vector()


def test_it_is_the_network_of_the_tutorial(network: keras.Model) -> None:
    layers = [type(layer).__name__ for layer in network.layers]
    assert layers == ["LSTM", "RepeatVector", "LSTM", "TimeDistributed"]
    assert network.input_shape == (None, 7, 12)
    assert network.output_shape == (None, 4, 12)
    assert [layer.units for layer in network.layers if isinstance(layer, keras.layers.LSTM)] == [128, 128]
    assert network.count_params() == 205_324


def test_step_by_step_gives_what_the_whole_gives(network: keras.Model) -> None:
    tokens = task.query_tokens(np.array([b"123+456", b"0+0", b"99+1"]))
    state, steps = networks.encode(network, tf.constant(tokens, tf.int32)), []
    for _ in range(task.ANSWER_LENGTH):
        probabilities, state = networks.decode_step(network, state, tf.zeros([3], tf.int32))
        steps.append(probabilities)
    whole = network(tf.one_hot(tokens, len(task.ALPHABET)))
    np.testing.assert_allclose(tf.stack(steps, axis=1), whole, atol=1e-6)
