"""What the study compares: recipes by the name of the comparison and of the setting.

Imports no TensorFlow: the command line reads the names from here for `--help`.
"""

from typing import Any

from training.recipe import Recipe

# The fields of the recipe that the settings change: small enough to be trained many times.
BASE: dict[str, Any] = {"task": "addition", "examples": 20_000, "epochs": 20, "batch_size": 256}
KERAS_EXAMPLE: dict[str, Any] = {
    "batch_size": 32,
    "learning_rate": 1e-3,
    "decay": False,
    "clip_norm": None,
    "both_orders": False,
    "oversample_short": False,
}
# By the name that --against takes, and by the name of a setting: the fields that differ from BASE.
COMPARISONS: dict[str, dict[str, dict[str, Any]]] = {
    "unreversed": {"reversed": {}, "unreversed": {"reverse": False}},
    "cells": {"LSTM": {}, "GRU": {"cell": "gru"}, "SimpleRNN": {"cell": "simple_rnn"}},
    "architectures": {
        "repeat_vector": {},
        "cho2014": {"architecture": "cho2014", "cell": "gru"},
        "sutskever2014": {"architecture": "sutskever2014"},
    },
    "constant-rate": {"ours": {}, "constant 0.001": {"learning_rate": 1e-3, "decay": False, "clip_norm": None}},
    "units": {f"{units}": {"units": units} for units in (32, 64, 128, 256)},
    # The number of queries that are shown is the same.
    "fewer-examples": {
        f"{pairs:,}": {"examples": pairs, "epochs": 2_000_000 // pairs} for pairs in (5_000, 10_000, 20_000, 50_000)
    },
    # examples/nlp/addition_rnn of keras-io: its examples, without the tenth that it validates with. Of two digits there
    # are 4,495 train pairs, not 4,500.
    "keras-example": {
        f"{digits} digits, {name}": {"task": task, "examples": examples} | changes
        for digits, task, examples, epochs, ours in [
            (2, "addition-2", 4_495, 55, {"epochs": 60, "batch_size": 64}),
            (3, "addition", 45_000, 100, {"epochs": 40}),
            (4, "addition-4", 360_000, 20, {"epochs": 10}),
            (5, "addition-5", 495_000, 30, {"epochs": 12}),
        ]
        for name, changes in {"Keras example": {"epochs": epochs} | KERAS_EXAMPLE, "ours": ours}.items()
    },
}
SEEDS = (1, 2, 3)
ONE_SEED = {"keras-example"}  # takes hours


def settings(comparison: str) -> dict[str, list[Recipe]]:
    """Return the recipes of a comparison, one for each seed, by the name of the setting."""
    seeds = SEEDS[:1] if comparison in ONE_SEED else SEEDS
    return {
        name: [Recipe(**BASE | changes, seed=seed, command="python -m training compare") for seed in seeds]
        for name, changes in COMPARISONS[comparison].items()
    }
