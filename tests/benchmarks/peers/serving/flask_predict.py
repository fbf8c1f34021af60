"""Flask and Keras' `model.predict`, a call for each request, as in tutorials."""

import os
from typing import Any

import numpy as np
import tensorflow as tf
from flask import Flask, request

from training import task
from training.networks import ARCHITECTURES


def create_app() -> Flask:
    """The application, which gunicorn creates in each worker."""
    app, network = Flask(__name__), load()
    one_hot = np.eye(len(task.ALPHABET), dtype=np.float32)

    def answer(query: str) -> str:
        tokens = task.tokenize_queries(np.array([query.encode()]))
        probabilities = network.predict(one_hot[tokens], verbose=0)  # (1, T, V)
        return str(task.detokenize(probabilities.argmax(-1).astype(np.uint8))[0].decode())

    @app.post("/predict")
    def predict() -> dict[str, str]:
        return {"answer": answer(request.get_json()["query"])}

    answer(task.EXAMPLE)  # traces
    return app


def load() -> Any:
    """The Keras network with the SavedModel's weights: the artifact has no .keras file."""
    network = ARCHITECTURES["repeat_vector"].build("lstm")
    network.set_weights([weight.numpy() for weight in tf.saved_model.load(os.environ["ADDER_SAVED_MODEL"]).weights])
    return network
