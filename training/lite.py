"""An artifact's network as LiteRT runs it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from training import task

FILE = "serving_bytes.tflite"

Floats = npt.NDArray[np.float32]


class Lite:
    """It, for batches of one size."""

    def __init__(self, artifact: Path, size: int) -> None:
        self._interpreter = Interpreter(str(artifact / FILE), num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        self._query = signature.get_input_details()["query"]["index"]
        self._outputs = {name: output["index"] for name, output in signature.get_output_details().items()}
        del signature  # nothing may refer to an interpreter that is resized
        self._shape = [size, task.QUERY_LENGTH]
        self._interpreter.resize_tensor_input(self._query, self._shape)
        self._interpreter.allocate_tensors()

    def __call__(self, queries: task.Texts) -> tuple[task.Texts, Floats, Floats]:
        """Bytes [size] -> answers, bytes [size]; probabilities [size, T, V]; confidence [size]."""
        padded = np.char.ljust(queries, task.QUERY_LENGTH).astype(f"S{task.QUERY_LENGTH}")
        self._interpreter.set_tensor(self._query, padded.view(np.uint8).reshape(self._shape))
        self._interpreter.invoke()
        returned = {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
        spelling = returned["answer"]
        answers = np.char.rstrip(spelling.view(f"S{spelling.shape[1]}").ravel())
        return answers, returned["probabilities"], returned["confidence"]
