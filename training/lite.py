"""An artifact's network as LiteRT runs it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from training import task

FILE, DECODING = "serving_bytes.tflite", "decoding.tflite"
# An interpreter lays out memory for every signature of its file, and whoever answers has one for each batch size: what
# decodes step by step is a file of its own. Nor would LiteRT resize any signature but the first of a file.
SIGNATURES = {FILE: ["serving_bytes"], DECODING: ["encode_bytes", "decode_step", "k_best_bytes"]}

Floats = npt.NDArray[np.float32]
Signature = Callable[..., dict[str, npt.NDArray[np.generic]]]


class Lite:
    """It, for batches of one size."""

    def __init__(self, artifact: Path, size: int) -> None:
        self._interpreter = Interpreter(str(artifact / FILE), num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        self._query = signature.get_input_details()["query"]["index"]
        self._outputs = {name: output["index"] for name, output in signature.get_output_details().items()}
        del signature  # nothing may refer to an interpreter that is resized
        self._interpreter.resize_tensor_input(self._query, [size, task.QUERY_LENGTH])
        self._interpreter.allocate_tensors()

    def __call__(self, queries: task.Texts) -> tuple[task.Texts, Floats, Floats]:
        """Bytes [size] -> answers, bytes [size]; probabilities [size, T, V]; confidence [size]."""
        self._interpreter.set_tensor(self._query, spelling(queries))
        self._interpreter.invoke()
        returned = {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
        return texts(returned["answer"]), returned["probabilities"], returned["confidence"]


def decoding_signatures(artifact: Path) -> dict[str, Signature]:
    """Those of DECODING by name, for batches of any size."""
    interpreter = Interpreter(str(artifact / DECODING), num_threads=1)
    return {name: interpreter.get_signature_runner(name) for name in SIGNATURES[DECODING]}


def spelling(queries: task.Texts) -> npt.NDArray[np.uint8]:
    """Bytes [B] -> uint8 [B, 7], padded with spaces."""
    padded = np.char.ljust(queries, task.QUERY_LENGTH).astype(f"S{task.QUERY_LENGTH}")
    return padded.view(np.uint8).reshape(-1, task.QUERY_LENGTH)


def texts(answers: npt.NDArray[np.uint8]) -> task.Texts:
    """uint8 [..., T], padded with spaces -> bytes [...]."""
    return np.char.rstrip(np.ascontiguousarray(answers).view(f"S{answers.shape[-1]}")[..., 0])
