"""Creates the application from its parts, and nothing else."""

from collections.abc import Callable
from pathlib import Path

from flask import Flask
from werkzeug.routing import IntegerConverter

from service.models.artifact import Artifact
from service.models.catalog import Catalog
from service.models.native_stderr import capture_stderr
from service.models.repository import Load, Repository
from service.rest import cors, problem_details
from service.rest.admission import LargeRequests
from service.routes.docs import docs_routes
from service.routes.explain import explain_routes
from service.routes.health import health_routes
from service.routes.models import models_routes
from service.routes.open_inference import open_inference_routes
from service.routes.pages import pages_routes
from service.routes.predict import predict_routes
from service.routes.problem_pages import problem_pages_routes
from service.routes.prometheus import prometheus_routes
from service.routes.stream import stream_routes
from service.routes.tensorflow_serving import tensorflow_serving_routes
from service.settings import Settings
from service.telemetry import middleware
from service.telemetry.logs import access_logger
from service.telemetry.metrics import Metrics
from service.telemetry.multiprocess import worker_index
from service.telemetry.prediction_log import PredictionLog
from service.worker_board import WorkerBoard


class AsciiInteger(IntegerConverter):
    """A number in a path: Werkzeug's own reads the digits of every script."""

    regex = "[0-9]+"


def create_app(
    settings: Settings,
    load: Load = Artifact.load,
    board: WorkerBoard | None = None,
    active: Callable[[], int] = lambda: 0,
) -> Flask:
    """Create the WSGI application. It answers queries after `load_models`. `board` is that of the workers, and `active`
    returns the generation of versions that all of them serve."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a path with a double slash gets 404 and no redirect
    app.url_map.converters["int"] = AsciiInteger
    metrics = app.extensions["metrics"] = Metrics(board)
    repository = app.extensions["repository"] = Repository(settings, load, metrics, active)
    # The body that names the model is not read yet: a refusal counts as one of the default model.
    large = LargeRequests(settings, lambda problem: repository.find().observer.failed(problem))
    observers = app.extensions["request_observers"] = [metrics.observe_request, large.leave]
    if settings.access_log:
        observers.append(access_logger())
    log = None
    if settings.prediction_log:
        log = PredictionLog(Path(settings.prediction_log), worker_index(), metrics.predictions_dropped).add
    middleware.register(app, observers, large.enter, log)
    problem_details.register(app)
    cors.register(app, settings.cors_origins)
    app.register_blueprint(predict_routes(repository, settings))
    app.register_blueprint(stream_routes(repository, settings))
    app.register_blueprint(explain_routes(repository, settings))
    app.register_blueprint(models_routes(repository, settings))
    app.register_blueprint(health_routes(repository))
    app.register_blueprint(prometheus_routes(metrics))
    app.register_blueprint(tensorflow_serving_routes(repository, settings))
    app.register_blueprint(open_inference_routes(repository, settings))
    app.register_blueprint(pages_routes(repository))
    app.register_blueprint(docs_routes(repository, settings))
    app.register_blueprint(problem_pages_routes(repository))
    return app


def load_models(app: Flask, catalog: Catalog) -> bool:
    """Load the models of an application. Returns whether they could be loaded."""
    with capture_stderr():
        loaded: bool = app.extensions["repository"].load(catalog)
    return loaded
