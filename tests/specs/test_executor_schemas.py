"""Each executor has a schema of its arguments, and each place that knows executors knows all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftjm import testing
from ftjm.core.state.executors import COMMAND, EXECUTORS, PYTHON
from ftjm.readmodel.documents.job import JobDocument
from ftjm.specs.executors import ARGUMENT_FIELDS, BY_NAME, written
from ftjm.specs.job import parse_job
from ftjm.worker.guard import registry


@pytest.mark.parametrize("known", [BY_NAME, registry.FACTORIES, testing.CALLS], ids=["specs", "workers", "testing"])
def test_each_place_knows_the_declared_executors(known) -> None:
    assert list(known) == list(EXECUTORS)


def test_a_job_document_has_the_arguments_of_every_executor() -> None:
    assert set(JobDocument.__struct_fields__) >= ARGUMENT_FIELDS


@pytest.mark.parametrize(
    "job",
    [
        {"command": ["convert", "a.png"]},
        {"command": ["convert", "a.png"], "payload": {"width": 200}},
        {"task": "thumbnails.resize", "args": ["a.png"], "kwargs": {"width": 200}},
        {"task": "thumbnails.resize", "args": [], "kwargs": {}},
    ],
)
def test_a_stored_job_is_shown_as_the_user_wrote_it(job: dict[str, Any]) -> None:
    spec = parse_job(job).spec
    payload = json.loads(spec.payload) if spec.payload else None
    assert written(spec.executor, spec.command, payload) == job


def test_the_field_that_asks_for_an_executor_is_found_without_a_payload() -> None:
    assert BY_NAME[COMMAND].written(["convert", "a.png"]) == {"command": ["convert", "a.png"]}
    assert BY_NAME[PYTHON].written(["thumbnails.resize"]) == {"task": "thumbnails.resize"}


@pytest.mark.parametrize("payload", [["a.png"], {"args": ["a.png"]}, {"args": [], "kwargs": {}, "more": 1}])
def test_a_payload_that_is_no_call_is_shown_as_it_is(payload: Any) -> None:
    """Programs in other languages may send a task what its worker then refuses."""
    assert written(PYTHON, ["a.b"], payload) == {"task": "a.b", "payload": payload}


def test_the_arguments_of_an_executor_that_a_newer_build_has_added_are_shown_as_they_are_stored() -> None:
    assert written("container", ["image"], {"a": 1}) == {"command": ["image"], "payload": {"a": 1}}
