"""The interface of an engine, and what all engines have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from service.models.engines.model_output import ModelOutput
from service.models.metadata import Metadata

EngineName = Literal["litert", "saved_model"]
Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]


class Engine(ABC):
    """Runs the model of one version. B is the batch, S the size of the decoder's state, V that of the alphabet.

    `answer_length` is the number of characters that an answer has room for.
    """

    name: ClassVar[EngineName]
    answer_length: int

    def __init__(self, _folder: Path, metadata: Metadata) -> None:
        """Subclasses load the model from the folder. They raise the errors of their library for a bad file."""
        self._batch_sizes = metadata.batch_sizes
        self._end, self._end_token = metadata.task.end, metadata.task.end_token

    def predict(self, queries: list[str]) -> list[ModelOutput]:
        """Return one output for each query, in order, by one call of the model with the smallest sufficient batch size.

        Raises ValueError for more queries than the largest batch size.
        """
        for size in self._batch_sizes:
            if size >= len(queries):
                return self._predict(queries, size)
        raise ValueError(f"{len(queries)} queries are more than the largest batch size")

    @abstractmethod
    def _predict(self, queries: list[str], batch_size: int) -> list[ModelOutput]:
        """Pad the batch to `batch_size`, run the model, and drop the padding."""

    @abstractmethod
    def encode(self, queries: list[str]) -> Floats:
        """Return the decoder's first state for each query: [B, S]."""

    @abstractmethod
    def decode_step(self, state: Floats, previous: Tokens) -> tuple[Floats, Floats]:
        """Decode one character: from the state, [B, S], and the previous character, [B], return the probabilities of
        the character, [B, V], and the next state. The end of an answer precedes its first character."""

    @abstractmethod
    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return up to `k` of the most probable answers with their probabilities, the best first."""

    def states(self, query: str, answer: Tokens) -> Floats:
        """Return the decoder's first state, and its state after each character of the answer: [T] -> [1 + T, S]."""
        states = [self.encode([query])]
        for previous in [self._end_token, *answer[:-1].tolist()]:
            _, state = self.decode_step(states[-1], np.array([previous], np.int32))
            states.append(state)
        return np.concatenate(states)

    def decode(self, query: str) -> Iterator[Floats]:
        """Yield the probabilities, [V], of one character after the other; each is computed on demand.

        The most probable character of each step makes the answer. The last step is the end, if the answer has room for
        it.
        """
        state, previous = self.encode([query]), np.array([self._end_token], np.int32)
        for _ in range(self.answer_length):
            probabilities, state = self.decode_step(state, previous)
            yield probabilities[0]
            previous = probabilities.argmax(-1).astype(np.int32)
            if previous == self._end_token:
                return
