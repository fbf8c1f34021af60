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
SAMPLES_FILE = "samples.ndjson"
DOCUMENTATION = re.compile(r"MODEL_CARD\.md|[^/]+\.png")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def _require_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern cannot be compiled: {error}") from error
    return pattern


class Golden(_Strict):
    """A query, and the answer of the model at its export, right or wrong."""

    query: str
    answer: str


class Rule(_Strict):
    """A mistake in a text that is not a query.

    `pattern` finds the mistake. `{match}` in the sentence stands for the text that was found. `replacement`, in the
    syntax of Python's `re.sub`, corrects the mistake where its correction is clear.
    """

    pattern: str
    sentence: str
    replacement: str | None = None

    _compiles = field_validator("pattern")(_require_pattern)

    @model_validator(mode="after")
    def _can_be_replaced(self) -> Self:
        """Expand the replacement in a match of nothing, which has the groups of the pattern."""
        if self.replacement is not None and (match := re.match(f"(?:{self.pattern})|", "")):
            try:
                match.expand(self.replacement)
            except (re.error, IndexError) as error:
                raise ValueError(f"the replacement does not fit the pattern: {error}") from error
        return self


class Task(_Strict):
    """What a model has learned: the form of its queries and answers.

    `end` is the character that ends an answer and pads a query. A text that matches `query_pattern` is accepted; the
    query is the pattern's groups joined, so that text outside of them is dropped. The first of the `rules` that finds
    its mistake describes why another text is refused. `hint` completes the sentence "write ...".

    `truth` is how an answer is checked: by the sum of the groups that are numbers, whose last characters count if
    answers are shorter; by the samples in SAMPLES_FILE; or not at all.
    """

    alphabet: str = Field(min_length=2)
    end: str = Field(min_length=1, max_length=1)
    query_pattern: str
    rules: list[Rule]
    hint: str
    example: str
    truth: Literal["sum", "samples"] | None

    _compiles = field_validator("query_pattern")(_require_pattern)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """`query_pattern`, compiled."""
        return re.compile(self.query_pattern)

    @cached_property
    def characters(self) -> list[str]:
        """The character of each token, as responses show it: the end of an answer is the empty string."""
        return ["" if character == self.end else character for character in self.alphabet]

    @property
    def end_token(self) -> int:
        """The token of `end`: its position in the alphabet."""
        return self.alphabet.index(self.end)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.alphabet.isascii() or len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError("the alphabet must consist of different ASCII characters")
        if self.end not in self.alphabet:
            raise ValueError(f"the alphabet does not have {self.end!r}, the end of an answer")
        self.require_query(self.example)
        return self

    def require_query(self, text: str) -> None:
        """Raise ValueError if the text is not a query, or not as the model reads it."""
        match = self.pattern.fullmatch(text)
        if match is None:
            raise ValueError(f"the query {text!r} does not match query_pattern, {self.query_pattern}")
        if match.groups() and "".join(match.groups("")) != text:
            raise ValueError(f"the groups of query_pattern, {self.query_pattern}, drop a part of the query {text!r}")


class Sample(_Strict):
    """A query outside of the training set, and its right answer."""

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
    """The accuracy of the model, as `python -m training evaluate` measured it. `domain` is all queries, or a sample."""

    domain: Part
    is_sample: bool
    train: Part
    validation: Part
    held_out: Part
    calibration_error: float
    margin: Margin


class Metadata(_Strict):
    """The fields of metadata.json that serving reads. Other fields are documentation."""

    format_version: Literal[5]
    name: str
    version: int
    architecture: str
    task: Task
    batch_sizes: list[int] = Field(min_length=1)
    golden: list[Golden] = Field(min_length=1)
    evidence: Evidence | None

    @model_validator(mode="after")
    def _golden_queries_are_valid(self) -> Self:
        for golden in self.golden:
            self.task.require_query(golden.query)
        return self

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
    required = ["metadata.json", "saved_model.pb", SAMPLES_FILE]
    for name in dict.fromkeys([*required, *file_names(folder), *recorded]):
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


def file_names(folder: Path) -> list[str]:
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


def read_samples(folder: Path) -> dict[str, str]:
    """Read the right answers, by query, from SAMPLES_FILE. Raises ModelUnavailable."""
    file = folder / SAMPLES_FILE
    try:
        samples = [Sample.model_validate_json(line) for line in file.read_bytes().splitlines()]
    except ValidationError as error:
        raise ModelUnavailable(f"{file} has a line that is no sample: {error.errors()[0]['msg']}") from error
    return {sample.query: sample.answer for sample in samples}
