"""The client of a running service. Requires only requests and pydantic.

Nothing here imports another package of this repository.
"""

from service.client.client import (
    DEFAULT_URL,
    BatchOptions,
    Client,
    ClientError,
    HTTPStatusError,
    InvalidURL,
    ModelSelector,
    PredictOptions,
    TransportError,
)
from service.client.types import (
    Alternative,
    Character,
    Explanation,
    FieldError,
    Layers,
    ModelEntry,
    ModelVersion,
    Prediction,
    Problem,
    RunnerUp,
)

__all__ = [
    "DEFAULT_URL",
    "Alternative",
    "BatchOptions",
    "Character",
    "Client",
    "ClientError",
    "Explanation",
    "FieldError",
    "HTTPStatusError",
    "InvalidURL",
    "Layers",
    "ModelEntry",
    "ModelSelector",
    "ModelVersion",
    "PredictOptions",
    "Prediction",
    "Problem",
    "RunnerUp",
    "TransportError",
]
