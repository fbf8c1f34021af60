"""TensorFlow: runs a version's SavedModel, the source of its LiteRT files.

TensorFlow takes seconds to import and half a gigabyte. Where LiteRT answers, only the check at the start imports it.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from service.models.engines.engine import Engine, EngineName, Floats, Tokens
from service.models.engines.model_output import ModelOutput
from service.models.metadata import Metadata


class SavedModelEngine(Engine):
    """The signatures of a SavedModel. Each batch size is compiled by XLA at its first call."""

    name: ClassVar[EngineName] = "saved_model"

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        """Raises TensorFlow's errors for a bad file."""
        super().__init__(folder, metadata)
        # oneDNN writes to stderr at any log level unless it is off.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        import tensorflow as tf

        self._tensor = tf.constant
        # TensorFlow reads the path of the variables as a pattern, in which `[` and `\\` have a meaning.
        with TemporaryDirectory() as plain:
            link = Path(plain) / "saved_model"
            link.symlink_to(folder.absolute())
            self._signatures = tf.saved_model.load(str(link)).signatures
        outputs = self._signatures["serving_default"].structured_outputs
        self.answer_length = int(outputs["probabilities"].shape[1])

    def _predict(self, queries: list[str], batch_size: int) -> list[ModelOutput]:
        padded = queries + queries[:1] * (batch_size - len(queries))
        returned = self._signatures["serving_default"](query=self._tensor(padded))
        answers, confidence, probabilities = [returned[name].numpy() for name in ModelOutput._fields]
        texts = [answer.decode("ascii") for answer in answers[: len(queries)].tolist()]
        return list(map(ModelOutput, texts, confidence.tolist(), probabilities))

    def encode(self, queries: list[str]) -> Floats:
        """Return the decoder's first state for each query: [B, S]."""
        state: Floats = self._signatures["encode"](query=self._tensor(queries))["state"].numpy()
        return state

    def decode_step(self, state: Floats, previous: Tokens) -> tuple[Floats, Floats]:
        """Decode one character, as `Engine.decode_step` describes."""
        returned = self._signatures["decode_step"](state=self._tensor(state), previous=self._tensor(previous))
        return returned["probabilities"].numpy(), returned["state"].numpy()

    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return up to `k` of the most probable answers with their probabilities, the best first."""
        returned = self._signatures["k_best"](query=self._tensor([query]), k=self._tensor(k))
        totals, answers = returned["log_probabilities"][0].numpy(), returned["answers"][0].numpy()
        found = np.isfinite(totals)  # minus infinity marks an answer that does not exist
        texts = [answer.decode("ascii") for answer in answers[found].tolist()]
        return list(zip(texts, np.exp(totals[found]).tolist(), strict=True))


def read_signature_def(folder: Path) -> dict[str, Any]:
    """Return the SignatureDef of `serving_default`, as protobuf writes it in JSON."""
    from google.protobuf.json_format import MessageToDict
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    [graph] = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    # With empty fields, as TensorFlow Serving returns it.
    signature: dict[str, Any] = MessageToDict(
        graph.signature_def["serving_default"],
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return signature
