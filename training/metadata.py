"""`metadata.json` and `checksums.txt` of an artifact: what a service must know of it, and that it is whole."""

import hashlib
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training import TrainingError

REPORTED = re.compile(r"metadata\.json|MODEL_CARD\.md|[^/]+\.png")  # what `evaluate`, `compare` and `report` write
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Written(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Golden(_Written):
    """A query and what this network answered when it was exported, right or wrong."""

    query: str
    answer: str


class Made(_Written):
    """Where the weights come from: the commit and command that began the training, the libraries that exported it."""

    git_commit: str
    command: str
    cell: str
    seed: int
    libraries: dict[str, str]


class Part(_Written):
    """Some of the domain, and how much of it is answered with every character right."""

    queries: int
    wrong: int
    exact_match: float


class Epoch(_Written):
    """What an epoch of the training ended with."""

    loss: float
    validation_exact_match: float


class Margin(_Written):
    """How far the first character's probability is above the second's where that is least, up to an answer's end."""

    query: str
    smallest: float


class Bin(_Written):
    """The queries whose confidence lies in one of fifteen equal bins, and the means over them."""

    queries: int
    confidence: float
    accuracy: float


class Evidence(_Written):
    """What `evaluate` counted over the whole domain; `lite_differs`: how many answers of LiteRT are not those of the
    SavedModel."""

    domain: Part
    train: Part
    validation: Part
    held_out: Part
    by_operand_length: dict[str, Part]
    by_carries: dict[str, Part]
    calibration_error: float
    reliability: list[Bin]
    margin: Margin
    lite_differs: int
    wrong_queries: list[str]


class Tried(_Written):
    """What another recipe gave. `margin` is the smallest on the validation queries."""

    name: str
    epochs: int
    train: Part
    validation: Part
    margin: float


class Metadata(_Written):
    """All of `metadata.json`."""

    format_version: Literal[3] = 3
    name: str = Field(pattern=NAME_PATTERN)
    version: int
    network: str
    alphabet: str
    largest_operand: int
    query_pattern: str
    query_example: str
    batch_sizes: list[int]
    made: Made
    golden: list[Golden]
    epochs: list[Epoch]
    tried: list[Tried]
    evidence: Evidence | None


def write(artifact: Path, metadata: Metadata) -> None:
    """Write `metadata.json`, and then `checksums.txt` over every other file, as `sha256sum --check` reads it."""
    replace(artifact / "metadata.json", metadata.model_dump_json(indent=2) + "\n")
    lines = [f"{digest}  {name}\n" for name, digest in _digests(artifact).items()]
    replace(artifact / "checksums.txt", "".join(lines))


def read(artifact: Path) -> Metadata:
    """Raises TrainingError where a file of the SavedModel is missing, changed or not ours.

    `metadata.json`, the model card and its pictures may be changed, missing or new: somebody broke off their writing
    before `write` had ended.
    """
    try:
        metadata = Metadata.model_validate_json((artifact / "metadata.json").read_bytes())
        lines = [line.split("  ", 1) for line in (artifact / "checksums.txt").read_text().splitlines()]
        recorded = {name: digest for digest, name in lines}
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise TrainingError(
            f"{artifact / 'metadata.json'} is not that of an artifact: {field}: {first['msg']}"
        ) from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{artifact} is not an artifact: {error}") from error
    found = _digests(artifact)
    for name in sorted({*recorded, *found}):
        if not REPORTED.fullmatch(name) and recorded.get(name) != found.get(name):
            raise TrainingError(f"{artifact / name} is not the file that was exported: export the artifact again")
    return metadata


def _digests(artifact: Path) -> dict[str, str]:
    files = sorted(file for file in artifact.rglob("[!.]*") if file.is_file() and file.name != "checksums.txt")
    return {str(file.relative_to(artifact)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def replace(file: Path, text: str) -> None:
    """Write a file that nobody reads half of, whenever the writing is broken off."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(file)
