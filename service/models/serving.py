"""serving.json of a model: labels of its versions, its default version, a canary, and how many versions are kept."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ModelUnavailable

SERVING_FILE = "serving.json"
CANARY = "canary"  # the label of the version that gets `canary_percent`

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]*$", max_length=100)]
Number = Annotated[int, Field(ge=0)]


class Serving(BaseModel):
    """The content of the file. All fields are optional.

    `labels` are names of versions, as TensorFlow Serving has them. `default` is a label or a version; without it, the
    default is chosen by evidence. The version with the label `canary` answers `canary_percent` of the requests that
    name no version. `shadow` is a label or a version, which gets a copy of the queries that others answer, and whose
    answers no client sees. `keep` is the number of versions that are served besides those that are named here and the
    default; without it, all are.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    labels: dict[Label, Number] = {}
    default: Label | Number | None = None
    canary_percent: float = Field(0, ge=0, le=100)
    shadow: Label | Number | None = None
    keep: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _labels_exist(self) -> Self:
        for field, named in (("default", self.default), ("shadow", self.shadow)):
            if isinstance(named, str) and named not in self.labels:
                raise ValueError(f"{field} is {named!r}, which is no label")
        if self.canary_percent and CANARY not in self.labels:
            raise ValueError(f"canary_percent requires the label {CANARY!r}")
        return self

    @property
    def default_version(self) -> int | None:
        """The number of the default version, if the file names one."""
        return self.labels[self.default] if isinstance(self.default, str) else self.default

    @property
    def shadow_version(self) -> int | None:
        """The number of the shadow, if there is one."""
        return self.labels[self.shadow] if isinstance(self.shadow, str) else self.shadow

    def named(self) -> set[int]:
        """The versions that the file names."""
        named = (*self.labels.values(), self.default_version, self.shadow_version)
        return {number for number in named if number is not None}

    def labels_of(self, version: int) -> list[str]:
        """The labels of a version."""
        return [label for label, number in self.labels.items() if number == version]

    def canary_for(self, request_id: str) -> int | None:
        """The canary's version if it answers this request: by a hash of the id, so that a retry meets the same one."""
        if not self.canary_percent:
            return None
        digest = hashlib.blake2b(request_id.encode(errors="replace"), digest_size=8).digest()
        return self.labels[CANARY] if int.from_bytes(digest) / 2**64 * 100 < self.canary_percent else None


def read_serving(model: Path, versions: Collection[int] | None = None) -> Serving:
    """Read the file in the folder of a model, if there is one. `versions` are those that can be served; None for any.

    Raises ModelUnavailable if it is damaged, or names another version.
    """
    file = model / SERVING_FILE
    try:
        return _parse(file.read_bytes(), file, versions)
    except FileNotFoundError:
        return Serving()
    except OSError as error:
        raise ModelUnavailable(f"{file} cannot be read: {error.strerror}") from error


def edit_serving(model: Path, **changes: Any) -> None:
    """Change fields of the file in the folder of a model, in one step, or create the file.

    Raises ModelUnavailable if the file is damaged, a value breaks a rule, or a version does not exist.
    """
    versions = [int(folder.name) for folder in model.glob("[0-9]*") if folder.name.isdecimal()]
    if not versions:
        raise ModelUnavailable(f"{model} has no version")
    content = json.dumps(read_serving(model, versions).model_dump(exclude_defaults=True) | changes, indent=2) + "\n"
    _parse(content.encode(), model / SERVING_FILE, versions)
    unfinished = model / f".{SERVING_FILE}.unfinished"
    unfinished.write_text(content)
    unfinished.replace(model / SERVING_FILE)


def _parse(content: bytes, file: Path, versions: Collection[int] | None) -> Serving:
    try:
        serving = Serving.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ModelUnavailable(f"{file} is invalid: {field + ': ' if field else ''}{reason}") from error
    if versions is not None and (unknown := serving.named() - set(versions)):
        raise ModelUnavailable(f"{file} names version {min(unknown)}, which cannot be served")
    return serving
