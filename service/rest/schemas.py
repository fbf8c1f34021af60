"""Request and response bodies of our own routes."""

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
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from typing_extensions import TypeAliasType, TypedDict

from service.errors import ProblemDocument
from service.models.artifact import Artifact
from service.models.catalog import Catalog, State
from service.models.engines import EngineName
from service.models.engines.model_output import ModelOutput
from service.models.metadata import Evidence
from service.models.queries import Batch, InvalidQuery, JsonInteger, Queries, Query

RUNNERS_UP = 3  # for each character

# openapi.document lists the names that are served.
ModelName = TypeAliasType("ModelName", str)


class ModelSelector(BaseModel):
    """The part of a body that names a model, and a version of it by its number, or by its label: by default the default
    version of the default model. A version that does not have the label does not exist."""

    model_config = ConfigDict(strict=True)

    model: ModelName | None = None
    version: Annotated[int, Field(ge=0, lt=10**9), JsonInteger] | None = None
    label: Annotated[str, Field(min_length=1, max_length=100)] | None = None

    @classmethod
    def example(cls, query: str) -> dict[str, Any]:
        """A body with the query."""
        return {"query": query}

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by title."""
        return {"a query": cls.example(query)}


class QueryRequest(ModelSelector):
    """The body of POST /predict/stream."""

    model_config = ConfigDict(extra="forbid")

    query: Query


class ExplainRequest(QueryRequest):
    """The body of POST /explain."""

    layers: bool = Field(False, description="Include the numbers that the layers hand on.")

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by title."""
        plain = cls.example(query)
        return {"a query": plain, "the numbers of its layers": plain | {"layers": True}}


class OutputOptions(ModelSelector):
    """The part of a body that selects further fields of an answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    characters: bool = Field(False, description="Include the probability of each character and its runners-up.")
    min_confidence: float | None = Field(None, ge=0, le=1, description="Set `abstained` if the confidence is below.")


class PredictRequest(OutputOptions):
    """The body of POST /predict."""

    query: Query
    alternatives: Annotated[int, Field(ge=1, le=10), JsonInteger] | None = Field(
        None, description="Include this many of the most probable answers."
    )

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by title."""
        plain = cls.example(query)
        return {
            "a query": plain,
            "its characters": plain | {"characters": True},
            "its alternatives": plain | {"alternatives": 3},
            "abstain below a confidence": plain | {"min_confidence": 0.9},
        }


def _require_valid_queries(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema: each item of `queries` is a valid query, unless errors are reported."""
    schema["if"] = {"properties": {"on_error": {"const": "report"}}, "required": ["on_error"]}
    schema["else"] = {"properties": {"queries": {"$ref": "#/components/schemas/Queries"}}}


class BatchRequest(OutputOptions):
    """The body of POST /predict/batch."""

    model_config = ConfigDict(json_schema_extra=_require_valid_queries)

    on_error: Literal["fail", "report"] = Field(
        "fail", description="For an invalid query, refuse the whole batch, or put a problem in its place."
    )
    queries: Queries

    @field_validator("queries", mode="wrap", json_schema_input_type=Batch)
    @classmethod
    def _report_invalid(cls, queries: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> list[str]:
        """Validate the queries; if errors are reported, put an InvalidQuery in the place of each bad one."""
        try:
            return cast(list[str], validate(queries))
        except ValidationError as error:
            bad = {each["loc"][0]: InvalidQuery(each["msg"]) for each in error.errors(include_url=False) if each["loc"]}
            if info.data.get("on_error") != "report" or not bad:
                raise
        valid = [query for index, query in enumerate(queries) if index not in bad]
        read = iter(validate(valid) if valid else [])
        return [bad[index] if index in bad else next(read) for index in range(len(queries))]

    @classmethod
    def example(cls, query: str) -> dict[str, Any]:
        """A body with the query alone."""
        return {"queries": [query]}

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by title."""
        mixed = {"queries": [query, "", query], "on_error": "report"}
        return {"queries": {"queries": [query, query]}, "problems in their place": mixed}


class ModelVersion(BaseModel):
    """The version that answered. `sha256` is that of its checksums.txt, which has the SHA-256 of every other file."""

    name: str
    version: int
    sha256: str

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The version of an artifact."""
        return cls(name=artifact.metadata.name, version=artifact.metadata.version, sha256=artifact.sha256)


class ModelEntry(ModelVersion):
    """A version that is served, the queries it answers, and its accuracy.

    `is_default` is whether it answers requests that name its model and no version. `reason` explains its state, unless
    it is available: it is held back if it is newer than the default and not as right; it is damaged or has failed if
    that happened to its folder after it was loaded. `hint` completes the sentence "write ...". `truth` is how its
    answers are checked for the metrics: by the sum of the numbers in the query, by sample answers, or not at all.
    """

    is_default: bool
    labels: list[str]
    state: State
    reason: str | None
    architecture: str
    engine: EngineName
    query_example: str
    hint: str
    truth: Literal["sum", "samples"] | None
    evidence: Evidence | None


class SkippedVersion(BaseModel):
    """A version in the artifacts folder that is not served, and the reason."""

    name: str
    version: int
    state: State
    reason: str


class ModelsResponse(BaseModel):
    """The response of GET /models. `problems` are why what is in the artifacts folder now does not take effect."""

    models: list[ModelEntry]
    skipped: list[SkippedVersion]
    problems: list[str]

    @classmethod
    def of(cls, served: list[Artifact], catalog: Catalog) -> Self:
        """One entry for each artifact, and for each version of the catalog that is not served."""
        known = {
            (name, number): version
            for name, model in catalog.models.items()
            for number, version in model.versions.items()
        }
        return cls(
            problems=catalog.problems(),
            skipped=[
                SkippedVersion(name=name, version=number, state=version.state, reason=version.reason or "")
                for (name, number), version in known.items()
                if not version.is_served
            ],
            models=[
                ModelEntry(
                    **ModelVersion.of(artifact).model_dump(),
                    is_default=catalog.models[artifact.metadata.name].default == artifact.metadata.version,
                    labels=catalog.models[artifact.metadata.name].serving.labels_of(artifact.metadata.version),
                    state=known[artifact.metadata.name, artifact.metadata.version].state,
                    reason=known[artifact.metadata.name, artifact.metadata.version].reason,
                    architecture=artifact.metadata.architecture,
                    engine=artifact.engine.name,
                    query_example=artifact.metadata.task.example,
                    hint=artifact.metadata.task.hint,
                    truth=artifact.metadata.task.truth,
                    evidence=artifact.metadata.evidence,
                )
                for artifact in served
            ],
        )


class LiveResponse(BaseModel):
    """The response of GET /health/live."""

    status: Literal["live"] = "live"


class ReadyResponse(BaseModel):
    """The response of GET /health/ready."""

    status: Literal["ready"] = "ready"
    models: list[ModelVersion]


# Dataclasses: pydantic would validate every answer of a batch, which takes a sixth of the time of a request.


@dataclass(slots=True, kw_only=True)
class RunnerUp:
    """Another character for a position in the answer, and its probability."""

    character: str
    probability: float


@dataclass(slots=True, kw_only=True)
class Character(RunnerUp):
    """A character of the answer, or the empty string for its end, and the most probable others."""

    runners_up: list[RunnerUp]

    @classmethod
    def of(cls, probabilities: npt.NDArray[np.float32], alphabet: list[str]) -> Self:
        """The most probable of the characters in `alphabet`, from the probabilities [V]."""
        likeliest = np.argsort(-probabilities, kind="stable")[: 1 + RUNNERS_UP]  # the first of equals, as argmax
        first, *others = [(alphabet[token], float(probabilities[token])) for token in likeliest]
        runners_up = [RunnerUp(character=character, probability=probability) for character, probability in others]
        return cls(character=first[0], probability=first[1], runners_up=runners_up)


@dataclass(slots=True, kw_only=True)
class Alternative:
    """One of the most probable answers, and its probability."""

    answer: str
    probability: float


@dataclass(slots=True, kw_only=True)
class Answer:
    """A query as the model read it, and its answer.

    `confidence` is the product of the probabilities of the answer's characters, and of its end if the answer has room
    for it; `abstained` is whether it is below the request's `min_confidence`.
    """

    query: str
    answer: str
    confidence: float
    abstained: bool | None = None
    characters: list[Character] | None = None

    @classmethod
    def of(cls, query: str, output: ModelOutput, options: OutputOptions, alphabet: list[str], **more: Any) -> Self:
        """An answer with the fields that the options select; `more` are the fields of a subclass."""
        answer, confidence = output.answer, output.confidence
        if options.min_confidence is not None:
            more["abstained"] = confidence < options.min_confidence
        if options.characters:
            more["characters"] = [Character.of(step, alphabet) for step in output.steps]
        return cls(query=query, answer=answer, confidence=confidence, **more)


@dataclass(slots=True, kw_only=True)
class PredictResponse(Answer):
    """The response of POST /predict."""

    alternatives: list[Alternative] | None = None
    model: ModelVersion


@dataclass(slots=True, kw_only=True)
class BatchResponse:
    """The response of POST /predict/batch, in the order of the queries, with a problem for each invalid query."""

    predictions: Sequence[Answer | ProblemDocument]
    model: ModelVersion


@dataclass(slots=True, kw_only=True)
class DoneResponse:
    """The last event of POST /predict/stream."""

    query: str
    answer: str
    confidence: float
    model: ModelVersion


class Event(TypedDict):
    """An event of POST /predict/stream: each character of the answer, and then the whole answer, or a problem."""

    event: Literal["character", "done", "problem"]
    data: Json[Character | DoneResponse | ProblemDocument]


@dataclass(slots=True, kw_only=True)
class Layers:
    """The numbers that the layers of the model hand on, rounded to four decimals, in a row for each character of the
    answer: `characters` of the explanation.

    `repeated` is the part of the decoder's state that is the same at each character. In the architecture
    `repeat_vector` it is the encoder's context vector, multiplied by the decoder's input weights. `states` has the
    other numbers of the decoder's state, and `probabilities` a probability for each character of `alphabet`.
    """

    alphabet: list[str]
    repeated: list[float]
    states: list[list[float]]
    probabilities: list[list[float]]

    @classmethod
    def of(cls, states: npt.NDArray[np.float32], steps: npt.NDArray[np.float32], alphabet: list[str]) -> Self:
        """From the decoder's first state and its state after each character, [1 + T, S], and probabilities [T, V]."""
        is_repeated = (states == states[0]).all(axis=0)
        rounded = states.astype(np.float64).round(4)
        return cls(
            alphabet=alphabet,
            repeated=rounded[0, is_repeated].tolist(),
            states=rounded[1:, ~is_repeated].tolist(),
            probabilities=steps.astype(np.float64).round(4).tolist(),
        )


@dataclass(slots=True, kw_only=True)
class ExplainResponse:
    """The response of POST /explain.

    `matrix[i][j]` is by how much the probability of character j of the answer (its end, "", included if the answer has
    room for it) falls when character i of the query is hidden from the model.
    """

    query: str
    answer: str
    confidence: float
    hidden: list[str]
    characters: list[str]
    matrix: list[list[float]]
    layers: Layers | None = None
    model: ModelVersion
