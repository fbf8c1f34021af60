"""One version: load, warm, predict, decode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from service.errors import BrokenArtifact
from service.models.metadata import DECODING, LITE, Metadata, verify

LOWEST = np.finfo(np.float32).min


class Prediction(NamedTuple):
    """What the network said to one query.

    `probabilities` is float32 [T, V], a row for each character there is room for; those behind the end mean nothing.
    `confidence` is the product of the probabilities of the answer's characters, and of its end where there is room.
    """

    answer: str
    confidence: float
    probabilities: npt.NDArray[np.float32]

    @property
    def steps(self) -> npt.NDArray[np.float32]:
        """The rows that mean something: those of the answer's characters, and of its end where there is room."""
        return self.probabilities[: len(self.answer) + 1]


class Artifact:
    """A loaded version, warm at every batch size, as LiteRT runs it: beside the SavedModel's own signature it takes
    less at every size (tests/benchmarks/TRIED.md)."""

    def __init__(
        self,
        metadata: Metadata,
        networks: dict[int, "_Network"],
        decoding: Interpreter,
        sha256: str,
        signature_def: dict[str, Any],
    ) -> None:
        self.metadata = metadata
        self.sha256 = sha256
        self.signature_def = signature_def
        self._networks = networks  # by batch size, ascending
        # Their memory (6 MB) is laid out when they are first called.
        self._encode = decoding.get_signature_runner("encode_bytes")
        self._decode_step = decoding.get_signature_runner("decode_step")
        self._k_best = decoding.get_signature_runner("k_best_bytes")
        self._query_length = int(self._encode.get_input_details()["query"]["shape"][1])
        self._answer_length = int(self._k_best.get_output_details()["answers"]["shape_signature"][2])

    @classmethod
    def load(cls, folder: Path, signature_def: dict[str, Any] | None = None) -> Self:
        """Verify, load and warm the version in `folder`, and ask it its golden queries. `signature_def` is that of the
        SavedModel's `serving_default`, where somebody has read it.

        Raises BrokenArtifact.
        """
        metadata, sha256 = verify(folder)
        try:
            # Not by its path: LiteRT maps a file, and one that is written over then kills the process.
            lite = (folder / LITE).read_bytes()
            networks = {size: _Network(lite, size) for size in metadata.batch_sizes}
            decoding = Interpreter(model_content=(folder / DECODING).read_bytes(), num_threads=1)
            artifact = cls(metadata, networks, decoding, sha256, signature_def or {})
            for size in metadata.batch_sizes:
                artifact.predict([metadata.query_example] * size)
            predictions = [artifact.predict([golden.query])[0] for golden in metadata.golden]
        except Exception as error:
            raise BrokenArtifact(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:200]}") from error
        if predictions[0].probabilities.shape[-1] != len(metadata.alphabet):
            raise BrokenArtifact(f"{folder} has an alphabet of another size than the characters of its network")
        for golden, prediction in zip(metadata.golden, predictions, strict=True):
            spelled = "".join(metadata.alphabet[token] for token in prediction.probabilities.argmax(-1))
            if not spelled.startswith(prediction.answer):
                raise BrokenArtifact(f"{folder} has an alphabet in another order than its network")
            if golden.answer != prediction.answer:
                raise BrokenArtifact(
                    f"{folder} answers {golden.query} with {prediction.answer!r}, at its export with {golden.answer!r}"
                )
        return artifact

    def predict(self, queries: list[str]) -> list[Prediction]:
        """One prediction for each query, in order, by one call of the network for the next batch size.

        Raises ValueError where there are more than `batch_sizes[-1]`.
        """
        for size, network in self._networks.items():
            if size >= len(queries):
                return network(queries)
        raise ValueError(f"{len(queries)} queries are more than one call answers")

    def decode(self, query: str) -> Iterator[npt.NDArray[np.float32]]:
        """The probabilities [V] of one character after the other, each given before the next is asked for: the most
        probable character of each makes the answer, up to the end " ", which comes too where there is room."""
        state = self._encode(query=_spelling([query], 1, self._query_length))["state"]
        end = self.metadata.alphabet.index(" ")
        previous = np.array([end], np.int32)
        for _ in range(self._answer_length):
            returned = self._decode_step(state=state, previous=previous)
            state, probabilities = returned["state"], returned["probabilities"]
            yield probabilities[0]
            previous = probabilities.argmax(-1).astype(np.int32)
            if previous == end:
                return

    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        """The `k` most probable answers, or as many as there are, with their probabilities, best first."""
        returned = self._k_best(query=_spelling([query], 1, self._query_length), k=np.int32(k))
        totals, answers = returned["log_probabilities"][0], returned["answers"][0]
        there = totals > LOWEST  # no more answers: minus infinity, which the converter writes as the lowest float
        spelled = [answer.tobytes().decode("ascii").rstrip() for answer in answers[there]]
        return list(zip(spelled, np.exp(totals[there]).tolist(), strict=True))


class _Network:
    """The network for batches of one size: memory for it is laid out once."""

    def __init__(self, lite: bytes, size: int) -> None:
        self._interpreter = Interpreter(model_content=lite, num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        query, outputs = signature.get_input_details()["query"], signature.get_output_details()
        self._query, self._length = query["index"], int(query["shape"][1])
        self._outputs = [outputs[name]["index"] for name in Prediction._fields]
        del signature  # nothing may refer to an interpreter that is resized
        self._size = size
        self._interpreter.resize_tensor_input(self._query, [size, self._length])
        self._interpreter.allocate_tensors()

    def __call__(self, queries: list[str]) -> list[Prediction]:
        """What is padded to the size is dropped again."""
        self._interpreter.set_tensor(self._query, _spelling(queries, self._size, self._length))
        self._interpreter.invoke()
        answers, confidence, probabilities = [self._interpreter.get_tensor(index) for index in self._outputs]
        length, text = answers.shape[1], answers.tobytes().decode("ascii")
        spelled = [text[start : start + length].rstrip() for start in range(0, len(queries) * length, length)]
        return list(map(Prediction, spelled, confidence.tolist(), probabilities))


def _spelling(queries: list[str], rows: int, length: int) -> npt.NDArray[np.uint8]:
    """uint8 [rows, length]: each query padded with spaces, and rows of spaces behind them."""
    padded = "".join([query.ljust(length) for query in queries]).ljust(rows * length)
    return np.frombuffer(padded.encode("ascii"), np.uint8).reshape(rows, length)
