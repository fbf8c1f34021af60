"""The endpoints under /v2: the server, its models, inference (specification/protocol/inference_rest.md)."""

from functools import partial
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from service.errors import InvalidArgument, ModelUnavailable, NotPermitted
from service.models.repository import Control, Repository, ServedModel
from service.openapi.operations import BODY_ERRORS, INFERENCE_ERRORS, LOOKUP_ERRORS, documented
from service.rest.body import receive, validate
from service.rest.connection import request_context
from service.rest.inference import infer
from service.rest.media_types import JSON
from service.rest.problem_details import register_error_documents
from service.routes.dialect_inputs import version_number
from service.routes.open_inference.binary_tensors import BINARY, JSON_LENGTH, build_response, load_document
from service.routes.open_inference.schemas import (
    Empty,
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerModels,
    ServerReady,
    TensorMetadata,
)
from service.settings import Settings

JSON_LENGTH_HEADER = {
    "description": "Bytes of the body that are JSON; binary data follows.",
    "schema": {"type": "integer"},
}
DATATYPES = {"DT_STRING": "BYTES", "DT_FLOAT": "FP32"}

documented_here = partial(documented, error_documents=True)


class OpenInference:
    """The endpoints of the protocol."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._repository = repository
        self._settings = settings

    @documented_here("Describe the server", ServerMetadata)
    def server(self) -> Response:
        """The name, version and extensions of the server."""
        return jsonify(ServerMetadata(name="neural-adder", version="unreleased", extensions=["binary_tensor_data"]))

    @documented_here("Report that this worker runs", ServerLive)
    def live(self) -> Response:
        """As GET /health/live."""
        return jsonify(ServerLive(live=True))

    @documented_here("Report that this worker can answer", ServerReady, problems=(ModelUnavailable,))
    def ready(self) -> Response:
        """As GET /health/ready."""
        self._repository.find()
        return jsonify(ServerReady(ready=True))

    @documented_here("List the models", ServerModels, problems=(ModelUnavailable,))
    def models(self) -> Response:
        """The names of the models."""
        names = dict.fromkeys(artifact.metadata.name for artifact in self._repository.artifacts())
        return jsonify(ServerModels(models=list(names)))

    @documented_here("List the versions of all models", list[IndexEntry], problems=(ModelUnavailable,))
    def index(self) -> Response:
        """As Triton's model repository extension defines."""
        return jsonify(
            [
                IndexEntry(
                    name=status.model,
                    version=str(status.version),
                    state="READY" if status.state == "AVAILABLE" else "UNAVAILABLE",
                    reason=status.reason or ("" if status.state == "AVAILABLE" else status.state.lower()),
                )
                for status in self._repository.statuses()
            ]
        )

    @documented_here("Describe a model", ModelMetadata, problems=(InvalidArgument, *LOOKUP_ERRORS))
    def model_metadata(self, model: str, version: str | None = None) -> Response:
        """The inputs and outputs of the model."""
        signature = self._find(model, version).artifact.signature_def
        return jsonify(
            ModelMetadata(
                name=model,
                versions=[str(artifact.metadata.version) for artifact in self._repository.artifacts(model)],
                platform="tensorflow_savedmodel",
                inputs=_tensors(signature["inputs"]),
                outputs=_tensors(signature["outputs"]),
            )
        )

    @documented_here("Report that a version can answer", ModelReady, problems=(InvalidArgument, *LOOKUP_ERRORS))
    def model_ready(self, model: str, version: str | None = None) -> Response:
        """Every version that is served can answer."""
        self._find(model, version)
        return jsonify(ModelReady(name=model, ready=True))

    @documented_here(
        "Answer queries",
        {JSON: InferResponse, BINARY: bytes},
        {JSON: InferRequest, BINARY: bytes},
        headers={JSON_LENGTH: JSON_LENGTH_HEADER},
        problems=(InvalidArgument, *BODY_ERRORS, *INFERENCE_ERRORS),
    )
    def infer(self, model: str, version: str | None = None) -> Response:
        """Outputs in binary follow the JSON, as Triton's binary tensor extension defines."""
        context = request_context()
        served = self._repository.find(model, version_number(version), request_id=context.stats.request_id)
        document = load_document(receive(request, self._settings.max_body_bytes), request.headers.get(JSON_LENGTH))
        body = validate(document, InferRequest, served.limits)
        outputs = infer(served, body.inputs[0].data, context)
        return build_response(body, context.stats.request_id, served.artifact, outputs)

    @documented_here("Load a model", Empty, problems=(NotPermitted, *LOOKUP_ERRORS))
    def load(self, model: str) -> Response:
        """Looks at the folder of the models, and responds when the model is served. A body is ignored."""
        self._control().load(model)
        return jsonify({})

    @documented_here("Unload a model", Empty, problems=(NotPermitted, *LOOKUP_ERRORS))
    def unload(self, model: str) -> Response:
        """Responds when the model is served no longer. A body is ignored."""
        self._control().unload(model)
        return jsonify({})

    def _control(self) -> Control:
        """Raises NotPermitted, and ModelUnavailable in a process that is no worker."""
        if not self._settings.repository_control:
            raise NotPermitted("ADDER_REPOSITORY_CONTROL")
        control: Control | None = current_app.extensions.get("control")
        if control is None:
            raise ModelUnavailable("the worker is starting")
        return control

    def _find(self, model: str, version: str | None) -> ServedModel:
        return self._repository.find(model, version_number(version))


def open_inference_routes(repository: Repository, settings: Settings) -> Blueprint:
    """The routes of the protocol; each route of a model exists for the newest version and for a given version."""
    endpoints = OpenInference(repository, settings)
    routes = Blueprint("open_inference", __name__, url_prefix="/v2")
    register_error_documents(routes)
    routes.get("")(endpoints.server)
    routes.get("/health/live")(endpoints.live)
    routes.get("/health/ready")(endpoints.ready)
    routes.get("/models")(endpoints.models)
    routes.post("/repository/index")(endpoints.index)
    routes.post("/repository/models/<model>/load")(endpoints.load)
    routes.post("/repository/models/<model>/unload")(endpoints.unload)
    for path in ("/models/<model>", "/models/<model>/versions/<version>"):
        routes.get(path)(endpoints.model_metadata)
        routes.get(f"{path}/ready")(endpoints.model_ready)
        routes.post(f"{path}/infer")(endpoints.infer)
    return routes


def _tensors(tensors: dict[str, Any]) -> list[TensorMetadata]:
    return [
        TensorMetadata(
            name=name,
            datatype=DATATYPES[tensor["dtype"]],
            shape=[int(dimension["size"]) for dimension in tensor["tensor_shape"]["dim"]],
        )
        for name, tensor in sorted(tensors.items())
    ]
