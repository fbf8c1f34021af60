"""Flask and the SavedModel's signature, a call for each request."""

from flask import Flask, request

from tests.benchmarks.peers.serving.saved_model import SavedModel


def create_app() -> Flask:
    """The application, which gunicorn creates in each worker."""
    app, model = Flask(__name__), SavedModel()

    @app.post("/predict")
    def predict() -> dict[str, str]:
        return {"answer": model.answers([request.get_json()["query"]])[0]}

    return app
