"""Request and response bodies of the Open Inference Protocol."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic import WithJsonSchema as Documented
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from service.errors import quoted
from service.models.queries import JsonInteger, Queries, Query, rule_error


def _valid_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise rule_error("it has half of a surrogate pair: send complete characters") from error
    return text


def _queries_only(shape: list[int]) -> list[int]:
    if shape[1:] not in ([], [1]) or not shape:
        raise rule_error(f"{quoted(str(shape))} is not the shape of queries, [N] or [N, 1]")
    return shape


def _flat(data: object, info: ValidationInfo) -> object:
    if not isinstance(data, list):
        return data
    elements = [element for row in data for element in (row if isinstance(row, list) else [row])]
    shape = info.data.get("shape")
    if shape is not None and shape[0] != len(elements):
        raise rule_error(f"the shape has {shape[0]} elements, and the data {len(elements)}")
    return elements


def _not_served(value: object) -> None:
    if value is not None:
        raise rule_error("it belongs to an extension that is not served: leave it out")


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
    """The parameters that change a tensor; others are ignored."""

    binary_data: bool | None = None
    classification: NotServed = None
    shared_memory_region: NotServed = None


class QueryTensor(_Strict):
    """The queries: as many as the shape has, flat or each in a list of its own."""

    name: Literal["query"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[Annotated[int, JsonInteger]], AfterValidator(_queries_only), Documented(Shape)]
    parameters: TensorParameters = TensorParameters()
    data: Annotated[Queries, BeforeValidator(_flat, json_schema_input_type=list[Query | list[Query]])]


class RequestedOutput(_Strict):
    """An output that the request names."""

    name: Literal["answer", "confidence", "probabilities"]
    parameters: TensorParameters = TensorParameters()


class InferParameters(_Strict):
    """Whether an output without a `binary_data` parameter is in binary."""

    binary_data_output: bool = False


class InferRequest(_Strict):
    """The body of POST /v2/models/<model>/infer."""

    id: Annotated[str, AfterValidator(_valid_unicode)] = ""
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[QueryTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=3)] = []

    @classmethod
    def examples(cls, query: str) -> dict[str, dict[str, Any]]:
        """Bodies for the OpenAPI document, by title."""
        tensor = {"name": "query", "datatype": "BYTES", "shape": [1], "data": [query]}
        return {
            "a query": {"inputs": [tensor]},
            "the answer alone": {"id": "42", "inputs": [tensor], "outputs": [{"name": "answer"}]},
        }


class OutputTensor(TypedDict):
    """An output. If its parameters have its size, its data follows the JSON in binary."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[str] | list[float]]
    parameters: NotRequired[dict[str, int]]


class InferResponse(TypedDict):
    """The outputs. `id` is that of the request, or a new one."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ServerMetadata(TypedDict):
    """The response of GET /v2."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(TypedDict):
    """Whether the server runs."""

    live: bool


class ServerReady(TypedDict):
    """Whether the server can answer."""

    ready: bool


class ServerModels(TypedDict):
    """The names of the models."""

    models: list[str]


class Empty(TypedDict):
    """An object without members."""


class IndexEntry(TypedDict):
    """A version, whether it is served, and else the reason."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ModelReady(TypedDict):
    """Whether a version can answer."""

    name: str
    ready: bool


class TensorMetadata(TypedDict):
    """An input or an output; -1 in its shape is the number of queries."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """The inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
