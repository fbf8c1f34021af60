"""`python -m service.models.saved_model_check`: compare each version's engine with its SavedModel.

TensorFlow takes seconds and half a gigabyte, so the check runs in a process of its own, once when the service starts
and once for each SIGHUP. The process prints a JSON object: for the folder of each version a `SavedModelCheck`.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from service.errors import ModelUnavailable
from service.models.artifact import Artifact, load_error
from service.models.engines import Engine
from service.models.engines.engine import Floats
from service.models.engines.saved_model import SavedModelEngine, read_signature_def
from service.models.native_stderr import log_stderr
from service.models.repository import for_each_version
from service.settings import Settings, usable_memory

TOLERANCE = 1e-5  # between two computations of a probability: the artifact's contract
REQUIRED_MB = 800  # of memory, for TensorFlow and the master beside it
K_BEST = 3  # answers to each golden query that are compared


class SavedModelCheck(TypedDict):
    """The result for one version: `problem` describes a difference between its engine and its SavedModel, or is None;
    `signature_def` is the SignatureDef of `serving_default` as protobuf writes it in JSON, or empty."""

    problem: str | None
    signature_def: dict[str, Any]


class SavedModelChecks:
    """The results for all versions, by folder, in the process that starts the check."""

    def __init__(self) -> None:
        self._by_folder: dict[str, SavedModelCheck] = {}

    def run(self) -> None:
        """Run the check, and log TensorFlow's output to stderr. Raises ModelUnavailable if the process fails."""
        command = [sys.executable, "-m", __name__]
        checked = subprocess.run(  # noqa: S603  our own command
            command, capture_output=True, text=True, errors="replace", check=False
        )
        log_stderr(checked.stderr)
        if checked.returncode == -signal.SIGKILL:
            raise ModelUnavailable(
                f"the check of the SavedModels was killed, as the system does when memory runs out: it requires "
                f"{REQUIRED_MB} MB, and the service may use {usable_memory() >> 20} MB"
            )
        if checked.returncode != 0:
            raise ModelUnavailable(
                f"the SavedModels could not be loaded: {' '.join(command)} ended with {checked.returncode}"
            )
        self._by_folder = json.loads(checked.stdout)

    def require_checked(self, folder: Path) -> SavedModelCheck:
        """The result for a version. Raises ModelUnavailable if it was not checked, or if it differs."""
        check = self._by_folder.get(str(folder))
        if check is None:
            raise ModelUnavailable(f"{folder} was added after the service started: send SIGHUP")
        if check["problem"] is not None:
            raise ModelUnavailable(check["problem"])
        return check


def check(folder: Path) -> dict[str, Any]:
    """Compare the version's engine with its SavedModel, decoded step by step, on the golden queries, and return the
    SignatureDef.

    Raises ModelUnavailable if the version cannot be loaded, or if a probability differs.
    """
    artifact = Artifact.load(folder)
    engine = artifact.engine
    try:
        reference = engine if isinstance(engine, SavedModelEngine) else SavedModelEngine(folder, artifact.metadata)
        queries = [golden.query for golden in artifact.metadata.golden]
        difference = float(np.max([largest_difference(engine, reference, query) for query in queries]))
        signature_def = read_signature_def(folder)
    except Exception as error:
        raise load_error(folder, error) from error
    if not difference <= TOLERANCE:  # true for NaN
        raise ModelUnavailable(
            f"{folder}: probabilities by {engine.name} differ from the SavedModel's by up to {difference:.1e}"
        )
    return signature_def


def largest_difference(engine: Engine, reference: Engine, query: str) -> float:
    """Between the probabilities of an engine and those of the reference, decoded step by step."""
    steps = np.stack(list(reference.decode(query)))
    compared = [
        (engine.predict([query])[0].steps, steps),
        (np.stack(list(engine.decode(query))), steps),
        (_probabilities(engine.k_best(query, K_BEST)), _probabilities(reference.k_best(query, K_BEST))),
    ]
    return float(np.max([_distance(*pair) for pair in compared]))


def _probabilities(best: list[tuple[str, float]]) -> Floats:
    return np.array([probability for _, probability in best], np.float32)


def _distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max()) if one.shape == other.shape else np.inf


def main() -> None:
    """Check the versions of all models that the settings name."""
    checks: dict[str, SavedModelCheck] = {}

    def attempt(folder: Path) -> None:
        try:
            checks[str(folder)] = SavedModelCheck(problem=None, signature_def=check(folder))
        except ModelUnavailable as problem:
            checks[str(folder)] = SavedModelCheck(problem=str(problem), signature_def={})

    try:
        for_each_version(Settings(), attempt)
    except ModelUnavailable as problem:
        sys.exit(f"error: {problem}")
    print(json.dumps(checks), flush=True)
    sys.stderr.flush()
    os._exit(0)  # TensorFlow takes long to end, and nothing is left to do


if __name__ == "__main__":
    main()
