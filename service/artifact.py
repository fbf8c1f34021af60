"""One version: verify, load, warm, predict."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.problems import BrokenArtifact

LITE = "serving_bytes.tflite"
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

    format_version: Literal[2]
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


class Prediction(NamedTuple):
    """What the network said to one query.

    `probabilities` is float32 [T, V], a row for each character there is room for; those behind the end mean nothing.
    `confidence` is the product of the probabilities of the answer's characters, and of its end where there is room.
    """

    answer: str
    confidence: float
    probabilities: npt.NDArray[np.float32]

    @property
    def steps(self) -> npt.NDArray[np.float32]:
        """The rows that mean something: those of the answer's characters, and of its end where there is room."""
        return self.probabilities[: len(self.answer) + 1]


def verify(folder: Path) -> Metadata:
    """Read the metadata, and hold every file against its SHA-256, without TensorFlow. The model card and its pictures
    are for people, and may be anything.

    Raises BrokenArtifact, which names the file and the reason.
    """
    checksums = folder / "checksums.txt"
    try:
        lines = [line.split("  ", 1) for line in checksums.read_text().splitlines()]
        recorded = {name: digest for digest, name in lines}
    except OSError as error:
        raise BrokenArtifact(f"{checksums} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BrokenArtifact(f"{checksums} is not a list of checksums") from error
    files = [
        file.relative_to(folder).as_posix() for file in folder.rglob("[!.]*") if file.is_file() and file != checksums
    ]
    for name in dict.fromkeys(["metadata.json", "saved_model.pb", LITE, *files, *recorded]):
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
    return _read_metadata(folder / "metadata.json")


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


class Artifact:
    """A loaded version, warm at every batch size, as LiteRT runs it: beside the SavedModel's own signature it takes
    less at every size (tests/benchmarks/TRIED.md)."""

    def __init__(self, metadata: Metadata, networks: dict[int, "_Network"]) -> None:
        self.metadata = metadata
        self._networks = networks  # by batch size, ascending

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Verify, load and warm the version in `folder`, and ask it its golden queries.

        Raises BrokenArtifact.
        """
        metadata = verify(folder)
        try:
            # Not by its path: LiteRT maps a file, and one that is written over then kills the process.
            lite = (folder / LITE).read_bytes()
            artifact = cls(metadata, {size: _Network(lite, size) for size in metadata.batch_sizes})
            for size in metadata.batch_sizes:
                artifact.predict([metadata.query_example] * size)
            predictions = [artifact.predict([golden.query])[0] for golden in metadata.golden]
        except Exception as error:
            raise BrokenArtifact(f"{folder} cannot be loaded: {type(error).__name__}: {str(error)[:200]}") from error
        if predictions[0].probabilities.shape[-1] != len(metadata.alphabet):
            raise BrokenArtifact(f"{folder} has an alphabet of another size than the characters of its network")
        for golden, prediction in zip(metadata.golden, predictions, strict=True):
            spelled = "".join(metadata.alphabet[token] for token in prediction.probabilities.argmax(-1))
            if not spelled.startswith(prediction.answer):
                raise BrokenArtifact(f"{folder} has an alphabet in another order than its network")
            if golden.answer != prediction.answer:
                raise BrokenArtifact(
                    f"{folder} answers {golden.query} with {prediction.answer!r}, at its export with {golden.answer!r}"
                )
        return artifact

    def predict(self, queries: list[str]) -> list[Prediction]:
        """One prediction for each query, in order, by one call of the network for the next batch size.

        Raises ValueError where there are more than `batch_sizes[-1]`.
        """
        for size, network in self._networks.items():
            if size >= len(queries):
                return network(queries)
        raise ValueError(f"{len(queries)} queries are more than one call answers")


class _Network:
    """The network for batches of one size: memory for it is laid out once."""

    def __init__(self, lite: bytes, size: int) -> None:
        self._interpreter = Interpreter(model_content=lite, num_threads=1)
        signature = self._interpreter.get_signature_runner("serving_bytes")
        query, outputs = signature.get_input_details()["query"], signature.get_output_details()
        self._query, self._length = query["index"], int(query["shape"][1])
        self._outputs = [outputs[name]["index"] for name in Prediction._fields]
        del signature  # nothing may refer to an interpreter that is resized
        self._size = size
        self._interpreter.resize_tensor_input(self._query, [size, self._length])
        self._interpreter.allocate_tensors()

    def __call__(self, queries: list[str]) -> list[Prediction]:
        """What is padded to the size is dropped again."""
        padded = "".join([query.ljust(self._length) for query in queries]).ljust(self._size * self._length)
        spelling = np.frombuffer(padded.encode("ascii"), np.uint8).reshape(self._size, self._length)
        self._interpreter.set_tensor(self._query, spelling)
        self._interpreter.invoke()
        answers, confidence, probabilities = [self._interpreter.get_tensor(index) for index in self._outputs]
        length, text = answers.shape[1], answers.tobytes().decode("ascii")
        spelled = [text[start : start + length].rstrip() for start in range(0, len(queries) * length, length)]
        return list(map(Prediction, spelled, confidence.tolist(), probabilities))
