"""Which version serves."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import NamedTuple, TypeVar

from service.artifact import Artifact
from service.batcher import Batcher
from service.problems import BrokenArtifact, NotReady
from service.settings import Settings

log = logging.getLogger(__name__)


Opened = TypeVar("Opened")


class Served(NamedTuple):
    """The version that answers, and the way to it."""

    artifact: Artifact
    batcher: Batcher


def newest(settings: Settings, attempt: Callable[[Path], Opened]) -> Opened:
    """What `attempt` gives for the newest version that it does not raise BrokenArtifact for.

    Raises BrokenArtifact, about the newest version, where there is no such.
    """
    model = settings.artifacts / settings.model
    try:
        versions = [folder for folder in model.glob("*") if folder.name.isascii() and folder.name.isdigit()]
    except OSError as error:
        raise BrokenArtifact(f"{model} cannot be read: {error.strerror}") from error
    if not versions:
        raise BrokenArtifact(f"{model.absolute()} holds no version: export one, or set ADDER_ARTIFACTS and ADDER_MODEL")
    broken: list[BrokenArtifact] = []
    for folder in sorted(versions, key=lambda folder: int(folder.name), reverse=True):
        try:
            opened = attempt(folder)
        except BrokenArtifact as problem:
            broken.append(problem)
        else:
            for passed_over in broken:
                log.warning("passed over: %s", passed_over)
            return opened
    raise broken[0]


class Repository:
    """Loads the newest version that can be served."""

    def __init__(self, settings: Settings, load: Callable[[Path], Artifact]) -> None:
        self._settings = settings
        self._load = load
        self._served: Served | None = None
        self._failed = False

    def start(self, when_ready: Callable[[], None]) -> Thread:
        """Load in the background, and then call `when_ready`. What goes wrong is logged, and told by `current`."""

        def run() -> None:
            try:
                self.load()
            except BrokenArtifact as problem:
                self._failed = True
                log.error("no version could be loaded: %s", problem)
            except Exception:
                self._failed = True
                log.exception("no version could be loaded")
            else:
                when_ready()

        thread = Thread(target=run, name="load", daemon=True)
        thread.start()
        return thread

    def load(self) -> None:
        """Load the newest version that can be. Raises BrokenArtifact, about the newest, where none can."""
        artifact = newest(self._settings, self._load)
        batcher = Batcher(
            artifact.predict,
            shared_call_queries=artifact.metadata.batch_sizes[-1],
            max_queued_queries=self._settings.max_queued_queries,
            deadline_seconds=self._settings.deadline_seconds,
        )
        self._served = Served(artifact, batcher)

    def current(self) -> Served:
        """Raises NotReady while nothing is loaded yet, and BrokenArtifact where nothing could be."""
        if self._failed:
            raise BrokenArtifact("no version could be loaded: the log says why")
        if self._served is None:
            raise NotReady("the artifact is being loaded: try again in some seconds")
        return self._served
