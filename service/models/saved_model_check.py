"""`python -m service.models.saved_model_check`: look at each version, and compare its engine with its SavedModel.

TensorFlow takes seconds and half a gigabyte, so the check runs in a process of its own: when the service starts, when
the artifacts folder has changed, and on SIGHUP. The process reads the catalog of the look before, and prints a new one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import ModelUnavailable
from service.models.artifact import Artifact, load_error
from service.models.catalog import Catalog, fingerprint, survey
from service.models.engines import Engine
from service.models.engines.engine import Floats
from service.models.engines.saved_model import SavedModelEngine, read_signature_def
from service.models.metadata import read_samples, verify
from service.models.native_stderr import log_stderr
from service.settings import Settings, usable_memory

TOLERANCE = 1e-5  # between two computations of a probability: the artifact's contract
REQUIRED_MB = 800  # of memory, for TensorFlow and the master beside it
K_BEST = 3  # answers to each golden query that are compared
REST_SECONDS = 0.25
NICENESS = 10  # beside workers that answer: a tenth of a core that all want
REFUSED = 3  # the exit status if nothing can be served


def check_versions(before: Catalog) -> Catalog:
    """Run the check in a process of its own, and log TensorFlow's output to stderr. If models are served `before`, it
    has a low priority, and waits until the folder rests.

    Raises ModelUnavailable as `survey` does, and if the process fails.
    """
    command = [sys.executable, "-m", __name__]
    checked = subprocess.run(  # noqa: S603  our own command
        command, input=before.model_dump_json(), capture_output=True, text=True, errors="replace", check=False
    )
    if checked.returncode == REFUSED:
        raise ModelUnavailable(checked.stdout)
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
    return Catalog.model_validate_json(checked.stdout)


class Examiner:
    """Examines versions, each of which it loads once."""

    def __init__(self) -> None:
        self._artifacts: dict[Path, Artifact] = {}

    def examine(self, folder: Path) -> Mapping[str, Any]:
        """Return the SignatureDef. Raises as `check` does."""
        return check(folder, self._load(folder))

    def held_back(self, newer: Path, default: Path) -> str | None:
        """Why a version may not be the default in the place of an older one: it was not evaluated, or it is less right
        by the evidence of the two, or on the samples outside of its training set that it has."""
        try:
            new, old = self._load(newer), self._load(default)
        except ModelUnavailable as problem:
            return f"it cannot be compared with version {default.name}: {problem}"
        evidence = new.metadata.evidence
        if evidence is None:
            return f"it was not evaluated: run `python -m training evaluate {newer}`"
        if old.metadata.evidence is not None and evidence.domain.exact_match < old.metadata.evidence.domain.exact_match:
            return (
                f"{evidence.domain.exact_match:.4%} of its answers are right by its evidence, and "
                f"{old.metadata.evidence.domain.exact_match:.4%} of those of version {default.name}"
            )
        samples = read_samples(newer)
        right, right_of_old = (count_right(artifact, samples) for artifact in (new, old))
        if right < right_of_old:
            return (
                f"{right:,} of its answers to its {len(samples):,} samples are right, and {right_of_old:,} of those of "
                f"version {default.name}"
            )
        return None

    def _load(self, folder: Path) -> Artifact:
        if folder not in self._artifacts:
            self._artifacts[folder] = Artifact.load(folder)
        return self._artifacts[folder]


def count_right(artifact: Artifact, samples: Mapping[str, str]) -> int:
    """Return how many samples, right answers by query, a version answers rightly."""
    queries = [query for query in samples if artifact.metadata.task.pattern.fullmatch(query)]
    size = artifact.metadata.batch_sizes[-1]
    batches = [queries[start : start + size] for start in range(0, len(queries), size)]
    outputs = [output for batch in batches for output in artifact.engine.predict(batch)]
    return sum(samples[query] == output.answer for query, output in zip(queries, outputs, strict=True))


def check(folder: Path, artifact: Artifact) -> dict[str, Any]:
    """Compare the engine of the version in a folder with its SavedModel, decoded step by step, on the golden queries,
    and return the SignatureDef.

    Raises ModelUnavailable if the SavedModel cannot be loaded, or if a probability differs.
    """
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
    """Look at the versions of all models that the settings name."""
    settings, examiner = Settings(), Examiner()
    before = Catalog.model_validate_json(sys.stdin.read())
    if before.models:
        os.nice(NICENESS)
        wait_for_rest(settings)
    try:
        catalog = survey(settings, lambda folder: verify(folder).sha256, examiner.examine, examiner.held_back, before)
    except ModelUnavailable as problem:
        print(problem, end="", flush=True)
        os._exit(REFUSED)
    print(catalog.model_dump_json(), flush=True)
    sys.stderr.flush()
    os._exit(0)  # TensorFlow takes long to end, and nothing is left to do


def wait_for_rest(settings: Settings) -> None:
    """Wait until nothing in the artifacts folder has changed for REST_SECONDS: a copy may be under way."""
    before, now = "", fingerprint(settings)
    while now != before:
        time.sleep(REST_SECONDS)
        before, now = now, fingerprint(settings)


if __name__ == "__main__":
    main()
