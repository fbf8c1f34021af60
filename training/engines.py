"""The engines that run an exported network: TensorFlow on the SavedModel, and LiteRT."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from training.tasks import Task
from training.tasks.task import Texts

SERVING, DECODING = "serving_bytes.tflite", "decoding.tflite"
# Two files, because an interpreter allocates memory for every signature of its file, and a service has one interpreter
# of SERVING for each batch size. In addition, LiteRT can resize only the first signature of a file.
SIGNATURES = {SERVING: ["serving_bytes"], DECODING: ["encode_bytes", "decode_step", "k_best_bytes"]}

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Predictions(NamedTuple):
    """Answers, bytes [B]; probabilities, float32 [B, T, V]; confidence, float32 [B]."""

    answers: Texts
    probabilities: Floats
    confidence: Floats


class Engine(ABC):
    """Runs the network of an artifact, on queries of the form bytes [B]. S is the size of the decoder's state."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @abstractmethod
    def predict(self, queries: Texts) -> Predictions:
        """Answer queries by one call."""

    @abstractmethod
    def encode(self, queries: Texts) -> Floats:
        """Return the decoder's first states, [B, S]."""

    @abstractmethod
    def decode_step(self, state: Floats, previous: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
        """States [B, S] and previous characters [B] -> probabilities [B, V] and the next states."""

    @abstractmethod
    def k_best(self, queries: Texts, k: int) -> tuple[Texts, Floats]:
        """Return the k most probable answers, bytes [B, k], and their log-probabilities, [B, k], in descending order.
        An answer that does not exist has minus infinity, or the lowest float32."""

    def decode(self, queries: Texts) -> Floats:
        """Decode step by step: probabilities [B, T, V]. The most probable character of a step is the previous one of
        the next."""
        state, previous, steps = self.encode(queries), np.full(len(queries), self._task.end_token, np.int32), []
        for _ in range(self._task.answer_length):
            probabilities, state = self.decode_step(state, previous)
            previous = probabilities.argmax(-1).astype(np.int32)
            steps.append(probabilities)
        return np.stack(steps, axis=1)


class SavedModelEngine(Engine):
    """The signatures of the SavedModel in a folder."""

    def __init__(self, folder: Path, task: Task) -> None:
        super().__init__(task)
        self._signatures = tf.saved_model.load(str(folder)).signatures

    def predict(self, queries: Texts) -> Predictions:
        """Answer queries by `serving_default`, which XLA compiles once for each number of queries."""
        outputs = self._call("serving_default", query=queries)
        return Predictions(outputs["answer"].astype("S"), outputs["probabilities"], outputs["confidence"])

    def encode(self, queries: Texts) -> Floats:
        """Return the decoder's first states, [B, S]."""
        state: Floats = self._call("encode", query=queries)["state"]
        return state

    def decode_step(self, state: Floats, previous: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
        """States [B, S] and previous characters [B] -> probabilities [B, V] and the next states."""
        outputs = self._call("decode_step", state=state, previous=previous)
        return outputs["probabilities"], outputs["state"]

    def k_best(self, queries: Texts, k: int) -> tuple[Texts, Floats]:
        """Return the k most probable answers, as `Engine.k_best` describes."""
        outputs = self._call("k_best", query=queries, k=np.int32(k))
        return outputs["answers"].astype("S"), outputs["log_probabilities"]

    def _call(self, signature: str, **inputs: Any) -> dict[str, Any]:
        returned = self._signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: output.numpy() for name, output in returned.items()}


class LiteRTEngine(Engine):
    """The LiteRT files in a folder."""

    def __init__(self, folder: Path, task: Task) -> None:
        super().__init__(task)
        self._serving = Interpreter(str(folder / SERVING), num_threads=1)
        signature = self._serving.get_signature_runner("serving_bytes")
        self._query = signature.get_input_details()["query"]["index"]
        self._outputs = {name: output["index"] for name, output in signature.get_output_details().items()}
        del signature  # an interpreter cannot be resized while a signature runner refers to it
        self._batch_size = 0
        decoding = Interpreter(str(folder / DECODING), num_threads=1)
        self._decoding = {name: decoding.get_signature_runner(name) for name in SIGNATURES[DECODING]}

    def predict(self, queries: Texts) -> Predictions:
        """Answer queries by one call, and allocate tensors if their number changes."""
        if self._batch_size != len(queries):
            self._batch_size = len(queries)
            self._serving.resize_tensor_input(self._query, [self._batch_size, self._task.query_length])
            self._serving.allocate_tensors()
        self._serving.set_tensor(self._query, self._padded(queries))
        self._serving.invoke()
        outputs = {name: self._serving.get_tensor(index) for name, index in self._outputs.items()}
        return Predictions(self._stripped(outputs["answer"]), outputs["probabilities"], outputs["confidence"])

    def encode(self, queries: Texts) -> Floats:
        """Return the decoder's first states, [B, S]."""
        state: Floats = self._decoding["encode_bytes"](query=self._padded(queries))["state"]
        return state

    def decode_step(self, state: Floats, previous: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
        """States [B, S] and previous characters [B] -> probabilities [B, V] and the next states."""
        outputs = self._decoding["decode_step"](state=state, previous=previous)
        return outputs["probabilities"], outputs["state"]

    def k_best(self, queries: Texts, k: int) -> tuple[Texts, Floats]:
        """Return the k most probable answers, as `Engine.k_best` describes."""
        outputs = self._decoding["k_best_bytes"](query=self._padded(queries), k=np.int32(k))
        return self._stripped(outputs["answers"]), outputs["log_probabilities"]

    def _padded(self, queries: Texts) -> Bytes:
        """Bytes [B] -> uint8 [B, Q], padded on the right."""
        length = self._task.query_length
        return np.char.ljust(queries, length, self._task.end).astype(f"S{length}").view(np.uint8).reshape(-1, length)

    def _stripped(self, answers: Bytes) -> Texts:
        """uint8 [..., T], padded on the right -> bytes [...]."""
        texts = np.ascontiguousarray(answers).view(f"S{answers.shape[-1]}")[..., 0]
        stripped: Texts = np.char.rstrip(texts, self._task.end.encode())
        return stripped


def has_litert_files(folder: Path) -> bool:
    """Return whether the folder has all LiteRT files."""
    return all((folder / file).exists() for file in SIGNATURES)
