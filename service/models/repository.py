"""Loads the versions of all models that are served, and finds the version that a request names."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from service.errors import ModelNotFound, ModelUnavailable
from service.models.artifact import Artifact
from service.models.batcher import Batcher, Observer
from service.models.queries import Limits
from service.settings import NAME, Settings

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
# By model name, the default model first, and by version number, the newest first.
ByVersion = dict[str, dict[int, Opened]]


class ServedModel(NamedTuple):
    """A version that answers requests, with its limits, its queue, and the observer of its queue."""

    artifact: Artifact
    limits: Limits
    batcher: Batcher
    observer: Observer


def for_each_version(
    settings: Settings,
    open_version: Callable[[Path], Opened],
    observe_skipped: Callable[[str, int], None] = lambda _model, _versions: None,
) -> ByVersion[Opened]:
    """Call `open_version` with the folder of each version, and skip a version for which it raises ModelUnavailable.
    `observe_skipped` receives the name of each model and how many of its versions were skipped.

    Raises ModelUnavailable if a model that ADDER_MODELS names has no version left (with the problem of its newest), if
    no model is left, or if the folder cannot be read.
    """
    opened: ByVersion[Opened] = {}
    for model in _model_names(settings):
        versions, problems = _open_versions(settings.artifacts / model, open_version)
        if not versions and model in settings.models.split(","):
            for problem in problems[1:]:
                log.error("%s", problem)
            nothing = f"{(settings.artifacts / model).absolute()} has no version: export one, or set "
            raise problems[0] if problems else ModelUnavailable(f"{nothing}ADDER_ARTIFACTS and ADDER_MODELS")
        for problem in problems:
            log.warning("version skipped: %s", problem)
        observe_skipped(model, len(problems))
        if versions:
            opened[model] = versions
    if not opened:
        raise ModelUnavailable(
            f"{settings.artifacts.absolute()} has no model that can be served: export one, or set ADDER_ARTIFACTS"
        )
    return opened


def _model_names(settings: Settings) -> list[str]:
    """The models of ADDER_MODELS, in its order; `*` stands for all others."""
    named = settings.models.split(",")
    try:
        folders = sorted(folder.name for folder in settings.artifacts.iterdir())
    except OSError as error:
        raise ModelUnavailable(f"{settings.artifacts} cannot be read: {error.strerror}") from error
    others = [name for name in folders if name not in named and re.fullmatch(NAME, name)]
    return list(dict.fromkeys(model for name in named for model in (others if name == "*" else [name])))


def _open_versions(
    model: Path, open_version: Callable[[Path], Opened]
) -> tuple[dict[int, Opened], list[ModelUnavailable]]:
    """The versions of one model, and the problems of its other versions, newest first."""
    opened: dict[int, Opened] = {}
    problems: list[ModelUnavailable] = []
    try:
        folders = [folder for folder in model.iterdir() if folder.name.isascii() and folder.name.isdigit()]
    except (FileNotFoundError, NotADirectoryError):
        folders = []
    except OSError as error:
        return opened, [ModelUnavailable(f"{model} cannot be read: {error.strerror}")]
    for folder in sorted(folders, key=lambda folder: int(folder.name), reverse=True):
        try:
            if folder.name != str(int(folder.name)):
                raise ModelUnavailable(f"{folder} has zeros in front of its number: call it {int(folder.name)}")
            opened[int(folder.name)] = open_version(folder)
        except ModelUnavailable as problem:
            problems.append(problem)
    return opened, problems


class Repository:
    """The versions that are served, by model and number."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Path], Artifact],
        observe: Callable[[Artifact], Observer],
        observe_skipped: Callable[[str, int], None],
    ) -> None:
        """`observe` returns the observer of a version's queue; `observe_skipped` is that of `for_each_version`."""
        self._settings = settings
        self._load = load
        self._observe = observe
        self._observe_skipped = observe_skipped
        self._models: ByVersion[ServedModel] = {}

    def load(self) -> bool:
        """Load all versions, and return whether any could be loaded. Errors are logged; then `find` raises."""
        try:
            self._models = for_each_version(self._settings, self._serve, self._observe_skipped)
        except ModelUnavailable as problem:
            log.error("no model could be loaded: %s", problem)
        except Exception:
            log.exception("no model could be loaded")
        return bool(self._models)

    def find(self, model: str | None = None, version: int | None = None) -> ServedModel:
        """Find a version of a model: by default the newest version, of the default model.

        Raises ModelUnavailable if no model could be loaded, and ModelNotFound.
        """
        if not self._models:
            raise ModelUnavailable("no model could be loaded: see the log of the service")
        name = model if model is not None else next(iter(self._models))
        versions = self._models.get(name, {})
        number = version if version is not None else next(iter(versions), 0)
        if number not in versions:
            raise ModelNotFound(name, version, {name: list(numbers) for name, numbers in self._models.items()})
        return versions[number]

    def artifacts(self, model: str | None = None) -> list[Artifact]:
        """Return the versions of a model, or of all models, in order. Raises ModelUnavailable as `find` does."""
        self.find()
        models = self._models.items()
        return [served.artifact for name, versions in models if model in (None, name) for served in versions.values()]

    def _serve(self, folder: Path) -> ServedModel:
        artifact = self._load(folder)
        observer = self._observe(artifact)
        batcher = Batcher(
            artifact.engine.predict,
            max_batch_size=artifact.metadata.batch_sizes[-1],
            max_queue_size=self._settings.max_queued_queries,
            deadline_seconds=self._settings.deadline_seconds,
            observer=observer,
        )
        return ServedModel(artifact, Limits(artifact.metadata, self._settings.max_batch_queries), batcher, observer)
