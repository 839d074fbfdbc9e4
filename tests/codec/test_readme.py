"""The example that uses none of our code reads and writes what ours does."""

import os
import re
from typing import Any

import pytest

from ftjm.adapters import codec
from ftjm.core.commands import SubmitJob
from ftjm.core.events import JobQueued
from ftjm.core.model import JobSpec


@pytest.fixture
def example(monkeypatch):
    monkeypatch.chdir(codec.schema_folder().parent)
    [block] = re.findall(r"```python\n(.*?)```", (codec.schema_folder() / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, os.fspath(codec.schema_folder() / "README.md"), "exec"), names)
    return names


def test_what_it_writes_we_read(example):
    record = {"queue": "q", "job_id": "j", "spec": {"command": ["true"], "payload": b""}}
    data = example["encode"]("ftjm.commands.SubmitJob", record)
    assert codec.decode(data) == SubmitJob(queue="q", job_id="j", spec=JobSpec(command=["true"]))


def test_what_we_write_it_reads(example):
    name, fields = example["decode"](codec.encode(JobQueued(queue="q", job_id="j", run=2)))
    assert name == "ftjm.events.JobQueued"
    assert (fields["queue"], fields["run"], fields["cause"]) == ("q", 2, "COMMAND")
    assert example["decode"](b"something else") is None
