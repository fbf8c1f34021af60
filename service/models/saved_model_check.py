"""`python -m service.models.saved_model_check`: hold what LiteRT answers against the SavedModel that it was made from.

In a process of its own, once when the service starts: TensorFlow takes seconds and half a gigabyte, and serving needs
neither. Prints a JSON object: for the folder of each version a `Checked`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from service.errors import BrokenArtifact
from service.models.artifact import Artifact
from service.models.repository import open_all
from service.settings import Settings

TOLERANCE = 1e-5  # the contract's, between two ways to the same probability
BEST = 3  # so many answers of each golden query are held against each other

Floats = npt.NDArray[np.float32]


class Checked(TypedDict):
    """What TensorFlow has found out about a version: how its forms differ, if they do, and the SignatureDef of
    `serving_default`, as protobuf writes it in JSON, empty where the forms differ."""

    problem: str | None
    signature: dict[str, Any]


def check(folder: Path) -> dict[str, Any]:
    """Load the version in both forms, and decode its golden queries in both, step by step and to the best answers.
    Returns the SignatureDef of `serving_default`.

    Raises BrokenArtifact where it cannot be loaded, or where a probability is another in the other form.
    """
    import tensorflow as tf

    artifact = Artifact.load(folder)
    queries = [golden.query for golden in artifact.metadata.golden]
    try:
        signatures = tf.saved_model.load(str(folder)).signatures
        steps = _step_by_step(signatures, queries, artifact.metadata.alphabet.index(" "))
        best = signatures["k_best"](query=tf.constant(queries), k=tf.constant(BEST))["log_probabilities"]
        expected = zip(queries, steps, np.exp(best.numpy()), strict=True)
        distance = float(np.max([_distance(artifact, *each) for each in expected]))
        signature = _serving_default(folder)
    except Exception as error:
        raise BrokenArtifact(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:200]}") from error
    if not distance <= TOLERANCE:  # nor NaN
        raise BrokenArtifact(
            f"{folder} gives by LiteRT other probabilities than its SavedModel, by up to {distance:.1e}"
        )
    return signature


def _step_by_step(signatures: Any, queries: list[str], end: int) -> Floats:
    """The probabilities [B, T, V] of the SavedModel."""
    import tensorflow as tf

    length = signatures["serving_default"].structured_outputs["probabilities"].shape[1]
    state, previous, steps = signatures["encode"](query=tf.constant(queries))["state"], [end] * len(queries), []
    for _ in range(length):
        step = signatures["decode_step"](state=state, previous=tf.constant(previous))
        state, previous = step["state"], tf.argmax(step["probabilities"], axis=-1, output_type=tf.int32)
        steps.append(step["probabilities"].numpy())
    return np.stack(steps, axis=1)


def _distance(artifact: Artifact, query: str, steps: Floats, best: Floats) -> float:
    """How far LiteRT's probabilities are from those of the SavedModel, [T, V] and [BEST], where that is most."""
    decoded = np.stack(list(artifact.decode(query)))
    found = [probability for _, probability in artifact.k_best(query, BEST)]
    distances = [
        np.abs(artifact.predict([query])[0].probabilities - steps),
        np.abs(decoded - steps[: len(decoded)]),
        np.abs(np.pad(found, (0, BEST - len(found))) - best),
    ]
    return float(np.max([each.max() for each in distances]))


def _serving_default(folder: Path) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    [graph] = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    # As TensorFlow Serving writes it: with the fields that are empty.
    signature: dict[str, Any] = MessageToDict(
        graph.signature_def["serving_default"],
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return signature


def main() -> None:
    """The versions of the settings' models."""
    checked: dict[str, Checked] = {}

    def attempt(folder: Path) -> None:
        try:
            checked[str(folder)] = Checked(problem=None, signature=check(folder))
        except BrokenArtifact as problem:
            checked[str(folder)] = Checked(problem=str(problem), signature={})

    try:
        open_all(Settings(), attempt)
    except BrokenArtifact as problem:
        sys.exit(f"error: {problem}")
    print(json.dumps(checked), flush=True)
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do, and TensorFlow takes its time to end


if __name__ == "__main__":
    main()
