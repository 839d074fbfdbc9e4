"""The OpenAPI document, made from the operations and the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ftjm import __version__
from ftjm.api.models import Problem
from ftjm.api.operations import KEY_MAX, Operation
from ftjm.api.problems import CONTENT_TYPE
from ftjm.config import NAME_PATTERN

_REF = "#/components/schemas/{model}"


def document(operations: Iterable[Operation], health: Iterable[Operation], token: bool) -> dict[str, Any]:
    """The document of these operations; `token` says that one is needed."""
    prefixed = [*((f"/api/v1{one.path}", one) for one in operations), *((one.path, one) for one in health)]
    used: set[tuple[type[BaseModel], JsonSchemaMode]] = {(Problem, "serialization")}
    for _, one in prefixed:
        used |= {(model, "serialization") for model in one.answers.values() if model}
        if one.body:
            used.add((one.body, "validation"))
    ordered = sorted(used, key=lambda pair: (pair[0].__name__, pair[1]))
    names, schemas = models_json_schema(ordered, ref_template=_REF)
    paths: dict[str, Any] = {}
    for path, one in prefixed:
        paths.setdefault(path, {})[one.method.lower()] = _operation(path, one, names, token)
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "ftjm",
            "version": __version__,
            "summary": "A fault-tolerant job manager: commands go into a replicated log, reads come from a projection.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }
    if token:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def _operation(path: str, one: Operation, names: Any, token: bool) -> dict[str, Any]:
    needs_token = token and one.group != "health"
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.group],
        "parameters": [*_path(path), *_query(one), *_headers(one)],
        "responses": {
            **{str(status): _answer(status, model, names) for status, model in one.answers.items()},
            **{
                str(status): {
                    "description": HTTPStatus(status).phrase,
                    "content": {CONTENT_TYPE: {"schema": names[(Problem, "serialization")]}},
                }
                for status in sorted({*one.problems, 403, 421, *((401,) if needs_token else ())})
            },
        },
    }
    if one.body:
        schema = names[(one.body, "validation")]
        described["requestBody"] = {"required": one.body_required, "content": {"application/json": {"schema": schema}}}
    if token and not needs_token:
        described["security"] = []
    return described


def _answer(status: int, model: type[BaseModel] | None, names: Any) -> dict[str, Any]:
    if model is None:
        return {"description": "A stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    schema = names[(model, "serialization")]
    return {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": schema}}}


def _path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME_PATTERN}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query(one: Operation) -> list[dict[str, Any]]:
    schema = one.query.model_json_schema(mode="validation")
    found = []
    for name, field in schema.get("properties", {}).items():
        described = {key: value for key, value in field.items() if key not in ("description", "title", "default")}
        # What may be left out is not sent as null.
        if options := [option for option in described.get("anyOf", []) if option != {"type": "null"}]:
            del described["anyOf"]
            described |= options[0]
        parameter = {"name": name, "in": "query", "required": False, "schema": described}
        if "description" in field:
            parameter["description"] = field["description"]
        found.append(parameter)
    return found


def _headers(one: Operation) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": KEY_MAX}
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text in one.headers
    ]
