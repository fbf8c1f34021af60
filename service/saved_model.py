"""`python -m service.saved_model`: hold what LiteRT answers against the SavedModel that it was made from.

In a process of its own, once when the service starts: TensorFlow takes seconds and half a gigabyte, and serving needs
neither. Prints a JSON object: the folders of the versions whose forms differ, and how.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from service.artifact import Artifact
from service.problems import BrokenArtifact
from service.repository import open_all
from service.settings import Settings

TOLERANCE = 1e-5  # the contract's, between two ways to the same probability


def check(folder: Path) -> None:
    """Load the version in both forms, and decode its golden queries step by step in the SavedModel.

    Raises BrokenArtifact where it cannot be loaded, or where a probability is another in the other form.
    """
    import tensorflow as tf

    artifact = Artifact.load(folder)
    metadata = artifact.metadata
    queries = [golden.query for golden in metadata.golden]
    by_lite = np.stack([artifact.predict([query])[0].probabilities for query in queries])  # (B, T, V)
    try:
        signatures = tf.saved_model.load(str(folder)).signatures
        state = signatures["encode"](query=tf.constant(queries))["state"]
        previous = tf.fill([len(queries)], metadata.alphabet.index(" "))
        steps = []
        for _ in range(by_lite.shape[1]):
            step = signatures["decode_step"](state=state, previous=previous)
            state, previous = step["state"], tf.argmax(step["probabilities"], axis=-1, output_type=tf.int32)
            steps.append(step["probabilities"].numpy())
    except Exception as error:
        raise BrokenArtifact(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:200]}") from error
    distance = float(np.abs(np.stack(steps, axis=1) - by_lite).max())
    if distance > TOLERANCE:
        raise BrokenArtifact(
            f"{folder} gives by LiteRT other probabilities than its SavedModel, by up to {distance:.1e}"
        )


def main() -> None:
    """The versions of the settings' models."""
    # Once the last answer is printed nothing is left to do, and TensorFlow takes its time to end.
    differing: dict[str, str] = {}

    def attempt(folder: Path) -> None:
        try:
            check(folder)
        except BrokenArtifact as problem:
            differing[str(folder)] = str(problem)

    try:
        open_all(Settings(), attempt)
    except BrokenArtifact as problem:
        sys.exit(f"error: {problem}")
    print(json.dumps(differing), flush=True)
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
