"""Reads metadata.json and checksums.txt of a version, and verifies its files without TensorFlow."""

import hashlib
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.errors import ModelUnavailable

PREDICT_FILE, DECODE_FILE = "serving_bytes.tflite", "decoding.tflite"
END = " "
DOCUMENTATION = re.compile(r"MODEL_CARD\.md|[^/]+\.png")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Golden(_Strict):
    """A query, and the answer of the model at its export, right or wrong."""

    query: str
    answer: str


class Part(_Strict):
    """A part of all queries, and how many of its answers are wrong."""

    queries: int
    wrong: int
    exact_match: float


class Margin(_Strict):
    """The smallest distance between the two most probable characters, over all queries, and its query."""

    query: str
    smallest: float


class Evidence(_Strict):
    """The accuracy of the model, as `python -m training evaluate` measured it."""

    domain: Part
    train: Part
    validation: Part
    held_out: Part
    calibration_error: float
    margin: Margin


class Metadata(_Strict):
    """The fields of metadata.json that serving reads. Other fields are documentation."""

    format_version: Literal[4]
    name: str
    version: int
    architecture: str
    alphabet: str = Field(min_length=2)
    largest_operand: int = Field(ge=0)
    query_pattern: str
    query_example: str
    batch_sizes: list[int] = Field(min_length=1)
    golden: list[Golden] = Field(min_length=1)
    evidence: Evidence | None

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.alphabet.index(END)

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

    @field_validator("alphabet")
    @classmethod
    def _has_an_end(cls, alphabet: str) -> str:
        if END not in alphabet:
            raise ValueError("the alphabet has no space, the end of an answer")
        return alphabet

    @field_validator("batch_sizes")
    @classmethod
    def _ascends(cls, sizes: list[int]) -> list[int]:
        if sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError("batch sizes must be positive and ascend")
        return sizes


class Verified(NamedTuple):
    """A complete version. `sha256` is that of its checksums.txt, in hex: it changes with every file but the
    documentation."""

    metadata: Metadata
    sha256: str


def verify(folder: Path) -> Verified:
    """Compare every file with its SHA-256, and read the metadata. The model card and its pictures are documentation,
    and are not compared.

    Raises ModelUnavailable, which names the file and the reason.
    """
    checksums = folder / "checksums.txt"
    try:
        content = checksums.read_bytes()
        lines = [line.split("  ", 1) for line in content.decode().splitlines()]
        recorded = {name: digest for digest, name in lines}
    except OSError as error:
        raise ModelUnavailable(f"{checksums} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelUnavailable(f"{checksums} is not a list of checksums") from error
    required = ["metadata.json", "saved_model.pb", PREDICT_FILE, DECODE_FILE]
    for name in dict.fromkeys([*required, *_file_names(folder), *recorded]):
        if name == checksums.name or DOCUMENTATION.fullmatch(name):
            continue
        if name not in recorded:
            raise ModelUnavailable(f"{checksums} does not name {name}")
        file = folder / name
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelUnavailable(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ModelUnavailable(f"{checksums} names {name!r}, which is not a file") from error
        if digest != recorded[name]:
            raise ModelUnavailable(
                f"{file} has changed since it was exported: its SHA-256 is not the one in {checksums}"
            )
    return Verified(_read_metadata(folder / "metadata.json"), hashlib.sha256(content).hexdigest())


def _file_names(folder: Path) -> list[str]:
    """The paths of all files in a folder, relative to it. Links are followed: a ConfigMap of Kubernetes is links into a
    hidden folder. Hidden names are no part of a version: the system and tools like git put them there."""
    names, real_paths = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real_path = Path(parent).resolve()
        folders[:] = [] if real_path in real_paths else [name for name in folders if not name.startswith(".")]
        real_paths.add(real_path)  # a link to a folder above it would never end
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
    return names


def _read_metadata(file: Path) -> Metadata:
    try:
        metadata = Metadata.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ModelUnavailable(f"{file} is not the metadata of an artifact: {field}: {first['msg']}") from error
    if (metadata.name, str(metadata.version)) != (file.parent.parent.name, file.parent.name):
        raise ModelUnavailable(f"{file} describes {metadata.name} version {metadata.version}, which is not its folder")
    return metadata
