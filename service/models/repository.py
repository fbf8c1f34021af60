"""Loads the versions that the catalog names, and finds the version that a request names."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakSet

from service.errors import ModelNotFound, ModelUnavailable
from service.models.artifact import Artifact
from service.models.batcher import Batcher, Observer
from service.models.catalog import Catalog
from service.models.queries import Limits
from service.models.shadow import Shadow
from service.settings import Settings

log = logging.getLogger(__name__)

Load = Callable[[Path, dict[str, Any]], Artifact]
Run = Callable[..., Artifact]
Versions = list[tuple[str, int]]  # model and version
Problems = dict[tuple[str, int], str]  # by model and version


class ServedModel(NamedTuple):
    """A version that answers requests, with its limits, its queue, the observer of its queue, and its name and number
    as labels of metrics."""

    artifact: Artifact
    limits: Limits
    batcher: Batcher
    observer: Observer
    labels: tuple[str, str]


class Generation(NamedTuple):
    """The versions that are served between two changes, by model and number, each with the default first."""

    number: int
    catalog: Catalog
    models: dict[str, dict[int, ServedModel]]


class VersionStatus(NamedTuple):
    """The state of a version in the words of TensorFlow Serving (get_model_status.proto): END is that of a version that
    is not served, with the reason."""

    model: str
    version: int
    state: Literal["LOADING", "AVAILABLE", "UNLOADING", "END"]
    reason: str = ""


class Control(Protocol):
    """Loads and unloads models on request, in all workers."""

    def load(self, model: str) -> None:
        """Return when the model is served. Raises ModelNotFound and ModelUnavailable."""

    def unload(self, model: str) -> None:
        """Return when the model is not served. Raises ModelNotFound and ModelUnavailable."""


class ModelObserver(Protocol):
    """Receives the changes of the repository: the interface of its metrics."""

    def version_loaded(self, artifact: Artifact) -> Observer:
        """Return the observer of the queue of a version."""

    def versions_changed(self, unloaded: list[Artifact], catalog: Catalog) -> None:
        """Record that other versions are served; some were, and are no longer."""


class Repository:
    """The versions that are served.

    A change has two steps, so that all workers change at once: `prepare` loads the versions beside those that are
    served, and from the moment at which `active` returns the number of their generation, `find` finds them. A request
    keeps the version that it has found, which is freed after the last of them.
    """

    def __init__(
        self, settings: Settings, load: Load, observer: ModelObserver, active: Callable[[], int] = lambda: 0
    ) -> None:
        """`load` takes the folder of a version and its SignatureDef."""
        self._settings = settings
        self._load = load
        self._observer = observer
        self._active = active
        self._serving = self._prepared = Generation(active(), Catalog(), {})
        self._loading: Versions = []
        self._unloading: WeakSet[Artifact] = WeakSet()  # which requests still use

    def load(self, catalog: Catalog) -> bool:
        """Load the versions of a catalog, and serve those that could be loaded.

        Returns False if none is served, as a model that ADDER_MODELS names could not be loaded, or no model: the log
        has the reason, and `find` raises.
        """
        try:
            for problem in self.prepare(self._active(), catalog).values():
                log.error("%s", problem)
        except Exception:
            log.exception("no model could be loaded")
            return False
        if self.switch() is not self._prepared:
            log.error("no model could be loaded")
            return False
        return True

    def prepare(self, number: int, catalog: Catalog, run: Run = lambda function, *given: function(*given)) -> Problems:
        """Load the versions of a catalog that are not loaded yet, and return the problems of those that cannot be
        loaded. `run` calls a function with the arguments given, maybe in a thread."""
        problems: Problems = {}
        models: dict[str, dict[int, ServedModel]] = {}
        listed = [(name, version) for name, versions in catalog.served().items() for version in versions]
        self._loading = [each for each in listed if self._loaded(*each, catalog.version(*each).sha256) is None]
        for name, version in listed:
            wanted = catalog.version(name, version)
            served = self._loaded(name, version, wanted.sha256)
            try:
                if served is None:
                    folder = self._settings.artifacts / name / str(version)
                    artifact = run(self._load, folder, wanted.signature_def)
                    if artifact.sha256 != wanted.sha256:
                        raise ModelUnavailable(f"{folder} has changed since it was looked at")
                    served = self._serve(artifact)
                models.setdefault(name, {})[version] = served
            except ModelUnavailable as problem:
                problems[name, version] = str(problem)
        self._prepared = Generation(number, catalog, models)
        return problems

    def switch(self) -> Generation:
        """Serve the prepared versions if their generation is active, and has every model that ADDER_MODELS names.
        Returns what is served."""
        prepared = self._prepared
        if prepared is not self._serving and prepared.number == self._active() and self._is_complete(prepared):
            before, self._serving = self._serving, self._prepared
            unloaded = [artifact for artifact in _artifacts(before) if artifact not in _artifacts(self._serving)]
            self._observer.versions_changed(unloaded, self._serving.catalog)
            self._attach_shadows()
            self._loading = []
            self._unloading.update(unloaded)
        return self._serving

    def statuses(self) -> list[VersionStatus]:
        """The states of all versions that are known. Raises ModelUnavailable as `find` does."""
        served = [(artifact.metadata.name, artifact.metadata.version) for artifact in self.artifacts()]
        unloading = [(artifact.metadata.name, artifact.metadata.version) for artifact in self._unloading]
        refused = [
            VersionStatus(name, number, "END", version.reason or "")
            for name, model in self.catalog.models.items()
            for number, version in model.versions.items()
            if (name, number) not in served
        ]
        return [
            *(VersionStatus(*each, "AVAILABLE") for each in served),
            *(VersionStatus(*each, "LOADING") for each in self._loading if each not in served),
            *(VersionStatus(*each, "UNLOADING") for each in unloading if each not in served),
            *(status for status in refused if status[:2] not in (*self._loading, *unloading)),
        ]

    @property
    def catalog(self) -> Catalog:
        """What is known of all versions."""
        return self._serving.catalog

    def find(
        self,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        request_id: str | None = None,
    ) -> ServedModel:
        """Find a version of a model, by its number or its label: by default the model's default version, or its canary
        for some request ids; by default of the default model.

        Raises ModelUnavailable if no model could be loaded, and ModelNotFound.
        """
        serving = self._serving if self._serving.number == self._active() else self.switch()
        if not serving.models:
            raise ModelUnavailable("no model could be loaded: see the log of the service")
        name = model if model is not None else next(iter(serving.models))
        versions = serving.models.get(name, {})
        number = version
        if versions and (label is not None or version is None):
            configured = serving.catalog.models[name].serving
            if label is not None:
                number = configured.labels.get(label)
            else:
                canary = configured.canary_for(request_id) if request_id is not None else None
                number = canary if canary in versions else next(iter(versions))
        if number not in versions or version not in (None, number):
            known = {name: list(numbers) for name, numbers in serving.models.items()}
            raise ModelNotFound(name, version if label is None else label, known)
        return versions[number]

    def artifacts(self, model: str | None = None) -> list[Artifact]:
        """Return the versions of a model, or of all models, in order. Raises ModelUnavailable as `find` does."""
        self.find()
        return [artifact for artifact in _artifacts(self._serving) if model in (None, artifact.metadata.name)]

    def _is_complete(self, generation: Generation) -> bool:
        required = {*self._settings.selection} - {"*"} - generation.catalog.unloaded
        return bool(generation.models) and required <= set(generation.models)

    def _attach_shadows(self) -> None:
        for name, versions in self._serving.models.items():
            number = self._serving.catalog.models[name].serving.shadow_version
            copy = None
            if number in versions:
                shadow = versions[number]
                copy = Shadow(shadow.batcher, shadow.artifact.metadata.task, shadow.observer.shadowed).add
            for version, served in versions.items():
                served.batcher.copy = None if version == number else copy

    def _loaded(self, model: str, version: int, sha256: str) -> ServedModel | None:
        for generation in (self._serving, self._prepared):
            served = generation.models.get(model, {}).get(version)
            if served is not None and served.artifact.sha256 == sha256:
                return served
        return None

    def _serve(self, artifact: Artifact) -> ServedModel:
        observer = self._observer.version_loaded(artifact)
        batcher = Batcher(
            artifact.engine.predict,
            max_batch_size=artifact.metadata.batch_sizes[-1],
            max_queue_size=self._settings.max_queued_queries,
            deadline_seconds=self._settings.deadline_seconds,
            observer=observer,
        )
        limits = Limits(artifact.metadata, self._settings.max_batch_queries)
        labels = artifact.metadata.name, str(artifact.metadata.version)
        return ServedModel(artifact, limits, batcher, observer, labels)


def _artifacts(generation: Generation) -> list[Artifact]:
    return [served.artifact for versions in generation.models.values() for served in versions.values()]
