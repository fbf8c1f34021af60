"""`python -m service.models.saved_model_check`: compare each version's LiteRT files with its SavedModel.

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
from service.models.engines.saved_model import Floats, SavedModelEngine
from service.models.native_stderr import log_stderr
from service.models.repository import for_each_version
from service.settings import Settings, usable_memory

TOLERANCE = 1e-5  # between LiteRT's probabilities and the SavedModel's: the artifact's contract
REQUIRED_MB = 800  # of memory, for TensorFlow and the master beside it
K_BEST = 3  # answers to each golden query that are compared


class SavedModelCheck(TypedDict):
    """The result for one version: `problem` describes a difference between its LiteRT files and its SavedModel, or is
    None; `signature_def` is the SignatureDef of `serving_default` as protobuf writes it in JSON, or empty."""

    problem: str | None
    signature_def: dict[str, Any]


class SavedModelChecks:
    """The results for all versions, by folder, in the process that starts the check."""

    def __init__(self) -> None:
        self._by_folder: dict[str, SavedModelCheck] = {}

    def run(self) -> None:
        """Run the check, and log TensorFlow's output to stderr. Raises ModelUnavailable if the process fails."""
        command = [sys.executable, "-m", __name__]
        # oneDNN writes to stderr at any log level unless it is off.
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
        checked = subprocess.run(  # noqa: S603  our own command
            command, env=quiet | os.environ, capture_output=True, text=True, errors="replace", check=False
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
    """Compare both engines on the golden queries, step by step and by the best answers, and return the SignatureDef.

    Raises ModelUnavailable if the version cannot be loaded, or if a probability differs.
    """
    artifact = Artifact.load(folder)
    queries = [golden.query for golden in artifact.metadata.golden]
    try:
        saved_model = SavedModelEngine(folder, artifact.metadata.end)
        expected = zip(queries, saved_model.decode(queries), saved_model.k_best(queries, K_BEST), strict=True)
        difference = float(np.max([_largest_difference(artifact, *each) for each in expected]))
        signature_def = saved_model.signature_def()
    except Exception as error:
        raise load_error(folder, error) from error
    if not difference <= TOLERANCE:  # true for NaN
        raise ModelUnavailable(
            f"{folder} has LiteRT files whose probabilities differ from its SavedModel's by up to {difference:.1e}"
        )
    return signature_def


def _largest_difference(artifact: Artifact, query: str, steps: Floats, best: Floats) -> float:
    """Between LiteRT's probabilities and the SavedModel's, [T, V] and [K_BEST]."""
    engine = artifact.engine
    decoded = np.stack(list(engine.decode(query)))
    found = [probability for _, probability in engine.k_best(query, K_BEST)]
    differences = [
        np.abs(engine.predict([query])[0].probabilities - steps),
        np.abs(decoded - steps[: len(decoded)]),
        np.abs(np.pad(found, (0, K_BEST - len(found))) - best),
    ]
    return float(np.max([each.max() for each in differences]))


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
