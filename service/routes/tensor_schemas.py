"""Requests and responses of the dialects that speak of tensors: TensorFlow Serving's REST API, and the Open Inference
Protocol."""

import base64
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, ValidationInfo
from pydantic import WithJsonSchema as Documented
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from service.errors import quoted
from service.models.queries import Queries, Query, broken, whole

# TensorFlow Serving's. Its requests are read by hand, since their refusals are in its words.


class Encoded(TypedDict):
    """A text in base64."""

    b64: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Instance(TypedDict):
    """The inputs of one answer, by their names."""

    query: Query | Encoded


Column = Annotated[list[Query | Encoded], Field(min_length=1)]


class NamedColumn(TypedDict):
    """The inputs of all answers, by their names."""

    query: Column


class RowsRequest(TypedDict):
    """An instance for each answer."""

    signature_name: NotRequired[Literal["", "serving_default"]]
    instances: Column | Annotated[list[Instance], Field(min_length=1)]


class ColumnsRequest(TypedDict):
    """All instances at once."""

    signature_name: NotRequired[Literal["", "serving_default"]]
    inputs: Column | NamedColumn


class TensorFlowServingRequest(RootModel[RowsRequest | ColumnsRequest]):
    """The body of POST /v1/models/<model>:predict."""

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by what they are made of."""
        return {
            "rows": {"instances": [query, query]},
            "rows by name": {"signature_name": "serving_default", "instances": [{"query": query}]},
            "columns": {"inputs": [query, query]},
            "columns by name": {"inputs": {"query": [query]}},
            "in base64": {"instances": [{"b64": base64.b64encode(query.encode()).decode()}]},
        }


class Row(TypedDict):
    """An answer."""

    answer: str
    confidence: float
    probabilities: list[list[float]]


class RowsResponse(TypedDict):
    """The answers, one by one."""

    predictions: list[Row]


class Columns(TypedDict):
    """All answers at once."""

    answer: list[str]
    confidence: list[float]
    probabilities: list[list[list[float]]]


class ColumnsResponse(TypedDict):
    """All answers at once."""

    outputs: Columns


class VersionStatus(TypedDict):
    """That a version answers; the others that TensorFlow Serving knows of are not served."""

    version: str
    state: Literal["AVAILABLE"]
    status: dict[str, str]


class StatusResponse(TypedDict):
    """The versions of a model."""

    model_version_status: list[VersionStatus]


class MetadataResponse(TypedDict):
    """Which version it is, and the signatures of its SavedModel."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]


# The Open Inference Protocol's.


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise broken("it has half of a surrogate pair: send whole characters") from error
    return text


def _queries_only(shape: list[int]) -> list[int]:
    if shape[1:] not in ([], [1]) or not shape:
        raise broken(f"{quoted(str(shape))} is not the shape of queries, [N] or [N, 1]")
    return shape


def _flat(data: object, info: ValidationInfo) -> object:
    if not isinstance(data, list):
        return data
    elements = [element for row in data for element in (row if isinstance(row, list) else [row])]
    shape = info.data.get("shape")
    if shape is not None and shape[0] != len(elements):
        raise broken(f"the shape wants {shape[0]} elements, and there are {len(elements)}")
    return elements


def _not_served(value: object) -> None:
    if value is not None:
        raise broken("it belongs to an extension that is not served: leave it out")


NotServed = Annotated[None, BeforeValidator(_not_served)]
Shape = {
    "type": "array",
    "prefixItems": [{"type": "integer", "minimum": 1}, {"const": 1}],
    "minItems": 1,
    "maxItems": 2,
}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class TensorParameters(_Strict):
    """Others mean nothing here, and are passed over; these would change what a tensor is."""

    binary_data: bool | None = None
    classification: NotServed = None
    shared_memory_region: NotServed = None


class QueryTensor(_Strict):
    """The queries: as many as the shape says, flat or each in a list of its own."""

    name: Literal["query"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[Annotated[int, whole]], AfterValidator(_queries_only), Documented(Shape)]
    parameters: TensorParameters = TensorParameters()
    data: Annotated[Queries, BeforeValidator(_flat, json_schema_input_type=list[Query | list[Query]])]


class WantedOutput(_Strict):
    """An output of the network."""

    name: Literal["answer", "confidence", "probabilities"]
    parameters: TensorParameters = TensorParameters()


class InferParameters(_Strict):
    """Whether the outputs that do not say so are in binary."""

    binary_data_output: bool = False


class InferRequest(_Strict):
    """The body of POST /v2/models/<model>/infer."""

    id: Annotated[str, AfterValidator(_whole)] = ""
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[QueryTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[WantedOutput], Field(max_length=3)] = []

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by what they ask for."""
        tensor = {"name": "query", "datatype": "BYTES", "shape": [1], "data": [query]}
        return {
            "a query": {"inputs": [tensor]},
            "its answer alone": {"id": "42", "inputs": [tensor], "outputs": [{"name": "answer"}]},
        }


class OutputTensor(TypedDict):
    """An output; one whose size is in its parameters has its data behind the JSON, in binary."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[str] | list[float]]
    parameters: NotRequired[dict[str, int]]


class InferResponse(TypedDict):
    """The answers; `id` is the request's, or was made."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ServerMetadata(TypedDict):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(TypedDict):
    """That it runs."""

    live: bool


class ServerReady(TypedDict):
    """That it can answer."""

    ready: bool


class ServerModels(TypedDict):
    """The names of the models."""

    models: list[str]


class IndexEntry(TypedDict):
    """A version that is served."""

    name: str
    version: str
    state: Literal["READY"]
    reason: str


class ModelReady(TypedDict):
    """That a version can answer."""

    name: str
    ready: bool


class TensorMetadata(TypedDict):
    """An input or an output; -1 stands for the number of queries."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
