"""LiteRT: runs a version's .tflite files."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from service.models.engines.engine import Engine, EngineName, Floats, Tokens
from service.models.engines.model_output import ModelOutput
from service.models.metadata import DECODE_FILE, PREDICT_FILE, Metadata

LOWEST = np.finfo(np.float32).min


class LiteRTEngine(Engine):
    """A version's model for each of its batch sizes, and its decoder.

    LiteRT takes less time than the SavedModel's own signature at every batch size (tests/benchmarks/TRIED.md).
    """

    name: ClassVar[EngineName] = "litert"

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        """Raises LiteRT's errors for a bad file."""
        super().__init__(folder, metadata)
        # Read, not opened by path: LiteRT maps a file, and a file that is overwritten then kills the process.
        model = (folder / PREDICT_FILE).read_bytes()
        self._models = {size: _FixedBatchModel(model, size) for size in metadata.batch_sizes}
        decoder = Interpreter(model_content=(folder / DECODE_FILE).read_bytes(), num_threads=1)
        # LiteRT allocates their tensors (6 MB) at the first call.
        self._encode = decoder.get_signature_runner("encode_bytes")
        self._decode_step = decoder.get_signature_runner("decode_step")
        self._k_best = decoder.get_signature_runner("k_best_bytes")
        self._query_length = int(self._encode.get_input_details()["query"]["shape"][1])
        self.answer_length = int(self._k_best.get_output_details()["answers"]["shape_signature"][2])

    def _predict(self, queries: list[str], batch_size: int) -> list[ModelOutput]:
        answers, confidence, probabilities = self._models[batch_size](self._bytes(queries, batch_size))
        length, end, text = answers.shape[1], self._end, answers.tobytes().decode("ascii")
        texts = [text[start : start + length].rstrip(end) for start in range(0, len(queries) * length, length)]
        return list(map(ModelOutput, texts, confidence.tolist(), probabilities))

    def encode(self, queries: list[str]) -> Floats:
        """Return the decoder's first state for each query: [B, S]."""
        state: Floats = self._encode(query=self._bytes(queries, len(queries)))["state"]
        return state

    def decode_step(self, state: Floats, previous: Tokens) -> tuple[Floats, Floats]:
        """Decode one character, as `Engine.decode_step` describes."""
        returned = self._decode_step(state=state, previous=previous)
        return returned["probabilities"], returned["state"]

    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return up to `k` of the most probable answers with their probabilities, the best first."""
        returned = self._k_best(query=self._bytes([query], 1), k=np.int32(k))
        totals, answers = returned["log_probabilities"][0], returned["answers"][0]
        # The converter replaces minus infinity, which marks an answer that does not exist, by the lowest float32.
        found = totals > LOWEST
        texts = [answer.tobytes().decode("ascii").rstrip(self._end) for answer in answers[found]]
        return list(zip(texts, np.exp(totals[found]).tolist(), strict=True))

    def _bytes(self, queries: list[str], rows: int) -> npt.NDArray[np.uint8]:
        """uint8 [rows, query length]: the bytes of each query, padded, and rows of padding behind them."""
        length, end = self._query_length, self._end
        padded = "".join([query.ljust(length, end) for query in queries]).ljust(rows * length, end)
        return np.frombuffer(padded.encode("ascii"), np.uint8).reshape(rows, length)


class _FixedBatchModel:
    """The model with its tensors allocated once, for batches of one size."""

    def __init__(self, model: bytes, size: int) -> None:
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        query, outputs = signature.get_input_details()["query"], signature.get_output_details()
        self._query = query["index"]
        self._outputs = [outputs[name]["index"] for name in ModelOutput._fields]
        del signature  # LiteRT refuses to resize an interpreter that something refers to
        self._interpreter.resize_tensor_input(self._query, [size, int(query["shape"][1])])
        self._interpreter.allocate_tensors()

    def __call__(self, queries: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.generic]]:
        """Return the tensors of ModelOutput's fields, in their order."""
        self._interpreter.set_tensor(self._query, queries)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]
