"""Builds the OpenAPI 3.1 document from the routes of the application and their operations."""

import http
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flask import Flask
from pydantic import TypeAdapter

from service.errors import DeadlineExceeded, ProblemDocument, QueueFull, http_name
from service.models.artifact import Artifact
from service.openapi.examples import EXAMPLES
from service.openapi.operations import Operation
from service.rest.media_types import EVENTS, JSON, PROBLEM_JSON
from service.rest.problem_details import ErrorDocument, dialect_status

COMPONENTS = "#/components/"
ANY_REQUEST = (400, 414, 417, 431, 500, 501)  # statuses of any request, most of them from gunicorn

HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "The id of the request, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,128}$"},
    },
    "Server-Timing": {
        "description": "Milliseconds in the queue and in inference, if there was inference, and in total.",
        "required": True,
        "schema": {"type": "string"},
        "example": "queue;dur=0.031, inference;dur=0.214, total;dur=0.702",
    },
    "ETag": {"description": "It changes with the response.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}},
}

PARAMETERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "Returned with the response, if it is 1 to 128 letters, digits, or any of `._~-`.",
        "schema": {"type": "string"},
    },
    "Request-Timeout": {
        "description": "Seconds that the request waits for the model, at most; the limit of the service applies too.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    "If-None-Match": {"description": "The ETag of a stored response.", "schema": {"type": "string"}},
}

MODES: dict[str, Any] = {EVENTS: "validation"}  # pydantic's: the data of an event is text

# Schemas of the variables in a path; a route can define others.
VARIABLES: dict[str, Any] = {
    "model": {"$ref": f"{COMPONENTS}schemas/ModelName"},
    "version": {"$ref": f"{COMPONENTS}schemas/VersionNumber"},
}


class _Route(NamedTuple):
    """A method of a path, and its operation."""

    path: str
    method: str
    operation: Operation
    description: str
    tag: str

    @property
    def name(self) -> str:
        """A unique name, valid as an identifier."""
        return "_".join([self.method, *re.findall(r"\w+", self.path)])

    def problems(self) -> dict[int, list[str]]:
        """The names of its problems, by status."""
        found: dict[int, list[str]] = {}
        for problem in (*self.operation.problems, *ANY_REQUEST):
            name, status = (http_name(problem), problem) if isinstance(problem, int) else (problem.name, problem.status)
            found.setdefault(dialect_status(status) if self.operation.error_documents else status, []).append(name)
        return dict(sorted(found.items()))

    def problem_key(self, status: int, names: list[str]) -> str:
        """The name of the response for its problems with this status: routes with equal problems share it."""
        return ".".join([str(status), *names, *(["error"] if self.operation.error_documents else [])])


def document(app: Flask, artifacts: Sequence[Artifact], max_batch_queries: int) -> dict[str, Any]:
    """Build the document of all documented routes of `app`. The examples have the query of the first artifact."""
    routes = list(_routes(app))
    schemas, components = _schemas(routes, artifacts, max_batch_queries)
    query = artifacts[0].metadata.task.example
    paths: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = _operation(route, schemas, components, query)
        for status, names in route.problems().items():
            responses[route.problem_key(status, names)] = _problem(route.operation, status, names)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "neural-adder",
            "version": "1",
            "summary": "Recurrent encoder-decoders that answer queries character by character",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": responses,
            "parameters": {name: {"name": name, "in": "header", **rest} for name, rest in PARAMETERS.items()},
            "headers": HEADERS,
            "examples": {name: {"value": example.document} for name, example in EXAMPLES.items()},
        },
    }


def _routes(app: Flask) -> Iterator[_Route]:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        operation: Operation | None = vars(view).get("operation")
        if operation is not None:
            path = re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule)
            tag = rule.endpoint.split(".")[0].replace("_", " ")
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield _Route(path, method.lower(), operation, inspect.getdoc(view) or "", tag)


Schemas = dict[tuple[Any, Any], Any]  # by (name of a route, media type or "arguments"), and pydantic's mode


def _schemas(
    routes: list[_Route], artifacts: Sequence[Artifact], max_batch_queries: int
) -> tuple[Schemas, dict[str, Any]]:
    """The schemas of responses, bodies and arguments, and by name the schemas that they refer to."""
    errors = ProblemDocument | ErrorDocument
    requested: list[tuple[Any, Any, TypeAdapter[Any]]] = [("", "serialization", TypeAdapter(errors))]
    for route in routes:
        operation = route.operation
        for media, response in operation.responses.items():
            requested.append(((route.name, media), MODES.get(media, "serialization"), TypeAdapter(response)))
        for media, body in operation.bodies.items():
            requested.append(((route.name, media), "validation", TypeAdapter(body)))
        if operation.arguments is not None:
            requested.append(((route.name, "arguments"), "validation", TypeAdapter(operation.arguments)))
    schemas, defined = TypeAdapter.json_schemas(requested, ref_template=f"{COMPONENTS}schemas/{{model}}")
    return schemas, defined["$defs"] | _schemas_of_models(artifacts, max_batch_queries)


def _schemas_of_models(artifacts: Sequence[Artifact], max_batch_queries: int) -> dict[str, Any]:
    """The named types whose schemas depend on the artifacts and the settings."""
    served = [artifact.metadata for artifact in artifacts]
    length = {"minItems": 1, "maxItems": max_batch_queries}
    return {
        "Query": {
            "type": "string",
            "description": "The model reads the groups of the pattern, joined: text outside of them is removed.",
            "pattern": "|".join(dict.fromkeys(metadata.task.query_pattern for metadata in served)),
            "examples": [served[0].task.example],
        },
        "Queries": {"type": "array", "items": {"$ref": f"{COMPONENTS}schemas/Query"}} | length,
        "Batch": {"type": "array"} | length,
        "ModelName": {"type": "string", "enum": list(dict.fromkeys(metadata.name for metadata in served))},
        "VersionNumber": {"type": "integer", "enum": sorted({metadata.version for metadata in served})},
    }


def _operation(route: _Route, schemas: Schemas, components: dict[str, Any], query: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.operation.summary,
        "description": route.description,
        "tags": [route.tag],
        "parameters": _parameters(route, schemas, components, query),
        "responses": _responses(route, schemas),
    }
    if route.operation.bodies:
        operation["requestBody"] = {"required": True, "content": _bodies(route, schemas, query)}
    for status, names in route.problems().items():
        operation["responses"][str(status)] = {"$ref": f"{COMPONENTS}responses/{route.problem_key(status, names)}"}
    return operation


def _parameters(route: _Route, schemas: Schemas, components: dict[str, Any], query: str) -> list[dict[str, Any]]:
    operation = route.operation
    names = ["X-Request-ID"]
    if DeadlineExceeded in operation.problems:
        names.append("Request-Timeout")
    if operation.is_cached:
        names.append("If-None-Match")
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": (VARIABLES | dict(operation.variables))[name]}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if operation.arguments is not None:
        schema = _resolved(schemas[(route.name, "arguments"), "validation"], components)
        examples = operation.arguments.example(query)
        for name, field in schema["properties"].items():
            [non_null] = [each for each in field.get("anyOf", [field]) if each != {"type": "null"}]
            parameter = {"name": name, "in": "query", "required": name in schema["required"], "schema": non_null}
            parameters.append(parameter | ({"example": examples[name]} if name in examples else {}))
    parameters += [{"name": name, "in": "header", **header} for name, header in operation.headers.items()]
    return parameters + [{"$ref": f"{COMPONENTS}parameters/{name}"} for name in names]


def _resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    return components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _bodies(route: _Route, schemas: Schemas, query: str) -> dict[str, Any]:
    """The bodies by media type, each with examples that work."""
    bodies: dict[str, Any] = {}
    for media, body in route.operation.bodies.items():
        bodies[media] = {"schema": schemas[(route.name, media), "validation"]}
        if hasattr(body, "examples"):
            examples = body.examples(query)
            bodies[media]["examples"] = {name: {"value": example} for name, example in examples.items()}
    return bodies


def _responses(route: _Route, schemas: Schemas) -> dict[str, Any]:
    """The responses with status 200 and 304."""
    operation = route.operation
    names = ["X-Request-ID", "Server-Timing", *(["ETag"] if operation.is_cached else [])]
    headers = {name: {"$ref": f"{COMPONENTS}headers/{name}"} for name in names}
    content = {
        media: {"schema": schemas[(route.name, media), MODES.get(media, "serialization")]}
        for media in operation.responses
    }
    responses: dict[str, Any] = {}
    if content:
        responses["200"] = {"description": operation.summary, "headers": headers, "content": content}
    if operation.is_cached:
        responses["304"] = {"description": http.HTTPStatus(304).phrase, "headers": headers}
    return responses


def _problem(operation: Operation, status: int, names: list[str]) -> dict[str, Any]:
    """The response for the problems with these names. In other dialects only gunicorn's own are problem documents."""
    documents = {name: EXAMPLES[name].document for name in names}
    response: dict[str, Any] = {
        "description": "; ".join(document["title"] for document in documents.values()),
        "content": {},
    }
    if operation.error_documents:
        errors = {name: {"value": {"error": document["detail"]}} for name, document in documents.items()}
        response["content"][JSON] = {"schema": {"$ref": f"{COMPONENTS}schemas/ErrorDocument"}, "examples": errors}
        documents = {name: documents[name] for name in map(http_name, ANY_REQUEST) if name in documents}
    if documents:
        kinds = {"enum": [document["type"] for document in documents.values()]}
        narrowed = {"properties": {"type": kinds, "status": {"const": status}}}
        response["content"][PROBLEM_JSON] = {
            "schema": {"allOf": [{"$ref": f"{COMPONENTS}schemas/ProblemDocument"}, narrowed]},
            "examples": {name: {"$ref": f"{COMPONENTS}examples/{name}"} for name in documents},
        }
    if QueueFull.name in names:
        response["headers"] = {"Retry-After": {"$ref": f"{COMPONENTS}headers/Retry-After"}}
    return response
