"""The OpenAPI 3.1 document, out of the routes, what they say of themselves, and their schemas."""

import http
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flask import Flask
from pydantic import TypeAdapter

from service.errors import DeadlineExceeded, ProblemDocument, QueueFull, http_name
from service.models.artifact import Artifact
from service.models.metadata import Metadata
from service.openapi.examples import SAMPLES
from service.openapi.operations import Operation
from service.rest.media_types import EVENTS, JSON
from service.rest.problem_details import DIALECTS, MEDIA_TYPE, ErrorDocument, status_at

COMPONENTS = "#/components/"
ANYWHERE = (400, 414, 417, 431, 500, 501)  # what any request may get, most of it from gunicorn

HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "That of the request, or one that was made.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,128}$"},
    },
    "Server-Timing": {
        "description": "Milliseconds in the queue and in the network, where it was asked, and in all.",
        "required": True,
        "schema": {"type": "string"},
        "example": "queue;dur=0.031, network;dur=0.214, total;dur=0.702",
    },
    "ETag": {"description": "Another where the answer is another.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds until it is worth while to try again.", "schema": {"type": "integer"}},
}

PARAMETERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "Comes back with the answer where it is 1 to 128 letters, digits, or any of `._~-`.",
        "schema": {"type": "string"},
    },
    "Request-Timeout": {
        "description": "Seconds that the request may wait for the network, where they are fewer than the service's.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    "If-None-Match": {"description": "The ETag of an answer that is known.", "schema": {"type": "string"}},
}

MODES: dict[str, Any] = {EVENTS: "validation"}  # pydantic's: events have their data as text

# Of what may stand in a path; a route can have others.
VARIABLES: dict[str, Any] = {
    "model": {"$ref": f"{COMPONENTS}schemas/ModelName"},
    "version": {"$ref": f"{COMPONENTS}schemas/VersionNumber"},
}


class _Route(NamedTuple):
    """A method of a path, and what it does."""

    path: str
    method: str
    operation: Operation
    description: str
    tag: str

    @property
    def name(self) -> str:
        """Unique, and such that code may have it for a name."""
        return "_".join([self.method, *re.findall(r"\w+", self.path)])

    def problems(self) -> dict[int, list[str]]:
        """Their names by status."""
        found: dict[int, list[str]] = {}
        for problem in (*self.operation.problems, *ANYWHERE):
            name, status = (http_name(problem), problem) if isinstance(problem, int) else (problem.name, problem.status)
            found.setdefault(status_at(self.path, status), []).append(name)
        return dict(sorted(found.items()))


def document(app: Flask, artifacts: Sequence[Artifact], max_batch_queries: int) -> dict[str, Any]:
    """All routes of `app` that are described. The examples ask the first of the artifacts."""
    routes = list(_routes(app))
    schemas, components = _schemas(routes, artifacts, max_batch_queries)
    query = artifacts[0].metadata.query_example
    paths: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    for route in routes:
        operation: dict[str, Any] = {
            "operationId": route.name,
            "summary": route.operation.summary,
            "description": route.description,
            "tags": [route.tag],
            "parameters": _parameters(route, schemas, components, query),
            "responses": _answers(route, schemas),
        }
        if route.operation.bodies:
            operation["requestBody"] = {"required": True, "content": _bodies(route, schemas, query)}
        for status, names in route.problems().items():
            key = ".".join([str(status), *names, *(["error"] if DIALECTS.match(route.path) else [])])
            responses[key] = _problem(route.path, status, names)
            operation["responses"][str(status)] = {"$ref": f"{COMPONENTS}responses/{key}"}
        paths.setdefault(route.path, {})[route.method] = operation
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "neural-adder",
            "version": "1",
            "summary": "A recurrent encoder-decoder that answers addition queries",
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
            "examples": {name: {"value": sample.document} for name, sample in SAMPLES.items()},
        },
    }


def query_pattern(metadata: Metadata) -> str:
    """The form of a query with spaces around operands and operator, as far as the artifact's shows what those are."""
    operands = metadata.query_pattern.removeprefix("^").removesuffix("$").split(r"\+")
    return rf"^ *{operands[0]} *\+ *{operands[1]} *$" if len(operands) == 2 else metadata.query_pattern


def _routes(app: Flask) -> Iterator[_Route]:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        operation: Operation | None = vars(view).get("operation")
        if operation is not None:
            path = re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule)
            tag = rule.endpoint.split(".")[0].replace("_", " ")
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield _Route(path, method.lower(), operation, inspect.getdoc(view) or "", tag)


Schemas = dict[tuple[Any, Any], Any]  # by the name of a route with a media type or "arguments", and pydantic's mode


def _schemas(
    routes: list[_Route], artifacts: Sequence[Artifact], max_batch_queries: int
) -> tuple[Schemas, dict[str, Any]]:
    """Those of answers, bodies and arguments, and by name what they refer to."""
    everywhere = ProblemDocument | ErrorDocument
    wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = [("", "serialization", TypeAdapter(everywhere))]
    for route in routes:
        operation = route.operation
        for media, answer in operation.answers.items():
            wanted.append(((route.name, media), MODES.get(media, "serialization"), TypeAdapter(answer)))
        for media, body in operation.bodies.items():
            wanted.append(((route.name, media), "validation", TypeAdapter(body)))
        if operation.arguments is not None:
            wanted.append(((route.name, "arguments"), "validation", TypeAdapter(operation.arguments)))
    schemas, defined = TypeAdapter.json_schemas(wanted, ref_template=f"{COMPONENTS}schemas/{{model}}")
    return schemas, defined["$defs"] | _known(artifacts, max_batch_queries)


def _known(artifacts: Sequence[Artifact], max_batch_queries: int) -> dict[str, Any]:
    """What the schemas do not know, but the artifacts and the settings do."""
    served = [artifact.metadata for artifact in artifacts]
    length = {"minItems": 1, "maxItems": max_batch_queries}
    return {
        "Query": {
            "type": "string",
            "description": "Spaces around operands and operator are taken away.",
            "pattern": "|".join(dict.fromkeys(query_pattern(metadata) for metadata in served)),
            "examples": [served[0].query_example],
        },
        "Queries": {"type": "array", "items": {"$ref": f"{COMPONENTS}schemas/Query"}} | length,
        "Batch": {"type": "array"} | length,
        "ModelName": {"type": "string", "enum": list(dict.fromkeys(metadata.name for metadata in served))},
        "VersionNumber": {"type": "integer", "enum": sorted({metadata.version for metadata in served})},
    }


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
            [of_text] = [each for each in field.get("anyOf", [field]) if each != {"type": "null"}]
            parameter = {"name": name, "in": "query", "required": name in schema["required"], "schema": of_text}
            parameters.append(parameter | ({"example": examples[name]} if name in examples else {}))
    parameters += [{"name": name, "in": "header", **header} for name, header in operation.headers.items()]
    return parameters + [{"$ref": f"{COMPONENTS}parameters/{name}"} for name in names]


def _resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    return components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _bodies(route: _Route, schemas: Schemas, query: str) -> dict[str, Any]:
    """By media type, each with examples that work."""
    bodies: dict[str, Any] = {}
    for media, body in route.operation.bodies.items():
        bodies[media] = {"schema": schemas[(route.name, media), "validation"]}
        if hasattr(body, "examples"):
            examples = body.examples(query)
            bodies[media]["examples"] = {name: {"value": example} for name, example in examples.items()}
    return bodies


def _answers(route: _Route, schemas: Schemas) -> dict[str, Any]:
    """The response where all is well, and the one that says that nothing has changed."""
    operation = route.operation
    names = ["X-Request-ID", "Server-Timing", *(["ETag"] if operation.is_cached else [])]
    headers = {name: {"$ref": f"{COMPONENTS}headers/{name}"} for name in names}
    content = {
        media: {"schema": schemas[(route.name, media), MODES.get(media, "serialization")]}
        for media in operation.answers
    }
    answers: dict[str, Any] = {}
    if content:
        answers["200"] = {"description": operation.summary, "headers": headers, "content": content}
    if operation.is_cached:
        answers["304"] = {"description": http.HTTPStatus(304).phrase, "headers": headers}
    return answers


def _problem(path: str, status: int, names: list[str]) -> dict[str, Any]:
    """The response for the problems with these names. In another dialect only gunicorn's own are problem documents."""
    documents = {name: SAMPLES[name].document for name in names}
    response: dict[str, Any] = {
        "description": "; ".join(document["title"] for document in documents.values()),
        "content": {},
    }
    if DIALECTS.match(path):
        errors = {name: {"value": {"error": document["detail"]}} for name, document in documents.items()}
        response["content"][JSON] = {"schema": {"$ref": f"{COMPONENTS}schemas/ErrorDocument"}, "examples": errors}
        documents = {name: documents[name] for name in map(http_name, ANYWHERE) if name in documents}
    if documents:
        kinds = {"enum": [document["type"] for document in documents.values()]}
        narrowed = {"properties": {"type": kinds, "status": {"const": status}}}
        response["content"][MEDIA_TYPE] = {
            "schema": {"allOf": [{"$ref": f"{COMPONENTS}schemas/ProblemDocument"}, narrowed]},
            "examples": {name: {"$ref": f"{COMPONENTS}examples/{name}"} for name in documents},
        }
    if QueueFull.name in names:
        response["headers"] = {"Retry-After": {"$ref": f"{COMPONENTS}headers/Retry-After"}}
    return response
