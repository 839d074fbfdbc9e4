"""The fields by which a job requests an executor and its arguments: one schema for each executor.

A job runs by the executor whose own field it has: `command: [convert, a.png]`, or `task: thumbnails.resize`. Beside
that field it may have the executor's other arguments (`payload`; `args` and `kwargs`), and none of another executor's.
In the log the arguments are `JobSpec.executor`, `command` and `payload`:

    as written                                        as stored
    command: [convert, a.png]    payload: {...}       command   [convert, a.png]       the JSON of payload
    task: thumbnails.resize      args, kwargs         python    [thumbnails.resize]    {"args": [...], "kwargs": {...}}

A new executor adds a model of its fields, a class derived from `ExecutorSchema`, and an entry in `SCHEMAS`. Its
name is declared in `core/state/executors.py`. Documents of jobs show the arguments as they were written: see `written`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ftjm.core import json_values
from ftjm.core.identity import DEFAULT_QUEUE
from ftjm.core.state.executors import COMMAND, PYTHON
from ftjm.specs.fields import Arguments, Command, Name, TaskName, Text


class Fields(BaseModel):
    """A group of fields that users write. An unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IdentityFields(Fields):
    """The fields that name a job. They are the first in every list of a job's fields."""

    queue: Name = Field(DEFAULT_QUEUE, description="Its queue.")
    job_id: Name | None = Field(None, description="Its id in the queue. Left out: one is made.")


class ArgumentError(Exception):
    """An argument that cannot be stored: the path to the field or to the part of it, and the problem."""

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


class ExecutorSchema:
    """The arguments of one executor, and how they are stored."""

    name: str
    """The executor, as the log names it: `JobSpec.executor`."""
    field: str
    """The field that asks for this executor."""
    description: str
    """A description of that field, for error messages."""
    others: str
    """The error text for a field of another executor beside it."""
    fields: type[IdentityFields]
    """All fields of this executor."""
    payload_field: str
    """The field that a payload which is too large is reported for."""
    payload_text: str = ""
    """The other fields that are part of the payload, for that report."""

    def command(self, given: Mapping[str, Any]) -> list[str]:
        """`JobSpec.command`, from validated fields."""
        raise NotImplementedError

    def payload(self, given: Mapping[str, Any]) -> bytes:
        """`JobSpec.payload`, from validated fields. A field that the user did not give is absent.

        Raises:
            ArgumentError: A value is not JSON.
        """
        raise NotImplementedError

    def written(self, command: list[str], payload: Any = None) -> dict[str, Any]:
        """The fields of this executor as a user writes them: the inverse of `command` and `payload`.

        Args:
            command: `JobSpec.command`.
            payload: The value of `JobSpec.payload`; None for no payload.
        """
        raise NotImplementedError


class CommandFields(IdentityFields):
    """A program to run."""

    command: Command | None = None
    payload: Any = Field(None, description="JSON, on the command's standard input.", examples=[{"width": 200}])


class CommandSchema(ExecutorSchema):
    """A program and its arguments, with JSON on its standard input."""

    name = COMMAND
    field = "command"
    description = "a command (a program and its arguments)"
    others = "expected a task beside it, but found a command, which holds its arguments"
    fields = CommandFields
    payload_field = "payload"

    def command(self, given: Mapping[str, Any]) -> list[str]:
        """The program and its arguments."""
        return list(given["command"])

    def payload(self, given: Mapping[str, Any]) -> bytes:
        """The payload as JSON; empty if there is none. A null is a payload, too. Raises ArgumentError."""
        if "payload" not in given:
            return b""
        try:
            return json_values.encode(given["payload"], "payload")
        except json_values.NotJsonError as error:
            raise ArgumentError(("payload", *error.path), error.text) from None

    def written(self, command: list[str], payload: Any = None) -> dict[str, Any]:
        """The fields `command` and `payload`."""
        return {"command": command} | ({} if payload is None else {"payload": payload})


class TaskFields(IdentityFields):
    """A Python task to call."""

    task: TaskName | None = Field(None, description="The name of a Python task, instead of a command.")
    args: Arguments | None = Field(
        None, description="What the task is called with; as is `kwargs`.", examples=[["a.png"]]
    )
    kwargs: dict[Text, Any] | None = Field(
        None, description="Named arguments of the task, of any JSON.", examples=[{"width": 200}]
    )


class TaskSchema(ExecutorSchema):
    """A Python task, by its name, and what it is called with."""

    name = PYTHON
    field = "task"
    description = "a task"
    others = "expected args and kwargs beside a task, but found a payload"
    fields = TaskFields
    payload_field = "args"
    payload_text = " with kwargs"

    def command(self, given: Mapping[str, Any]) -> list[str]:
        """The name of the task."""
        return [given["task"]]

    def payload(self, given: Mapping[str, Any]) -> bytes:
        """The call as JSON. Raises ArgumentError if an argument has no JSON."""
        try:
            return json_values.encode(
                {"args": given.get("args") or [], "kwargs": given.get("kwargs") or {}}, given["task"]
            )
        except json_values.NotJsonError as error:
            raise ArgumentError(error.path, error.text) from None

    def written(self, command: list[str], payload: Any = None) -> dict[str, Any]:
        """The fields `task`, `args` and `kwargs`. A payload that is no call is shown as it is."""
        match payload:
            case None:
                return {"task": command[0]}
            case {"args": list(args), "kwargs": dict(kwargs), **others} if not others:
                return {"task": command[0], "args": args, "kwargs": kwargs}
            case _:
                return {"task": command[0], "payload": payload}


SCHEMAS: tuple[ExecutorSchema, ...] = (CommandSchema(), TaskSchema())
"""All executors, in the order in which error messages list them."""
BY_NAME: Mapping[str, ExecutorSchema] = {schema.name: schema for schema in SCHEMAS}
ARGUMENT_FIELDS = frozenset(
    name for schema in SCHEMAS for name in schema.fields.model_fields if name not in IdentityFields.model_fields
)
"""The fields of all executors."""


def written(executor: str, command: list[str], payload: Any) -> dict[str, Any]:
    """The fields of any executor as a user writes them: see `ExecutorSchema.written`.

    The arguments of an executor that a newer build has added are shown as they are stored.
    """
    schema = BY_NAME.get(executor)
    return schema.written(command, payload) if schema else {"command": command, "payload": payload}
