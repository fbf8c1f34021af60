"""What an artifact says of itself, and whether it is whole."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.errors import BrokenArtifact

LITE, DECODING = "serving_bytes.tflite", "decoding.tflite"
FOR_PEOPLE = re.compile(r"MODEL_CARD\.md|[^/]+\.png")


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Golden(_Read):
    """A query, and the answer that the exported network gave to it, right or wrong."""

    query: str
    answer: str


class Part(_Read):
    """Some of all queries, and how many of them are answered wrongly."""

    queries: int
    wrong: int
    exact_match: float


class Margin(_Read):
    """How far the first character's probability is above the second's at the query where that is least."""

    query: str
    smallest: float


class Evidence(_Read):
    """How right the network is, as `evaluate` counted it."""

    domain: Part
    train: Part
    validation: Part
    held_out: Part
    calibration_error: float
    margin: Margin


class Metadata(_Read):
    """What serving needs of `metadata.json`; the rest of the file is for people."""

    format_version: Literal[3]
    name: str
    version: int
    network: str
    alphabet: str = Field(min_length=2)
    largest_operand: int = Field(ge=0)
    query_pattern: str
    query_example: str
    batch_sizes: list[int] = Field(min_length=1)
    golden: list[Golden] = Field(min_length=1)
    evidence: Evidence | None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """`query_pattern`, compiled."""
        return re.compile(self.query_pattern)

    @field_validator("query_pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"the pattern cannot be compiled: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _queries_are_valid(self) -> Self:
        for query in [self.query_example, *(golden.query for golden in self.golden)]:
            if not self.pattern.fullmatch(query):
                raise ValueError(f"the query {query!r} does not match query_pattern, {self.query_pattern}")
        return self

    @field_validator("batch_sizes")
    @classmethod
    def _ascends(cls, sizes: list[int]) -> list[int]:
        if sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError("batch sizes must be positive and ascend")
        return sizes


class Verified(NamedTuple):
    """A whole version. `sha256` is that of its checksums.txt, in hex: no file but those for people can change without
    it."""

    metadata: Metadata
    sha256: str


def verify(folder: Path) -> Verified:
    """Read the metadata, and hold every file against its SHA-256, without TensorFlow. The model card and its pictures
    are for people, and may be anything.

    Raises BrokenArtifact, which names the file and the reason.
    """
    checksums = folder / "checksums.txt"
    try:
        content = checksums.read_bytes()
        lines = [line.split("  ", 1) for line in content.decode().splitlines()]
        recorded = {name: digest for digest, name in lines}
    except OSError as error:
        raise BrokenArtifact(f"{checksums} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BrokenArtifact(f"{checksums} is not a list of checksums") from error
    files = [
        file.relative_to(folder).as_posix() for file in folder.rglob("[!.]*") if file.is_file() and file != checksums
    ]
    for name in dict.fromkeys(["metadata.json", "saved_model.pb", LITE, DECODING, *files, *recorded]):
        if FOR_PEOPLE.fullmatch(name):
            continue
        if name not in recorded:
            raise BrokenArtifact(f"{checksums} does not name {name}")
        file = folder / name
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise BrokenArtifact(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise BrokenArtifact(f"{checksums} names {name!r}, which is no file") from error
        if digest != recorded[name]:
            raise BrokenArtifact(f"{file} has changed since it was exported: its SHA-256 is not the one in {checksums}")
    return Verified(_read_metadata(folder / "metadata.json"), hashlib.sha256(content).hexdigest())


def _read_metadata(file: Path) -> Metadata:
    try:
        metadata = Metadata.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise BrokenArtifact(f"{file} is not the metadata of an artifact: {field}: {first['msg']}") from error
    if (metadata.name, str(metadata.version)) != (file.parent.parent.name, file.parent.name):
        raise BrokenArtifact(
            f"{file} describes {metadata.name} version {metadata.version}, not the folder that it is in"
        )
    return metadata
