"""LiteRT: runs a version's .tflite files, and answers all requests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from service.models.engines.model_output import ModelOutput
from service.models.metadata import DECODE_FILE, PREDICT_FILE

LOWEST = np.finfo(np.float32).min


class LiteRTEngine:
    """A version's model for each of its batch sizes, and its decoder.

    LiteRT takes less time than the SavedModel's own signature at every batch size (tests/benchmarks/TRIED.md).
    """

    def __init__(self, folder: Path, batch_sizes: list[int], end: int) -> None:
        """`batch_sizes` ascend; `end` is the token that ends an answer. Raises LiteRT's errors for a bad file."""
        # Read, not opened by path: LiteRT maps a file, and a file that is overwritten then kills the process.
        model = (folder / PREDICT_FILE).read_bytes()
        self._models = {size: _FixedBatchModel(model, size) for size in batch_sizes}
        decoder = Interpreter(model_content=(folder / DECODE_FILE).read_bytes(), num_threads=1)
        # LiteRT allocates their tensors (6 MB) at the first call.
        self._encode = decoder.get_signature_runner("encode_bytes")
        self._decode_step = decoder.get_signature_runner("decode_step")
        self._k_best = decoder.get_signature_runner("k_best_bytes")
        self._query_length = int(self._encode.get_input_details()["query"]["shape"][1])
        self._answer_length = int(self._k_best.get_output_details()["answers"]["shape_signature"][2])
        self._end = end

    def predict(self, queries: list[str]) -> list[ModelOutput]:
        """Return one output for each query, in order, by one call of the model with the smallest sufficient batch size.

        Raises ValueError for more queries than the largest batch size.
        """
        for size, model in self._models.items():
            if size >= len(queries):
                return model(queries)
        raise ValueError(f"{len(queries)} queries are more than the largest batch size")

    def decode(self, query: str) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the probabilities, float32 [V], of one character after the other; each is computed on demand.

        The most probable character of each step makes the answer. The last step is the end, if the answer has room for
        it.
        """
        state = self._encode(query=_encoded([query], 1, self._query_length))["state"]
        previous = np.array([self._end], np.int32)
        for _ in range(self._answer_length):
            returned = self._decode_step(state=state, previous=previous)
            state, probabilities = returned["state"], returned["probabilities"]
            yield probabilities[0]
            previous = probabilities.argmax(-1).astype(np.int32)
            if previous == self._end:
                return

    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return up to `k` of the most probable answers with their probabilities, the best first."""
        returned = self._k_best(query=_encoded([query], 1, self._query_length), k=np.int32(k))
        totals, answers = returned["log_probabilities"][0], returned["answers"][0]
        # The converter replaces minus infinity, which marks an answer that does not exist, by the lowest float32.
        found = totals > LOWEST
        texts = [answer.tobytes().decode("ascii").rstrip() for answer in answers[found]]
        return list(zip(texts, np.exp(totals[found]).tolist(), strict=True))


class _FixedBatchModel:
    """The model with its tensors allocated once, for batches of one size."""

    def __init__(self, model: bytes, size: int) -> None:
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        query, outputs = signature.get_input_details()["query"], signature.get_output_details()
        self._query, self._length = query["index"], int(query["shape"][1])
        self._outputs = [outputs[name]["index"] for name in ModelOutput._fields]
        del signature  # LiteRT refuses to resize an interpreter that something refers to
        self._size = size
        self._interpreter.resize_tensor_input(self._query, [size, self._length])
        self._interpreter.allocate_tensors()

    def __call__(self, queries: list[str]) -> list[ModelOutput]:
        """Pad the batch, run the model, and drop the padding."""
        self._interpreter.set_tensor(self._query, _encoded(queries, self._size, self._length))
        self._interpreter.invoke()
        answers, confidence, probabilities = [self._interpreter.get_tensor(index) for index in self._outputs]
        length, text = answers.shape[1], answers.tobytes().decode("ascii")
        texts = [text[start : start + length].rstrip() for start in range(0, len(queries) * length, length)]
        return list(map(ModelOutput, texts, confidence.tolist(), probabilities))


def _encoded(queries: list[str], rows: int, length: int) -> npt.NDArray[np.uint8]:
    """uint8 [rows, length]: the bytes of each query, padded with spaces, and rows of spaces behind them."""
    padded = "".join([query.ljust(length) for query in queries]).ljust(rows * length)
    return np.frombuffer(padded.encode("ascii"), np.uint8).reshape(rows, length)
