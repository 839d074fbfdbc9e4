"""Faults in what users write: the field, what was expected, and what was found. The same for jobs and resources."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from ftjm.runtime.errors import short
from ftjm.specs.fields import shown

PROBLEMS_MAX = 100
"""Problems that are told of one job. Each costs time to word, and a body of 1 MB may hold 45,000 of them."""
HINT_CHARACTERS_MAX = 40
"""An unknown name that is longer is compared with no known ones."""


class FieldProblem(NamedTuple):
    """A fault of one field. The path is empty if the fault is of the job or the resource as a whole."""

    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        field = ".".join(short(str(part)) for part in self.path)
        return f"{short(field, 200)}: {self.text}" if field else self.text


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[FieldProblem]:
    """The errors of pydantic in the form of ftjm's messages.

    Args:
        error: What the validation raised.
        model: The model that was validated, for the names of its fields.
    """
    return [_problem(details, model) for details in error.errors(include_url=False)[:PROBLEMS_MAX]]


def close_name(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; empty if none is."""
    close = difflib.get_close_matches(name, list(known), 1) if len(name) <= HINT_CHARACTERS_MAX else []
    return close[0] if close else ""


def _problem(details: Any, model: type[BaseModel]) -> FieldProblem:
    path = tuple(part for part in details["loc"] if part != "[key]")
    match details["type"]:
        case "value_error":
            return FieldProblem(path, str(details["ctx"]["error"]))
        case "extra_forbidden":
            known = _known_beside(model, path)
            close = close_name(str(path[-1]), known)
            hint = f"; did you mean {close}?" if close else f"; there are {', '.join(known)}"
            return FieldProblem(path, f"unknown field{hint}")
        case "missing":
            return FieldProblem(path, "expected a value, but it is missing")
        case "dict_type" | "model_type" | "model_attributes_type":
            return FieldProblem(path, f"expected names with values, but found {shown(details['input'])}")
        case _:
            return FieldProblem(path, f"{details['msg']}, but found {shown(details['input'])}")


def _known_beside(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The names of all fields beside the one at this path."""
    for part in path[:-1]:
        model = _inner(model, part) or model
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _inner(model: type[BaseModel], part: str | int) -> type[BaseModel] | None:
    """The model of a field's value; None if the field has another type."""
    for name, field in model.model_fields.items():
        if part == (field.alias or name):
            for option in (field.annotation, *get_args(field.annotation)):
                if isinstance(option, type) and issubclass(option, BaseModel):
                    return option
    return None
