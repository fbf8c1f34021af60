"""The Open Inference Protocol V2 (KServe, Triton), with its own schemas and binary tensors.

Nothing here calls a model past rest.inference.
"""

from service.routes.open_inference.endpoints import open_inference_routes

__all__ = ["open_inference_routes"]
