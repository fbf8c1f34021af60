"""The responses of the service, as the client returns them: the JSON of service/rest/schemas.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

Probability = Annotated[float, Field(ge=0, le=1.001)]  # no NaN either; 0.1% is for rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """The version that answered. `sha256` is that of its checksums.txt."""

    name: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(ModelVersion):
    """A version that is served, an example of a query, and its measured accuracy, or None if it is not evaluated.

    `is_default` is whether it answers requests that name no version, and `labels` are names of it. `state` is
    "available", "held_back" (newer than the default, and not as right), or "damaged" or "failed" (since it was loaded),
    with the `reason`. `engine` runs it: "litert" or "saved_model". `hint` completes the sentence "write ..." about its
    queries. `truth` is how the service checks its answers: "sum", "samples", or None for not at all.
    """

    is_default: bool
    labels: Sequence[str]
    state: str
    reason: str | None
    architecture: str
    engine: str
    query_example: str
    hint: str
    truth: str | None
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    """Another character for a position in the answer, and its probability."""

    character: str
    probability: Probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Character(RunnerUp):
    """A character of the answer, or the empty string for its end, and the most probable others."""

    runners_up: Sequence[RunnerUp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One of the most probable answers, and its probability."""

    answer: str
    probability: Probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An answer, with the fields that the request selects.

    `confidence` is the product of the probabilities of the answer's characters, and of its end if the answer has room
    for it; `abstained` is whether it is below the request's `min_confidence`.
    """

    query: str
    answer: str
    confidence: Probability
    model: ModelVersion
    abstained: bool | None = None
    characters: Sequence[Character] | None = None
    alternatives: Sequence[Alternative] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The numbers that the layers of the model hand on, a row for each of `characters` of the explanation.

    `repeated` is the part of the decoder's state that is the same at each character, `states` the other part.
    `probabilities` has one for each character of `alphabet`.
    """

    alphabet: Sequence[str]
    repeated: Sequence[FiniteFloat]
    states: Sequence[Sequence[FiniteFloat]]
    probabilities: Sequence[Sequence[Probability]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How much each character of the query matters to each character of the answer.

    `matrix[i][j]` is by how much the probability of `characters[j]` (of the answer, or its end if the answer has room
    for it) falls when `hidden[i]`, a character of the query, is hidden from the model.
    """

    query: str
    answer: str
    confidence: Probability
    hidden: Sequence[str]
    characters: Sequence[str]
    matrix: Sequence[Sequence[FiniteFloat]]
    model: ModelVersion
    layers: Layers | None = None

    def __post_init__(self) -> None:
        if [len(row) for row in self.matrix] != [len(self.characters)] * len(self.hidden):
            raise ValueError("the matrix has another size than the characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """A broken rule: the field as a JSON pointer, and a message."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem document; `example` is a body that works, and `line` the number of the line that it answers."""

    type: str
    title: str
    status: int
    detail: str
    line: int | None = None
    errors: Sequence[FieldError] = ()
    example: Mapping[str, Any] | None = None
