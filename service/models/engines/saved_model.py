"""TensorFlow: runs a version's SavedModel, the source of its LiteRT files.

Only the check at the start imports TensorFlow: it takes seconds and half a gigabyte, and serving needs neither.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class SavedModelEngine:
    """The signatures of a SavedModel."""

    def __init__(self, folder: Path, end: int) -> None:
        """`end` is the token that ends an answer. Raises TensorFlow's errors for a bad file."""
        import tensorflow as tf

        self._tf = tf
        self._folder = folder
        self._end = end
        # TensorFlow reads the path of the variables as a pattern, in which `[` and `\\` have a meaning.
        with TemporaryDirectory() as plain:
            link = Path(plain) / "saved_model"
            link.symlink_to(folder.absolute())
            self._signatures = tf.saved_model.load(str(link)).signatures

    def decode(self, queries: list[str]) -> Floats:
        """The probabilities, float32 [B, T, V], of the most probable characters, decoded one step after the other."""
        tf, signatures = self._tf, self._signatures
        length = signatures["serving_default"].structured_outputs["probabilities"].shape[1]
        state = signatures["encode"](query=tf.constant(queries))["state"]
        previous, steps = tf.constant([self._end] * len(queries)), []
        for _ in range(length):
            returned = signatures["decode_step"](state=state, previous=previous)
            state, probabilities = returned["state"], returned["probabilities"]
            previous = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
            steps.append(probabilities.numpy())
        return np.stack(steps, axis=1)

    def k_best(self, queries: list[str], k: int) -> Floats:
        """The probabilities, float32 [B, k], of the `k` best answers; 0 for an answer that does not exist."""
        tf = self._tf
        returned = self._signatures["k_best"](query=tf.constant(queries), k=tf.constant(k))
        probabilities: Floats = np.exp(returned["log_probabilities"].numpy())
        return probabilities

    def signature_def(self) -> dict[str, Any]:
        """The SignatureDef of `serving_default`, as protobuf writes it in JSON."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        [graph] = SavedModel.FromString((self._folder / "saved_model.pb").read_bytes()).meta_graphs
        # With empty fields, as TensorFlow Serving returns it.
        signature: dict[str, Any] = MessageToDict(
            graph.signature_def["serving_default"],
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return signature
