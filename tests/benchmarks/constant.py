"""gunicorn's configuration for this service with a constant answer in place of the network and its batches."""

import numpy as np

from service.gunicorn_conf import *  # noqa: F403  gunicorn reads the names of this module
from service.models import repository
from service.models.artifact import Prediction
from service.models.batcher import Answered, Batcher

_PREDICTION = Prediction("579", 1.0, np.zeros((4, 12), np.float32))


class _Constant(Batcher):
    def predict(self, queries: list[str], *_: object) -> Answered:
        return Answered([_PREDICTION] * len(queries), 0.0, 0.0, len(queries))


repository.Batcher = _Constant  # type: ignore[attr-defined]
