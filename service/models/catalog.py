"""The catalog: what became of each version in the artifacts folder, and which version of each model is the default."""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel

from service.errors import ModelUnavailable
from service.models.metadata import file_names
from service.models.serving import SERVING_FILE, Serving, read_serving
from service.settings import NAME, Settings

log = logging.getLogger(__name__)

# Of a version: it is served; it is, but is not the default although it is newer; its files are not as they were
# exported; the model does not load, or does not answer as its SavedModel does; ADDER_MODELS pins others; serving.json
# keeps others; the model was unloaded on request.
State = Literal["available", "held_back", "damaged", "failed", "not_pinned", "not_kept", "unloaded"]


class Version(BaseModel):
    """A version of a model.

    `sha256` is that of its checksums.txt, and `signature_def` the SignatureDef of its `serving_default`, as protobuf
    writes it in JSON. `reason` explains its state, unless it is available. If a version `is_served` that is damaged or
    has failed, it was loaded before that happened to its folder.
    """

    state: State
    is_served: bool
    sha256: str = ""
    signature_def: dict[str, Any] = {}
    reason: str | None = None

    def refuse(self, state: State, reason: str) -> Self:
        """Return a copy in another state."""
        return self.model_copy(update={"state": state, "reason": reason})


class Model(BaseModel):
    """A model: its default version, or None if none is served; all its versions, the newest first; and what its
    serving.json says, or said before it had a `problem`."""

    default: int | None
    versions: dict[int, Version]
    serving: Serving = Serving()
    problem: str | None = None

    def served(self) -> list[int]:
        """The versions that are served: the default, and then the newest first."""
        numbers = [number for number, version in self.versions.items() if version.is_served]
        return sorted(numbers, key=lambda number: number != self.default)


class Catalog(BaseModel):
    """All models, the default model first.

    `fingerprint` is that of the artifacts folder. `problem` is why the models of an earlier look are served, and not
    what is in the folder now. `unloaded` are models that are not served, on request.
    """

    models: dict[str, Model] = {}
    unloaded: set[str] = set()
    fingerprint: str = ""
    problem: str | None = None

    def served(self) -> dict[str, list[int]]:
        """The versions that are served, by model, in order."""
        return {name: model.served() for name, model in self.models.items() if model.default is not None}

    def problems(self) -> list[str]:
        """Why what is in the folder does not take effect: as a whole, and the serving.json of each model."""
        every = [self.problem, *(model.problem for model in self.models.values())]
        return [problem for problem in every if problem is not None]

    def sentence(self) -> str:
        """The versions that are served, for a log."""
        return ", ".join(f"{name} version {number}" for name, numbers in self.served().items() for number in numbers)

    def version(self, model: str, number: int) -> Version:
        """A version, whether it exists or not."""
        known = self.models[model].versions if model in self.models else {}
        return known.get(number, Version(state="not_pinned", is_served=False))

    def unload(self, model: str) -> Self:
        """Return a copy in which a model is not served."""
        versions = {number: _unloaded(version) for number, version in self.models[model].versions.items()}
        unloaded = self.models[model].model_copy(update={"versions": versions, "default": None})
        return self.model_copy(update={"models": self.models | {model: unloaded}, "unloaded": self.unloaded | {model}})

    def with_unloaded(self, models: set[str]) -> Self:
        """Return a copy in which these models are not served."""
        catalog = self.model_copy(update={"unloaded": models})
        for model in models & set(self.models):
            catalog = catalog.unload(model)
        return catalog

    def without(self, problems: Mapping[tuple[str, int], str], active: "Catalog") -> Self:
        """Return a copy without versions that a worker could not load. What is `active` in their place is kept; if that
        would leave a model with nothing, all of `active` is."""
        models = dict(self.models)
        for (name, number), problem in problems.items():
            kept = active.version(name, number).refuse("failed", problem)
            changed = models[name].model_copy(update={"versions": models[name].versions | {number: kept}})
            served = changed.served()
            if changed.default not in served:
                before = active.models[name].default if name in active.models else None
                changed.default = before if before in served else max(served, default=None)
            if changed.default is None:
                return self.model_copy(update={"models": active.models, "problem": problem})
            models[name] = changed
        return self.model_copy(update={"models": models})


Examine = Callable[[Path], Mapping[str, Any]]
HeldBack = Callable[[Path, Path], str | None]


def survey(
    settings: Settings,
    verify: Callable[[Path], str],
    examine: Examine = lambda _: {},
    held_back: HeldBack = lambda _newer, _default: None,
    before: Catalog | None = None,
) -> Catalog:
    """Look at each version in the artifacts folder.

    `verify` returns the SHA-256 of a version's checksums.txt, and `examine` its SignatureDef, unless a version with
    that SHA-256 was served `before`; either raises ModelUnavailable for a version that cannot be served. `held_back`
    returns why a version is not the default in the place of an older one. A version that was served before and is
    damaged now is still served.

    Raises ModelUnavailable if a model that ADDER_MODELS names has no version left, with the problem of its newest; if
    no model is left; or if the folder cannot be read.
    """
    before = before or Catalog()
    catalog = Catalog(fingerprint=fingerprint(settings))
    for name, pinned in _selected(settings).items():
        versions: dict[int, Version] = {}
        try:
            folders = _version_folders(settings.artifacts / name)
        except ModelUnavailable as problem:
            if name in settings.selection:
                raise
            log.warning("model skipped: %s", problem)
            continue
        for folder in folders:
            number = int(folder.name)
            if pinned and number not in pinned:
                versions[number] = Version(state="not_pinned", is_served=False, reason=f"ADDER_MODELS names {pinned}")
            else:
                versions[number] = _look(folder, verify, examine, before.version(name, number))
        served = [number for number in pinned or sorted(versions) if number in versions and versions[number].is_served]
        if not served and name in settings.selection:
            raise _unserved(settings.artifacts / name, versions)
        model = Model(default=served[0] if served else None, versions=versions)
        if not pinned:
            _choose_default(model, settings.artifacts / name, served, held_back)
        _configure(model, settings.artifacts / name, served, before.models.get(name))
        catalog.models[name] = model
    catalog = catalog.with_unloaded(before.unloaded)
    if not catalog.served():
        raise ModelUnavailable(
            f"{settings.artifacts.absolute()} has no model that can be served: export one, or set ADDER_ARTIFACTS"
        )
    return catalog


def _choose_default(model: Model, folder: Path, served: list[int], held_back: HeldBack) -> None:
    """Make the newest version the default that is not held back against the one before it."""
    for newer in served[1:]:
        reason = held_back(folder / str(newer), folder / str(model.default))
        if reason is None:
            model.default = newer
        else:
            model.versions[newer] = model.versions[newer].refuse("held_back", reason)


def _configure(model: Model, folder: Path, served: list[int], before: Model | None) -> None:
    """Apply the model's serving.json, or what it said `before` if it is damaged now."""
    try:
        model.serving = read_serving(folder, served)
    except ModelUnavailable as problem:
        model.problem = str(problem)
        if before is not None and before.serving.named() <= set(served):
            model.serving = before.serving
    named = model.serving.default_version
    if named is not None:
        model.default = named
    if model.serving.keep is not None:
        others = [number for number in model.versions if number not in {*model.serving.named(), model.default}]
        for number in [number for number in others if number in served][model.serving.keep :]:
            model.versions[number] = Version(state="not_kept", is_served=False, reason=f"{SERVING_FILE} keeps others")


def log_news(catalog: Catalog, before: Catalog) -> None:
    """Log the problems that `before` does not have."""
    for problem in catalog.problems():
        if problem not in before.problems():
            log.error("%s", problem)
    for name, model in catalog.models.items():
        for number, version in model.versions.items():
            known = before.version(name, number)
            if version.reason not in (None, known.reason):
                what = {"held_back": "not the default", "damaged": "skipped", "failed": "skipped"}
                log.warning(
                    "%s version %d is %s: %s", name, number, what.get(version.state, "not loaded"), version.reason
                )


def fingerprint(settings: Settings) -> str:
    """Return a text that changes with every file of every version."""
    found = hashlib.sha256()
    try:
        selected = _selected(settings)
    except ModelUnavailable as problem:
        return str(problem)
    for name in selected:
        with suppress(ModelUnavailable):
            folders = _version_folders(settings.artifacts / name)
            files = [folder / file for folder in folders for file in file_names(folder)]
            found.update(f"{name} {folders}\n".encode())
            for file in [settings.artifacts / name / SERVING_FILE, *files]:
                with suppress(OSError):  # a dangling link, or a file that was just removed
                    state = file.stat()
                    found.update(f"{file} {state.st_ino} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()


def _unloaded(version: Version) -> Version:
    return Version(state="unloaded", is_served=False, reason="unloaded") if version.is_served else version


def _look(folder: Path, verify: Callable[[Path], str], examine: Examine, before: Version) -> Version:
    """Verify a version, and examine it unless it was served before with the same files."""
    if folder.name != str(int(folder.name)):
        return before.refuse("damaged", f"{folder} has zeros in front of its number: call it {int(folder.name)}")
    try:
        sha256 = verify(folder)
    except ModelUnavailable as problem:
        return before.refuse("damaged", str(problem))
    if before.is_served and before.sha256 == sha256:
        return Version(state="available", is_served=True, sha256=sha256, signature_def=before.signature_def)
    try:
        return Version(state="available", is_served=True, sha256=sha256, signature_def=dict(examine(folder)))
    except ModelUnavailable as problem:
        return before.refuse("failed", str(problem))


def _selected(settings: Settings) -> dict[str, list[int]]:
    """The models of ADDER_MODELS in its order, each with the versions that it pins; `*` stands for all others."""
    try:
        folders = sorted(folder.name for folder in settings.artifacts.iterdir())
    except OSError as error:
        raise ModelUnavailable(f"{settings.artifacts} cannot be read: {error.strerror}") from error
    others = [name for name in folders if name not in settings.selection and re.fullmatch(NAME, name)]
    return {
        model: pinned for name, pinned in settings.selection.items() for model in (others if name == "*" else [name])
    }


def _version_folders(model: Path) -> list[Path]:
    """The folders of a model's versions, the newest first; of two with the same number, the one without zeros last.

    Raises ModelUnavailable.
    """
    try:
        folders = [folder for folder in model.iterdir() if folder.name.isascii() and folder.name.isdigit()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ModelUnavailable(f"{model} cannot be read: {error.strerror}") from error
    return sorted(folders, key=lambda folder: (int(folder.name), len(folder.name)), reverse=True)


def _unserved(model: Path, versions: Mapping[int, Version]) -> ModelUnavailable:
    """The problem of a model that must be served, which is that of its newest version; the others are logged."""
    problems = [version.reason for version in versions.values() if version.reason and version.state != "not_pinned"]
    for problem in problems[1:]:
        log.error("%s", problem)
    missing = "none of the versions that ADDER_MODELS names" if versions else "no version"
    nothing = f"{model.absolute()} has {missing}: export one, or set ADDER_ARTIFACTS and ADDER_MODELS"
    return ModelUnavailable(problems[0] if problems else nothing)
