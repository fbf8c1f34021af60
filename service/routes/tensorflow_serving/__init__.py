"""TensorFlow Serving's REST API (its g3doc/api_rest.md), with its own schemas and error messages.

Every call of a model goes through rest.inference.
"""

from service.routes.tensorflow_serving.endpoints import tensorflow_serving_routes

__all__ = ["tensorflow_serving_routes"]
