"""Which version serves."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from service.artifact import Artifact, verify
from service.batcher import Batcher
from service.problems import BrokenArtifact, NotReady
from service.settings import Settings

log = logging.getLogger(__name__)


class Served(NamedTuple):
    """The version that answers, and the way to it."""

    artifact: Artifact
    batcher: Batcher


def check(settings: Settings) -> None:
    """Raises BrokenArtifact, about the newest version, where none has its files, checksums and metadata in order."""
    broken = []
    for folder in versions(settings):
        try:
            verify(folder)
        except BrokenArtifact as problem:
            broken.append(problem)
        else:
            return
    raise broken[0]


def versions(settings: Settings) -> list[Path]:
    """The folders of all versions, newest first. Raises BrokenArtifact where there is none."""
    model = settings.artifacts / settings.model
    found = [folder for folder in model.glob("*") if folder.name.isascii() and folder.name.isdigit()]
    if not found:
        raise BrokenArtifact(f"{model.absolute()} holds no version: export one, or set ADDER_ARTIFACTS and ADDER_MODEL")
    return sorted(found, key=lambda folder: int(folder.name), reverse=True)


class Repository:
    """Loads the newest version that can be served."""

    def __init__(self, settings: Settings, load: Callable[[Path], Artifact] = Artifact.load) -> None:
        self._settings = settings
        self._load = load
        self._served: Served | None = None
        self._reason = "the model is being loaded: try again in some seconds"

    def start(self, when_ready: Callable[[], None]) -> None:
        """Load in the background, and then call `when_ready`. What goes wrong is logged, and told by `current`."""

        def run() -> None:
            try:
                self.load()
            except Exception as error:
                self._reason = f"no version could be loaded: {error}"
                log.exception("no version could be loaded")
            else:
                when_ready()

        Thread(target=run, name="load", daemon=True).start()

    def load(self) -> None:
        """Load the newest version that can be. Raises BrokenArtifact, about the newest, where none can."""
        broken = []
        for folder in versions(self._settings):
            try:
                artifact = self._load(folder)
            except BrokenArtifact as problem:
                log.warning("passed over: %s", problem)
                broken.append(problem)
            else:
                self._served = Served(artifact, self._batcher(artifact))
                return
        raise broken[0]

    def current(self) -> Served:
        """Raises NotReady while nothing is loaded."""
        if self._served is None:
            raise NotReady(self._reason)
        return self._served

    def _batcher(self, artifact: Artifact) -> Batcher:
        return Batcher(
            artifact.predict,
            largest_call=artifact.metadata.batch_sizes[-1],
            max_queued_queries=self._settings.max_queued_queries,
            deadline_seconds=self._settings.deadline_seconds,
        )
