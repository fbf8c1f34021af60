"""Which versions of which models serve."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from service.errors import BrokenArtifact, UnknownModel
from service.models.artifact import Artifact
from service.models.batcher import Batcher, Observer
from service.models.queries import Limits
from service.settings import NAME, Settings

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
# By the name of the model, the one to answer by default first, and by the number of the version, the newest first.
ByVersion = dict[str, dict[int, Opened]]


class Served(NamedTuple):
    """A version that answers, what it may be asked, the way to it, and what counts what it does."""

    artifact: Artifact
    limits: Limits
    batcher: Batcher
    tally: Observer


def open_all(settings: Settings, attempt: Callable[[Path], Opened]) -> ByVersion[Opened]:
    """What `attempt` gives for each version that it does not raise BrokenArtifact for; those are passed over.

    Raises BrokenArtifact where a model that ADDER_MODELS names has no version left (about its newest), where no model
    is left, or where the folder cannot be read.
    """
    opened: ByVersion[Opened] = {}
    for model in _names(settings):
        versions, broken = _open_versions(settings.artifacts / model, attempt)
        if not versions and model in settings.models.split(","):
            for problem in broken[1:]:
                log.error("%s", problem)
            nothing = f"{(settings.artifacts / model).absolute()} holds no version: export one, or set "
            raise broken[0] if broken else BrokenArtifact(f"{nothing}ADDER_ARTIFACTS and ADDER_MODELS")
        for problem in broken:
            log.warning("passed over: %s", problem)
        if versions:
            opened[model] = versions
    if not opened:
        raise BrokenArtifact(
            f"{settings.artifacts.absolute()} holds no model that can be served: export one, or set ADDER_ARTIFACTS"
        )
    return opened


def _names(settings: Settings) -> list[str]:
    """The models of ADDER_MODELS, in its order; `*` is every other that there is."""
    named = settings.models.split(",")
    try:
        there = sorted(folder.name for folder in settings.artifacts.iterdir())
    except OSError as error:
        raise BrokenArtifact(f"{settings.artifacts} cannot be read: {error.strerror}") from error
    others = [name for name in there if name not in named and re.fullmatch(NAME, name)]
    return list(dict.fromkeys(model for name in named for model in (others if name == "*" else [name])))


def _open_versions(model: Path, attempt: Callable[[Path], Opened]) -> tuple[dict[int, Opened], list[BrokenArtifact]]:
    """The versions of one model, and the problems of those that cannot be opened, newest first."""
    opened: dict[int, Opened] = {}
    broken: list[BrokenArtifact] = []
    try:
        there = [folder for folder in model.iterdir() if folder.name.isascii() and folder.name.isdigit()]
    except (FileNotFoundError, NotADirectoryError):
        there = []
    except OSError as error:
        return opened, [BrokenArtifact(f"{model} cannot be read: {error.strerror}")]
    for folder in sorted(there, key=lambda folder: int(folder.name), reverse=True):
        try:
            opened[int(folder.name)] = attempt(folder)
        except BrokenArtifact as problem:
            broken.append(problem)
    return opened, broken


class Repository:
    """Loads every version of the models that can be served, and finds the one that a request names."""

    def __init__(
        self, settings: Settings, load: Callable[[Path], Artifact], observe: Callable[[Artifact], Observer]
    ) -> None:
        self._settings = settings
        self._load = load
        self._observe = observe
        self._served: ByVersion[Served] = {}

    def load(self) -> bool:
        """Load all that can be, and say whether that is something. What goes wrong is logged, and told by `find`."""
        try:
            self._served = open_all(self._settings, self._serve)
        except BrokenArtifact as problem:
            log.error("a model could not be loaded: %s", problem)
        except Exception:
            log.exception("a model could not be loaded")
        return bool(self._served)

    def find(self, model: str | None = None, version: int | None = None) -> Served:
        """That version of that model; by default its newest, of the first model.

        Raises BrokenArtifact where nothing could be loaded, and UnknownModel.
        """
        if not self._served:
            raise BrokenArtifact("a model could not be loaded: the log says why")
        name = model if model is not None else next(iter(self._served))
        versions = self._served.get(name, {})
        number = version if version is not None else next(iter(versions), 0)
        if number not in versions:
            raise UnknownModel(name, version, {name: list(numbers) for name, numbers in self._served.items()})
        return versions[number]

    def all(self) -> list[Artifact]:
        """Every version that serves, in order. Raises BrokenArtifact as `find` does."""
        self.find()
        return [served.artifact for versions in self._served.values() for served in versions.values()]

    def _serve(self, folder: Path) -> Served:
        artifact = self._load(folder)
        tally = self._observe(artifact)
        batcher = Batcher(
            artifact.predict,
            call_queries=artifact.metadata.batch_sizes[-1],
            max_queued_queries=self._settings.max_queued_queries,
            deadline_seconds=self._settings.deadline_seconds,
            observer=tally,
        )
        return Served(artifact, Limits(artifact.metadata, self._settings.max_batch_queries), batcher, tally)
