"""Changes the versions that are served while requests are answered: two greenlets in each worker."""

import logging
from collections.abc import Callable

import gevent

from service.errors import ModelNotFound, ModelUnavailable
from service.models.catalog import Catalog, fingerprint, log_news
from service.models.repository import Repository
from service.models.saved_model_check import check_versions
from service.models.shared_catalog import SharedCatalog
from service.settings import Settings
from service.worker_board import WorkerBoard

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.1  # between two looks at the shared catalog
RETRY_SECONDS = 10  # after an error of ours


class VersionChanges:
    """Follows the shared catalog, and in one of the workers keeps it up to date with the artifacts folder.

    Disk and models are read in threads: the event loop goes on.
    """

    def __init__(
        self, settings: Settings, repository: Repository, catalog: SharedCatalog, board: WorkerBoard, index: int
    ) -> None:
        """`index` is that of this worker on the board."""
        self._settings = settings
        self._repository = repository
        self._catalog = catalog
        self._board = board
        self._index = index
        self._run = gevent.get_hub().threadpool.apply

    def start(self) -> None:
        """Start both greenlets."""
        gevent.spawn(self._forever, FOLLOW_SECONDS, self.follow)
        if self._settings.watch_seconds:
            gevent.spawn(self._forever, self._settings.watch_seconds, self.watch)

    def follow(self) -> None:
        """Prepare the latest generation, and make it active when all workers have prepared it."""
        latest = self._catalog.latest
        self._repository.switch()
        if self._board.prepared[self._index] != latest:
            catalog = self._catalog.read(latest)
            active = self._catalog.read(self._catalog.active)
            problems = self._repository.prepare(latest, catalog, lambda load, *given: self._run(load, given))
            for problem in problems.values():
                log.error("not served by this worker: %s", problem)
            # What other workers serve already, and this one could not load at its start, is no reason against the rest.
            sha256 = {each: (catalog.version(*each).sha256, active.version(*each).sha256) for each in problems}
            if new := {each: problems[each] for each, (wanted, served) in sha256.items() if wanted != served}:
                self._catalog.publish(lambda latest: latest.without(new, active))
                return
            self._board.prepared[self._index] = latest
        if self._board.have_prepared(latest) and self._catalog.activate(latest):
            served = self._repository.catalog.sentence()
            if self._repository.switch().catalog.sentence() != served:
                log.info("Serving %s", self._repository.catalog.sentence())
        serving = self._repository.switch()
        if serving.models and serving.number == latest and not self._board.loaded[self._index]:
            self._board.mark_loaded(self._index)

    def watch(self) -> None:
        """If the folder is not as it was at the last look, look at its versions."""
        if self._catalog.try_lead():
            seen = self._run(fingerprint, (self._settings,))
            if seen != self._catalog.read(self._catalog.latest).fingerprint:
                look(self._catalog, seen, self._check)

    def load(self, model: str) -> None:
        """Look at the folder, serve the model again if it was unloaded, and return when it is served.

        Raises ModelNotFound if the folder does not have the model, and ModelUnavailable if it cannot be served.
        """
        seen = self._run(fingerprint, (self._settings,))
        self._catalog.publish(lambda latest: latest.model_copy(update={"unloaded": latest.unloaded - {model}}))
        look(self._catalog, seen, self._check)
        catalog = self._wait_until_active()
        if model not in catalog.models:
            raise ModelNotFound(model, None, catalog.served())
        if catalog.problem is not None or catalog.models[model].default is None:
            reasons = [version.reason for version in catalog.models[model].versions.values() if version.reason]
            raise ModelUnavailable(catalog.problem or "; ".join(reasons) or f"{model} has no version")

    def unload(self, model: str) -> None:
        """Serve a model no longer, until it is loaded again; return when that is so.

        Raises ModelNotFound if it is not served, and ModelUnavailable if no other is.
        """
        served = self._catalog.read(self._catalog.latest).served()
        if model not in served:
            raise ModelNotFound(model, None, served)
        if len(served) == 1:
            raise ModelUnavailable(f"{model} is the only model that is served: it cannot be unloaded")
        self._catalog.publish(lambda latest: latest.unload(model))
        self._wait_until_active()

    def _wait_until_active(self) -> Catalog:
        latest = self._catalog.latest
        while self._catalog.active < latest:
            gevent.sleep(FOLLOW_SECONDS)
        return self._catalog.read(self._catalog.active)

    def _check(self, before: Catalog) -> Catalog:
        catalog: Catalog = self._run(check_versions, (before,))
        return catalog

    def _forever(self, seconds: float, function: Callable[[], None]) -> None:
        while True:
            gevent.sleep(seconds)
            try:
                function()
            except Exception:
                log.exception("versions cannot be changed: the next attempt is in %d seconds", RETRY_SECONDS)
                gevent.sleep(RETRY_SECONDS)


def look(shared: SharedCatalog, seen: str, check: Callable[[Catalog], Catalog] = check_versions) -> None:
    """Check the versions in the artifacts folder, whose fingerprint was `seen`, and publish what was found. If nothing
    there can be served, what is served remains."""
    before = shared.read(shared.latest)
    try:
        catalog = check(before)
    except ModelUnavailable as problem:
        log.error("the models that are served remain: %s", problem)
        refused = {"problem": str(problem), "fingerprint": seen}
        shared.publish(lambda latest: latest.model_copy(update=refused))
    else:
        log_news(catalog, before)
        shared.publish(lambda latest: catalog.with_unloaded(latest.unloaded))  # which may have changed meanwhile
