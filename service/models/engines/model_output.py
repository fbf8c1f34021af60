"""The output of a model for one query."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ModelOutput(NamedTuple):
    """The answer, its confidence, and the probabilities it was decoded from.

    `probabilities` is float32 [T, V], a row for each character that an answer has room for; rows behind the end have no
    meaning. `confidence` is the product of the probabilities of the answer's characters, and of the end if the answer
    has room for it.
    """

    answer: str
    confidence: float
    probabilities: npt.NDArray[np.float32]

    @property
    def steps(self) -> npt.NDArray[np.float32]:
        """The rows up to the end of the answer: float32 [T', V], with T' at most T."""
        return self.probabilities[: len(self.answer) + 1]
