"""TensorFlow Serving's REST API (its g3doc/api_rest.md), with its own schemas and its own error sentences.

Nothing here calls a model past rest.inference.
"""

from service.routes.tensorflow_serving.endpoints import tensorflow_serving_routes

__all__ = ["tensorflow_serving_routes"]
