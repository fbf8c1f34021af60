"""Flask and Keras' `model.predict`, a call for each request, as in tutorials."""

import os
from typing import Any

import numpy as np
import tensorflow as tf
from flask import Flask, request

from training import fit
from training.networks import ARCHITECTURES
from training.recipe import HIDDEN_UNITS
from training.tasks import find_task

TASK = find_task("addition")


def create_app() -> Flask:
    """The application, which gunicorn creates in each worker."""
    app, network = Flask(__name__), load()
    one_hot = np.eye(len(TASK.alphabet), dtype=np.float32)

    def answer(query: str) -> str:
        tokens = fit.encode(TASK, np.array([query.encode()]))
        probabilities = network.predict(one_hot[tokens], verbose=0)  # (1, T, V)
        return str(TASK.detokenize(probabilities.argmax(-1).astype(np.uint8))[0].decode())

    @app.post("/predict")
    def predict() -> dict[str, str]:
        return {"answer": answer(request.get_json()["query"])}

    answer(TASK.example)  # traces
    return app


def load() -> Any:
    """The Keras network with the SavedModel's weights: the artifact has no .keras file."""
    network = ARCHITECTURES["repeat_vector"].build(TASK, "lstm", HIDDEN_UNITS)
    network.set_weights([weight.numpy() for weight in tf.saved_model.load(os.environ["ADDER_SAVED_MODEL"]).weights])
    return network
