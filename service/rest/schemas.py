"""Requests and responses."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from typing_extensions import TypeAliasType, TypedDict

from service.errors import ProblemDocument
from service.models.artifact import Artifact, Prediction
from service.models.metadata import Evidence
from service.models.queries import Batch, Broken, Queries, Query, whole

RUNNERS_UP = 3


# Which there are, service.openapi.document tells.
ModelName = TypeAliasType("ModelName", str)


class Choice(BaseModel):
    """Which model is asked, out of any body: by default the newest version of the first."""

    model_config = ConfigDict(strict=True)

    model: ModelName | None = None
    version: Annotated[int, Field(ge=0, lt=10**9), whole] | None = None

    @classmethod
    def example(cls, query: str) -> dict[str, Any]:
        """A body with this query."""
        return {"query": query}

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by what they ask for."""
        return {"a query": cls.example(query)}


class QueryRequest(Choice):
    """The body of POST /predict/stream and of POST /explain."""

    model_config = ConfigDict(extra="forbid")

    query: Query


class Wishes(Choice):
    """What may be asked for beside the answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    characters: bool = Field(False, description="Give each character's probability and its runners-up too.")
    min_confidence: float | None = Field(None, ge=0, le=1, description="Where the confidence is below, abstain.")


class PredictRequest(Wishes):
    """The body of POST /predict."""

    query: Query
    alternatives: Annotated[int, Field(ge=1, le=10), whole] | None = Field(None, description="Give so many answers.")

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by what they ask for."""
        plain = cls.example(query)
        return {
            "a query": plain,
            "its characters": plain | {"characters": True},
            "its alternatives": plain | {"alternatives": 3},
            "only where it is sure": plain | {"min_confidence": 0.9},
        }


def _of_queries(schema: dict[str, Any]) -> None:
    """In JSON Schema's words: each of `queries` is one, unless errors are reported."""
    schema["if"] = {"properties": {"on_error": {"const": "report"}}, "required": ["on_error"]}
    schema["else"] = {"properties": {"queries": {"$ref": "#/components/schemas/Queries"}}}


class BatchRequest(Wishes):
    """The body of POST /predict/batch."""

    model_config = ConfigDict(json_schema_extra=_of_queries)

    on_error: Literal["fail", "report"] = Field(
        "fail", description="Refuse the whole batch where a query breaks a rule, or put a problem in that one's place."
    )
    queries: Queries

    @field_validator("queries", mode="wrap", json_schema_input_type=Batch)
    @classmethod
    def _report(cls, queries: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> list[str]:
        """Where errors are reported, each query that breaks a rule as the Broken that tells it."""
        try:
            return cast(list[str], validate(queries))
        except ValidationError as error:
            bad = {each["loc"][0]: Broken(each["msg"]) for each in error.errors(include_url=False) if each["loc"]}
            if info.data.get("on_error") != "report" or not bad:
                raise
        valid = [query for index, query in enumerate(queries) if index not in bad]
        read = iter(validate(valid) if valid else [])
        return [bad[index] if index in bad else next(read) for index in range(len(queries))]

    @classmethod
    def example(cls, query: str) -> dict[str, Any]:
        """A body with this query alone."""
        return {"queries": [query]}

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by what they ask for."""
        mixed = {"queries": [query, "1+", query], "on_error": "report"}
        return {"queries": {"queries": [query, query]}, "problems in their place": mixed}


class Lines(RootModel[Any]):
    """Text: any number of lines, each a body of POST /predict."""

    @classmethod
    def examples(cls, query: str) -> dict[str, str]:
        """Bodies for the OpenAPI document, by what they ask for."""
        return {"two queries": 2 * f"{json.dumps(PredictRequest.example(query))}\n"}


class Model(BaseModel):
    """Which artifact answered; `sha256` is that of its checksums.txt, which names every other file's."""

    name: str
    version: int
    sha256: str

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """What names the artifact."""
        return cls(name=artifact.metadata.name, version=artifact.metadata.version, sha256=artifact.sha256)


class ModelEntry(Model):
    """A version that is served, and how right it is."""

    network: str
    query_example: str
    evidence: Evidence | None


class ModelsResponse(BaseModel):
    """The answer to GET /models."""

    models: list[ModelEntry]

    @classmethod
    def of(cls, served: list[Artifact]) -> Self:
        """One entry for each."""
        return cls(
            models=[
                ModelEntry(
                    **Model.of(artifact).model_dump(),
                    network=artifact.metadata.network,
                    query_example=artifact.metadata.query_example,
                    evidence=artifact.metadata.evidence,
                )
                for artifact in served
            ]
        )


class LiveResponse(BaseModel):
    """The answer to GET /health/live."""

    status: Literal["live"] = "live"


class ReadyResponse(BaseModel):
    """The answer to GET /health/ready."""

    status: Literal["ready"] = "ready"
    models: list[Model]


# Dataclasses: pydantic would validate every answer of a batch, which takes a sixth of the whole time.


@dataclass(slots=True, kw_only=True)
class RunnerUp:
    """A character that could stand at a place in the answer, and its probability."""

    character: str
    probability: float


@dataclass(slots=True, kw_only=True)
class Character(RunnerUp):
    """A character of the answer, " " being its end, and the most probable others."""

    runners_up: list[RunnerUp]

    @classmethod
    def of(cls, probabilities: npt.NDArray[np.float32], alphabet: str) -> Self:
        """The most probable of the alphabet, by the probabilities [V]."""
        likeliest = np.argsort(-probabilities, kind="stable")[: 1 + RUNNERS_UP]  # of equals the first, as argmax has it
        first, *others = [(alphabet[token], float(probabilities[token])) for token in likeliest]
        runners_up = [RunnerUp(character=character, probability=probability) for character, probability in others]
        return cls(character=first[0], probability=first[1], runners_up=runners_up)


@dataclass(slots=True, kw_only=True)
class Alternative:
    """An answer that the network could give, and its probability."""

    answer: str
    probability: float


@dataclass(slots=True, kw_only=True)
class Answer:
    """A query as the network read it, and what it answered.

    `confidence` is the product of the probabilities of the answer's characters, and of its end where there is room;
    `abstained` is whether it is below what the request wants at least.
    """

    query: str
    answer: str
    confidence: float
    abstained: bool | None = None
    characters: list[Character] | None = None

    @classmethod
    def of(cls, query: str, prediction: Prediction, wishes: Wishes, alphabet: str, **more: Any) -> Self:
        """With what the request wishes, and what a subclass has more."""
        answer, confidence = prediction.answer, prediction.confidence
        if wishes.min_confidence is not None:
            more["abstained"] = confidence < wishes.min_confidence
        if wishes.characters:
            more["characters"] = [Character.of(step, alphabet) for step in prediction.steps]
        return cls(query=query, answer=answer, confidence=confidence, **more)


@dataclass(slots=True, kw_only=True)
class PredictResponse(Answer):
    """The answer to POST /predict."""

    alternatives: list[Alternative] | None = None
    model: Model


@dataclass(slots=True, kw_only=True)
class BatchResponse:
    """The answer to POST /predict/batch, in the order of the queries; one that broke a rule has its problem there."""

    predictions: Sequence[Answer | ProblemDocument]
    model: Model


@dataclass(slots=True, kw_only=True)
class DoneResponse:
    """The last event of POST /predict/stream."""

    query: str
    answer: str
    confidence: float
    model: Model


class Event(TypedDict):
    """An event of POST /predict/stream: each character of the answer, and then the whole, or what went wrong."""

    event: Literal["character", "done", "problem"]
    data: Json[Character | DoneResponse | ProblemDocument]


@dataclass(slots=True, kw_only=True)
class ExplainResponse:
    """The answer to POST /explain.

    `matrix[i][j]` is by how much the probability of character j of the answer (its end included, where there is room)
    falls when character i of the query is hidden from the network.
    """

    query: str
    answer: str
    confidence: float
    hidden: list[str]
    characters: list[str]
    matrix: list[list[float]]
    model: Model
