"""What the client gives: the answers of the service, typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The artifact that answered: `sha256` is that of its checksums.txt."""

    name: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(Model):
    """A version that is served, a query that it reads, and the evidence of its accuracy."""

    network: str
    query_example: str
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    """A character that could stand at a place in the answer, and its probability."""

    character: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Character(RunnerUp):
    """A character of the answer, " " being its end, and the most probable others."""

    runners_up: Sequence[RunnerUp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One of the most probable answers."""

    answer: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An answer, and what was asked for beside it. `confidence` is the product of its characters' probabilities."""

    query: str
    answer: str
    confidence: float
    model: Model
    abstained: bool | None = None
    characters: Sequence[Character] | None = None
    alternatives: Sequence[Alternative] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Which character of a query matters to which of its answer.

    `matrix[i][j]` is by how much the probability of `characters[j]` (those of the answer, and its end where there is
    room) falls when `hidden[i]`, a character of the query, is hidden from the network.
    """

    query: str
    answer: str
    confidence: float
    hidden: Sequence[str]
    characters: Sequence[str]
    matrix: Sequence[Sequence[float]]
    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One broken rule: where (a JSON pointer), and a sentence."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem document; `example` is a body that works."""

    type: str
    title: str
    status: int
    detail: str
    errors: Sequence[FieldError] = ()
    example: Mapping[str, Any] | None = None
