import re

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import run_training
from training.explain import LAYERS, explain


def rows(text: str, name: str) -> npt.NDArray[np.float64]:
    """The numbers of the rows whose name fits a pattern."""
    found = re.findall(rf"^  (?:{name}) +((?: *-?\d\.\d+)+)$", text, re.MULTILINE)
    return np.array([[float(number) for number in row.split()] for row in found])


@pytest.mark.parametrize("layer", LAYERS)
def test_an_explanation_fits_a_screen_and_is_repeatable(layer: str) -> None:
    explained = run_training("explain", layer)
    assert explained.returncode == 0, explained.stderr
    lines = explained.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120
    assert explain(layer) == explain(layer) == explained.stdout.rstrip("\n")


def test_the_last_output_of_a_sequence_is_that_without_it() -> None:
    text = explain("return_sequences")
    assert "[1, 7, 12]" in text
    outputs = rows(text, r"[0-9+]")
    assert outputs.shape == (8, 4)  # one alone, and one for each character
    assert (outputs[0] == outputs[-1]).all()
    assert (outputs[0] != outputs[1]).any()


def test_repeat_vector_copies_the_context_to_each_step() -> None:
    text = explain("repeat_vector")
    assert "[1, 4, 4]" in text
    assert (rows(text, "step [0-3]") == rows(text, "context")[0]).all()


def test_dense_is_what_time_distributed_says() -> None:
    text = explain("time_distributed")
    outputs = rows(text, "step [0-3]")
    assert outputs.shape == (8, 3)
    assert (outputs[:4] == outputs[4:]).all()
    [difference] = re.findall(r"The greatest difference is (\S+): rounding", text)
    assert float(difference) < 1e-7
    assert re.findall(r"(\d+) weights", text) == ["15", "15", "204"]  # 4 x 3 + 3, and 16 x 12 + 12
    assert "change at 1 of 4 steps, and those of the full connection at 4 of 4" in text


def test_an_unknown_layer_is_refused() -> None:
    refused = run_training("explain", "dropout")
    assert refused.returncode == 2
    assert "'dropout' is not one of 'return_sequences', 'repeat_vector', 'time_distributed'" in refused.stderr
