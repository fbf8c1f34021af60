"""`metadata.json` and `checksums.txt` of an artifact. training/README.md describes each field."""

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training import TrainingError, tasks
from training.recipe import HIDDEN_UNITS

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MUTABLE = re.compile(r"metadata\.json|MODEL_CARD\.md|[^/]+\.png")  # written by `evaluate` and `report`


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Rule(_Strict):
    """A mistake in a text that is not a query, as training.tasks.task.Rule describes it."""

    pattern: str
    sentence: str
    replacement: str | None


class Task(_Strict):
    """All that a service must know of a task, as training.tasks.task.Task describes it."""

    name: str
    alphabet: str
    end: str
    query_pattern: str
    rules: list[Rule]
    hint: str
    example: str
    truth: Literal["sum", "samples"] | None


class Golden(_Strict):
    """A query and the answer that the exported network gave to it, correct or not."""

    query: str
    answer: str


class Provenance(_Strict):
    """The origin of the weights: the commit and command of the training, and the libraries of the export.

    `units` is the number of hidden units. `split_by_pair` is false if queries that mirror each other may have been in
    different parts of the split, as in versions before adder/3.
    """

    git_commit: str
    command: str
    cell: str
    seed: int
    split_by_pair: bool = False
    units: int = HIDDEN_UNITS
    libraries: dict[str, str]


class Part(_Strict):
    """The accuracy on a part of the queries. An answer is correct if every character is."""

    queries: int
    wrong: int
    exact_match: float


class Epoch(_Strict):
    """The mean training loss of an epoch, the accuracy on the validation queries at its end, and the processor time of
    its steps in seconds, of all cores together. The last two are None in versions before adder/3."""

    loss: float
    validation_exact_match: float
    validation_characters: float | None = None
    core_seconds: float | None = None


class Margin(_Strict):
    """The smallest difference between the two highest probabilities of a character, and its query.

    The characters of each answer and its end are counted.
    """

    query: str
    smallest: float


class Bin(_Strict):
    """The number of queries whose confidence is in one of fifteen equal bins, and the means over them."""

    queries: int
    confidence: float
    accuracy: float


class Evidence(_Strict):
    """The accuracy on all queries, or on a sample of them, as `evaluate` measured it.

    `groups` has the accuracy by the name of a grouping, and by group. `litert_mismatches` is the number of queries that
    LiteRT answers differently from the SavedModel; None without LiteRT files.
    """

    domain: Part
    is_sample: bool
    train: Part
    validation: Part
    held_out: Part
    groups: dict[str, dict[str, Part]]
    calibration_error: float
    reliability: list[Bin]
    margin: Margin
    litert_mismatches: int | None
    wrong_queries: list[str]


class Ablation(_Strict):
    """The result of one ablation. `margin` is the smallest on the validation queries."""

    name: str
    epochs: int
    train: Part
    validation: Part
    margin: float


class Metadata(_Strict):
    """The content of `metadata.json`. `provenance` is None for a network that was trained elsewhere."""

    format_version: Literal[5] = 5
    name: str = Field(pattern=NAME_PATTERN)
    version: int
    architecture: str
    task: Task
    batch_sizes: list[int]
    provenance: Provenance | None
    golden: list[Golden]
    epochs: list[Epoch]
    ablations: list[Ablation]
    evidence: Evidence | None


def describe(task: tasks.Task) -> Task:
    """Return the description of a task."""
    fields = {name: getattr(task, name) for name in Task.model_fields}
    return Task(**fields | {"rules": [Rule(**asdict(rule)) for rule in task.rules]})


def write(artifact: Path, metadata: Metadata) -> None:
    """Write `metadata.json`, unless it has the same content, and then `checksums.txt` of all other files, in the format
    of `sha256sum --check`."""
    file = artifact / "metadata.json"
    # An older version lacks fields: what is only measured again must not get another SHA-256.
    if not file.exists() or Metadata.model_validate_json(file.read_bytes()).model_dump() != metadata.model_dump():
        write_atomically(file, metadata.model_dump_json(indent=2) + "\n")
    lines = [f"{digest}  {name}\n" for name, digest in _digests(artifact).items()]
    write_atomically(artifact / "checksums.txt", "".join(lines))


def read(artifact: Path) -> Metadata:
    """Read `metadata.json`, and compare the artifact's files with `checksums.txt`.

    Raises TrainingError if a file was changed, added or removed after the export. Exceptions are `metadata.json`, the
    model card and its pictures: their writing may have been interrupted before `write` finished.
    """
    file = artifact / "metadata.json"
    try:
        metadata = Metadata.model_validate_json(file.read_bytes())
        lines = [line.split("  ", 1) for line in (artifact / "checksums.txt").read_text().splitlines()]
        recorded = {name: digest for digest, name in lines}
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise TrainingError(f"{file} is invalid: {field}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{artifact} is not an artifact: {error}") from error
    found = _digests(artifact)
    for name in sorted({*recorded, *found}):
        if not MUTABLE.fullmatch(name) and recorded.get(name) != found.get(name):
            raise TrainingError(
                f"{artifact / name} was changed, added or removed after the export: export the network again"
            )
    return metadata


def write_atomically(file: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old content or the new, even if the process is killed."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(file)


def _digests(artifact: Path) -> dict[str, str]:
    files = sorted(file for file in artifact.rglob("[!.]*") if file.is_file() and file.name != "checksums.txt")
    return {str(file.relative_to(artifact)): sha256(file.read_bytes()) for file in files}


def sha256(content: bytes) -> str:
    """Return the digest in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
