"""Jobs as resources: what is taken, what is refused with its line, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftjm.core.identity import CONTENT_VERSION, content_hash
from ftjm.core.state.model import JobSpec
from ftjm.specs.job import JobRequest
from ftjm.specs.job_resource import SubmittedContent, written
from ftjm.specs.resource_files import InvalidResourcesError, read_resources
from ftjm.specs.resources import InvalidResourceError, Resource, document, parse_resource

HEAD = "apiVersion: ftjm.io/v1\nkind: Job\n"


def job(metadata: Any = None, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "ftjm.io/v1", "kind": "Job", "metadata": metadata or {"name": "a"}, "spec": spec}


def read(tmp_path: Path, text: str) -> Resource:
    (tmp_path / "a.yaml").write_text(text)
    [placed] = read_resources([str(tmp_path / "a.yaml")]).resources
    return placed.resource


def test_a_job_has_its_name_and_labels_in_its_metadata(tmp_path):
    text = (
        HEAD
        + """
metadata: {name: "007", labels: {n: 1.50}}
spec:
  queue: etl
  command: [load, 1.50]
  payload: {width: 1.50, none: null, on: true}
  max_attempts: 1
"""
    )
    spec = JobSpec(command=["load", "1.50"], payload=b'{"width":1.5,"none":null,"on":true}', labels={"n": "1.50"})
    request = JobRequest("etl", "007", spec, ("max_attempts",))
    assert read(tmp_path, text) == Resource("Job", "etl/007", {"n": "1.50"}, request)
    assert written(request) == {
        "queue": "etl",
        "command": ["load", "1.50"],
        "payload": {"width": 1.5, "none": None, "on": True},
        "max_attempts": 1,
    }


def test_what_is_shown_is_read_back():
    found = parse_resource(job({"name": "a", "labels": {"x": "1"}}, task="a.b", kwargs={"n": 1}, priority=50))
    assert isinstance(found.spec, JobRequest)
    fields = written(found.spec)
    assert fields.pop("queue") == "default"
    assert parse_resource(document("Job", found.name, found.labels, fields)) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("metadata: {name: a}\n", "1: spec: expected a value, but it is missing"),
        ("metadata: {name: a}\nspec: 5\n", '4: spec: expected names with values, but found "5"'),
        (
            "metadata: {name: a}\nspec: {priority: 5}\n",
            "4: spec: expected a command (a program and its arguments) or a task",
        ),
        ("metadata: {name: a}\nspec:\n  command: x\n  priority: 500\n", "6: spec.priority: expected 0 to 100"),
        ("metadata: {name: a}\nspec:\n  command: x\n  pirority: 5\n", "6: spec.pirority: unknown field; did you mean"),
        (
            "metadata: {name: a}\nspec:\n  command: x\n  job_id: b\n",
            "6: spec.job_id: expected none, since metadata.name is its id; leave it out",
        ),
        (
            "metadata: {name: a}\nspec:\n  command: x\n  labels: {a: b}\n",
            "6: spec.labels: expected none, since metadata.labels are its labels; leave it out",
        ),
        ("metadata: {name: a, queue: q}\nspec: {command: x}\n", "3: metadata.queue: unknown field"),
        ("metadata: {name: a/b}\nspec: {command: x}\n", "3: metadata.name: expected"),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path, text, problem):
    with pytest.raises(InvalidResourcesError) as caught:
        read(tmp_path, HEAD + text)
    [found] = caught.value.problems
    assert found.startswith(f"{tmp_path}/a.yaml:{problem}")


def test_a_job_that_is_too_large_is_refused():
    with pytest.raises(InvalidResourceError, match=r"spec\.payload: expected at most 262144 bytes"):
        parse_resource(job(command="x", payload="x" * 300_000))


@pytest.mark.parametrize("version", [1, 2, CONTENT_VERSION])
def test_a_job_that_exists_is_known_by_the_version_of_its_hash(version):
    request = parse_resource(job(command="x", max_attempts=1)).spec
    assert isinstance(request, JobRequest)
    open_one = parse_resource(job(command="x")).spec
    assert isinstance(open_one, JobRequest)
    there = SubmittedContent(version, content_hash(request.spec, version, request.explicit))
    assert there.is_same(request)
    assert there.is_same(open_one) == (version < CONTENT_VERSION)
    assert not there.is_same(request._replace(spec=JobSpec(command=["y"])))
