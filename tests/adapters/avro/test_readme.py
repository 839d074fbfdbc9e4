"""The example that uses no code of ftjm is compatible with the codec."""

import os
import re
from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.core.records.commands import SubmitJob
from ftjm.core.records.events import JobQueued
from ftjm.core.state.model import JobSpec


@pytest.fixture
def example(monkeypatch):
    monkeypatch.chdir(codec.schema_folder().parent)
    [block] = re.findall(r"```python\n(.*?)```", (codec.schema_folder() / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, os.fspath(codec.schema_folder() / "README.md"), "exec"), names)
    return names


def test_records_of_the_example_are_read_by_the_codec(example):
    record = {"queue": "q", "job_id": "j", "spec": {"command": ["true"], "payload": b""}}
    data = example["encode"]("ftjm.commands.SubmitJob", record)
    assert codec.decode(data) == SubmitJob(queue="q", job_id="j", spec=JobSpec(command=["true"]))


def test_records_of_the_codec_are_read_by_the_example(example):
    name, fields = example["decode"](codec.encode(JobQueued(queue="q", job_id="j", run=2)))
    assert name == "ftjm.events.JobQueued"
    assert (fields["queue"], fields["run"], fields["cause"]) == ("q", 2, "COMMAND")
    assert example["decode"](b"something else") is None
