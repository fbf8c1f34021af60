"""The Open Inference Protocol V2 (KServe, Triton), with its own schemas and binary tensors.

Every call of a model goes through rest.inference.
"""

from service.routes.open_inference.endpoints import open_inference_routes

__all__ = ["open_inference_routes"]
