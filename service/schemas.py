"""Requests and responses."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from service.artifact import Prediction
from service.metadata import Evidence, Metadata
from service.problems import quoted

RUNNERS_UP = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request is held against, beside its shape: pydantic's validation context."""

    metadata: Metadata
    max_batch_queries: int


def _valid_query(text: str, info: ValidationInfo) -> str:
    """The query without the spaces around its operands and operator, in the form that the artifact names."""
    metadata = cast(Limits, info.context).metadata
    if metadata.pattern.fullmatch(text):
        return text
    like = f"like {metadata.query_example!r}"
    operands = [operand.strip(" ") for operand in text.split("+")]
    if len(operands) != 2 or not all(re.fullmatch("[0-9]+", operand) for operand in operands):
        raise _broken(f"{quoted(text)} is not a query: write two whole numbers with one '+' between, {like}")
    for operand in operands:
        if len(operand) > 1 and operand.startswith("0"):
            raise _broken(f"the operand {quoted(operand)} has a leading zero: write it without, {like}")
        # By length first: Python refuses to read very long numbers.
        if len(operand) > len(str(metadata.largest_operand)) or int(operand) > metadata.largest_operand:
            raise _broken(
                f"the operand {quoted(operand)} is too large: {metadata.largest_operand} is the largest, {like}"
            )
    query = "+".join(operands)
    if not metadata.pattern.fullmatch(query):
        raise _broken(f"{quoted(text)} does not match {metadata.query_pattern}, the form that this model reads, {like}")
    return query


def _not_too_many(queries: object, info: ValidationInfo) -> object:
    most = cast(Limits, info.context).max_batch_queries
    if isinstance(queries, list) and not 1 <= len(queries) <= most:
        raise _broken(f"a batch holds 1 to {most} queries, and this one {len(queries)}")
    return queries


def _broken(sentence: str) -> PydanticCustomError:
    # The sentence is no template: braces in it are the client's.
    return PydanticCustomError("rule", "{sentence}", {"sentence": sentence})


Query = Annotated[str, AfterValidator(_valid_query)]


class Choice(BaseModel):
    """Which model is asked, out of any body: by default the newest version of the first."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    version: int | None = Field(None, ge=0, lt=10**9)


class _Request(Choice):
    model_config = ConfigDict(extra="forbid")

    characters: bool = False


class PredictRequest(_Request):
    """The body of POST /predict."""

    query: Query

    @staticmethod
    def example(query: str) -> dict[str, Any]:
        """A body with this query."""
        return {"query": query}


class BatchRequest(_Request):
    """The body of POST /predict/batch."""

    queries: Annotated[list[Query], BeforeValidator(_not_too_many)]

    @staticmethod
    def example(query: str) -> dict[str, Any]:
        """A body with this query alone."""
        return {"queries": [query]}


class Model(BaseModel):
    """Which artifact answered."""

    name: str
    version: int

    @classmethod
    def of(cls, metadata: Metadata) -> Self:
        """Name and version out of the metadata."""
        return cls(name=metadata.name, version=metadata.version)


class ModelEntry(Model):
    """A version that is served, and how right it is."""

    network: str
    query_example: str
    evidence: Evidence | None


class ModelsResponse(BaseModel):
    """The answer to GET /models."""

    models: list[ModelEntry]

    @classmethod
    def of(cls, served: list[Metadata]) -> Self:
        """One entry for each."""
        return cls(models=[ModelEntry.model_validate(metadata, from_attributes=True) for metadata in served])


# Dataclasses: pydantic would validate every answer of a batch, which takes a sixth of the whole time.


@dataclass(slots=True, kw_only=True)
class Alternative:
    """A character that could stand at a place in the answer, and its probability."""

    character: str
    probability: float


@dataclass(slots=True, kw_only=True)
class Character(Alternative):
    """A character of the answer, " " being its end, and the most probable others."""

    runners_up: list[Alternative]


@dataclass(slots=True, kw_only=True)
class Answer:
    """A query as the network read it, and what it answered.

    `confidence` is the product of the probabilities of the answer's characters, and of its end where there is room.
    """

    query: str
    answer: str
    confidence: float
    characters: list[Character] | None = None

    @classmethod
    def of(cls, query: str, prediction: Prediction, alphabet: str | None, **more: Any) -> Self:
        """With the characters where the alphabet is given, and what a subclass has more."""
        characters = None if alphabet is None else _characters(prediction, alphabet)
        answer, confidence = prediction.answer, prediction.confidence
        return cls(query=query, answer=answer, confidence=confidence, characters=characters, **more)


@dataclass(slots=True, kw_only=True)
class PredictResponse(Answer):
    """The answer to POST /predict."""

    model: Model


@dataclass(slots=True, kw_only=True)
class BatchResponse:
    """The answer to POST /predict/batch, in the order of the queries."""

    predictions: list[Answer]
    model: Model


def _characters(prediction: Prediction, alphabet: str) -> list[Character]:
    steps = prediction.probabilities[: len(prediction.answer) + 1]  # an answer of full length has no end
    characters = []
    for probabilities in steps:
        likeliest = np.argsort(-probabilities, kind="stable")[: 1 + RUNNERS_UP]  # of equals the first, as argmax has it
        first, *others = [(alphabet[token], float(probabilities[token])) for token in likeliest]
        runners_up = [Alternative(character=character, probability=probability) for character, probability in others]
        characters.append(Character(character=first[0], probability=first[1], runners_up=runners_up))
    return characters
