"""Request and response bodies of TensorFlow Serving's REST API.

The schemas of requests are documentation: `inputs` reads requests, with TensorFlow Serving's error messages.
"""

import base64
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, RootModel
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from service.models.queries import Query


class Encoded(TypedDict):
    """Text in base64."""

    b64: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Instance(TypedDict):
    """The inputs of one row, by name."""

    query: Query | Encoded


Column = Annotated[list[Query | Encoded], Field(min_length=1)]


class NamedColumn(TypedDict):
    """The inputs of all rows, by name."""

    query: Column


class RowsRequest(TypedDict):
    """One instance per row."""

    signature_name: NotRequired[Literal["", "serving_default"]]
    instances: Column | Annotated[list[Instance], Field(min_length=1)]


class ColumnsRequest(TypedDict):
    """All rows, column by column."""

    signature_name: NotRequired[Literal["", "serving_default"]]
    inputs: Column | NamedColumn


class TensorFlowServingRequest(RootModel[RowsRequest | ColumnsRequest]):
    """The body of POST /v1/models/<model>:predict."""

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by title."""
        return {
            "rows": {"instances": [query, query]},
            "rows by name": {"signature_name": "serving_default", "instances": [{"query": query}]},
            "columns": {"inputs": [query, query]},
            "columns by name": {"inputs": {"query": [query]}},
            "in base64": {"instances": [{"b64": base64.b64encode(query.encode()).decode()}]},
        }


class Row(TypedDict):
    """The outputs of one row."""

    answer: str
    confidence: float
    probabilities: list[list[float]]


class RowsResponse(TypedDict):
    """The outputs, row by row."""

    predictions: list[Row]


class Columns(TypedDict):
    """The outputs of all rows, by name."""

    answer: list[str]
    confidence: list[float]
    probabilities: list[list[list[float]]]


class ColumnsResponse(TypedDict):
    """The outputs, column by column."""

    outputs: Columns


class VersionStatus(TypedDict):
    """The state of a version: a version in another state is not served."""

    version: str
    state: Literal["AVAILABLE"]
    status: dict[str, str]


class StatusResponse(TypedDict):
    """The versions of a model."""

    model_version_status: list[VersionStatus]


class MetadataResponse(TypedDict):
    """The version, and the signatures of its SavedModel."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]
