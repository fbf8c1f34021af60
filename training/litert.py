"""The LiteRT forms of an artifact's network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from training import task

SERVING, DECODING = "serving_bytes.tflite", "decoding.tflite"
# Two files, because an interpreter allocates memory for every signature of its file, and a service has one interpreter
# of SERVING for each batch size. In addition, LiteRT can resize only the first signature of a file.
SIGNATURES = {SERVING: ["serving_bytes"], DECODING: ["encode_bytes", "decode_step", "k_best_bytes"]}

Floats = npt.NDArray[np.float32]
Signature = Callable[..., dict[str, npt.NDArray[np.generic]]]


class LiteRTModel:
    """The signature `serving_bytes` of an artifact, for batches of one size."""

    def __init__(self, artifact: Path, batch_size: int) -> None:
        self._interpreter = Interpreter(str(artifact / SERVING), num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        self._query = signature.get_input_details()["query"]["index"]
        self._outputs = {name: output["index"] for name, output in signature.get_output_details().items()}
        del signature  # an interpreter cannot be resized while a signature runner refers to it
        self._interpreter.resize_tensor_input(self._query, [batch_size, task.QUERY_LENGTH])
        self._interpreter.allocate_tensors()

    def predict(self, queries: task.Texts) -> tuple[task.Texts, Floats, Floats]:
        """Bytes [B] -> answers, bytes [B]; probabilities, float32 [B, T, V]; confidence, float32 [B]."""
        self._interpreter.set_tensor(self._query, padded_bytes(queries))
        self._interpreter.invoke()
        outputs = {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
        return strip_padding(outputs["answer"]), outputs["probabilities"], outputs["confidence"]


def decoding_signatures(artifact: Path) -> dict[str, Signature]:
    """Load the signatures of DECODING, by name, for batches of any size."""
    interpreter = Interpreter(str(artifact / DECODING), num_threads=1)
    return {name: interpreter.get_signature_runner(name) for name in SIGNATURES[DECODING]}


def padded_bytes(queries: task.Texts) -> npt.NDArray[np.uint8]:
    """Bytes [B] -> uint8 [B, 7], padded on the right with spaces."""
    padded = np.char.ljust(queries, task.QUERY_LENGTH).astype(f"S{task.QUERY_LENGTH}")
    return padded.view(np.uint8).reshape(-1, task.QUERY_LENGTH)


def strip_padding(answers: npt.NDArray[np.uint8]) -> task.Texts:
    """uint8 [..., T], padded on the right with spaces -> bytes [...]."""
    return np.char.rstrip(np.ascontiguousarray(answers).view(f"S{answers.shape[-1]}")[..., 0])
