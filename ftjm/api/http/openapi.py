"""The OpenAPI document, generated from the operations and from the structs and models that they name.

Answers are msgspec structs, and their schemas come from msgspec. Request bodies and queries are pydantic models, which
validate requests, and their schemas come from pydantic. What a client reads there is therefore what the program
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ftjm.api.http.models import ProblemDocument
from ftjm.api.http.problems import CONTENT_TYPE
from ftjm.api.http.routing import KEY_LENGTH_MAX, Operation
from ftjm.readmodel.documents.fields import Document
from ftjm.runtime.config import NAME_PATTERN
from ftjm.runtime.version import __version__

PREFIX = "/api/v1"
DESCRIPTION = """\
Commands (`POST`, `PUT`, `DELETE`) are appended to a replicated log and decided by a scheduler. Reads (`GET`) come from
a projection of the log, which is usually less than two seconds old: `freshness` in the answer says how old it is. To
read what a command has changed, give the command's `token` as `after`.

A job is named by its queue and its id, `queue/job_id`. Submitting the same job twice gives one job, so a submission
that got no answer can be sent again.

A field without a value is left out of an answer. Times are RFC 3339. Every error is a problem document (RFC 9457).
"""
_REF = "#/components/schemas/{model}"
_NULL = {"type": "null"}

Schemas = dict[type, dict[str, Any]]


def openapi_document(operations: Iterable[Operation], health: Iterable[Operation], *, token: bool) -> dict[str, Any]:
    """Generate the OpenAPI document.

    Args:
        operations: the paths below `/api/v1`.
        health: the paths at the root.
        token: whether requests need a token.
    """
    prefixed = [*((f"{PREFIX}{one.path}", one) for one in operations), *((one.path, one) for one in health)]
    schemas, components = _schemas([operation for _, operation in prefixed])
    paths: dict[str, Any] = {}
    for path, operation in prefixed:
        paths.setdefault(path, {})[operation.method.lower()] = _operation(path, operation, schemas, token=token)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "ftjm",
            "version": __version__,
            "summary": "A fault-tolerant job manager.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _schemas(operations: list[Operation]) -> tuple[Schemas, dict[str, Any]]:
    """References to the schemas of all structs and models that the operations name, and these schemas by name."""
    answers = {struct for one in operations for struct in one.answers.values() if struct} | {ProblemDocument}
    bodies = {one.body for one in operations if one.body}
    structs = sorted(answers, key=lambda struct: struct.__name__)
    references, components = msgspec.json.schema_components(structs, ref_template=_REF.replace("model", "name"))
    schemas: Schemas = dict(zip(structs, references, strict=True))
    models = sorted(bodies, key=lambda model: model.__name__)
    names, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas |= {model: names[(model, "validation")] for model in models}
    return schemas, {name: _without_null(schema) for name, schema in components.items()} | definitions["$defs"]


def _without_null(schema: Any) -> Any:
    """The schema without `null`: what has no value is left out of an answer, and no null is written for it."""
    if isinstance(schema, list):
        return [_without_null(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _without_null(value) for name, value in schema.items() if (name, value) != ("default", None)}
    if _NULL in found.get("anyOf", []):
        options = [option for option in found.pop("anyOf") if option != _NULL]
        found |= options[0] if len(options) == 1 else {"anyOf": options}
    return found


def _operation(path: str, operation: Operation, schemas: Schemas, *, token: bool) -> dict[str, Any]:
    needs_token = token and operation.group != "health"
    problems = sorted({*operation.problems, 403, 421, *((401,) if needs_token else ())})
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.group],
        "parameters": [*_path(path), *_query(operation), *_headers(operation)],
        "responses": {
            **{str(status): _answer(status, struct, schemas) for status, struct in operation.answers.items()},
            **{str(status): _problem(status, schemas) for status in problems},
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        content = {"application/json": {"schema": schemas[operation.body]}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    if token and not needs_token:
        described["security"] = []
    return described


def _problem(status: int, schemas: Schemas) -> dict[str, Any]:
    content = {CONTENT_TYPE: {"schema": schemas[ProblemDocument]}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _answer(status: int, struct: type[Document] | None, schemas: Schemas) -> dict[str, Any]:
    if struct is None:
        content = {"text/event-stream": {"schema": {"type": "string"}}}
        return {"description": "A stream of events.", "content": content}
    return {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": schemas[struct]}}}


def _path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME_PATTERN}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query(operation: Operation) -> list[dict[str, Any]]:
    model: type[BaseModel] = operation.query
    found = []
    for name, field in model.model_json_schema(mode="validation").get("properties", {}).items():
        described = {key: value for key, value in field.items() if key not in ("description", "title", "default")}
        parameter = {"name": name, "in": "query", "required": False, "schema": _without_null(described)}
        if "description" in field:
            parameter["description"] = field["description"]
        found.append(parameter)
    return found


def _headers(operation: Operation) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX}
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text in operation.headers
    ]
