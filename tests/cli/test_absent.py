"""What has no value is left out. (The fixture `ftjm` looks for `null` and empty texts in all that verbs print.)"""

from __future__ import annotations

import json

import pytest

from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.topics import TopicDifference
from ftjm.cli.snapshots import _parts
from ftjm.core.records.messages import MemberVersion
from ftjm.ops.doctor import OK, Finding
from ftjm.ops.export_head import Head, Part
from ftjm.ops.upgrade import PartitionUpgrade, UpgradeStatus
from tests.cli.conftest import without_value


def test_the_answer_to_an_undecided_command_has_no_state_and_no_run(ftjm, cluster):
    cluster.deciding = False
    submitted = json.loads(ftjm("submit", "-o", "json", "--job-id", "a", "--", "x").stdout)
    assert submitted == {"job": "default/a", "answer": "in the log"}
    several = json.loads(ftjm("cancel", "a", "b", "-o", "json").stdout)
    assert several == [{"job": f"default/{job_id}", "answer": "in the log"} for job_id in "ab"]
    assert "default/a" in ftjm("cancel", "a", "b").stdout


def test_the_answer_to_a_refused_command_says_why(ftjm):
    [refused, _] = json.loads(ftjm("release", "a", "b", "-o", "json").stdout)
    assert refused["answer"] == "refused: UNKNOWN_JOB"
    assert "run" not in refused
    assert refused["why"]


def test_an_upgrade_of_unknown_owners_and_workers():
    worker = MemberVersion(member="s", name="w", role="worker", release="", level=0, state_version=0)
    document = UpgradeStatus([worker], [PartitionUpgrade(0, "", None, [])]).document()
    assert document["members"] == [{"role": "worker", "member": "w", "level": 0}]
    assert document["partitions"] == [{"partition": 0, "snapshots": [], "kept_for_older_build": []}]
    assert not list(without_value(document))


def test_a_finding_with_nothing_to_do():
    assert Finding("disk", OK, "9 GiB free").row() == {"check": "disk", "status": "ok", "found": "9 GiB free"}


def test_an_export_of_a_partition_without_a_snapshot():
    head = Head("c", 1, {}, 1, [Part(None, (0, 7), (0, 3))])
    assert _parts(head) == [{"partition": 0, "bytes": 0, "events": 7, "commands": 3}]


def test_differences_of_topics(ftjm, monkeypatch):
    missing = TopicDifference("error", "ftjm.events", "topic", "a topic", "", "run `ftjm topics create`")
    monkeypatch.setattr(topics, "check", lambda _: [missing])
    [row] = json.loads(ftjm("topics", "check", "-o", "json").stdout)
    assert "found" not in row


@pytest.mark.parametrize("document", [{"a": None}, {"a": ""}, [{"a": {"b": [{"c": ""}]}}], {"value": ""}])
def test_a_field_without_a_value_is_noticed(document):
    assert list(without_value(document))


def test_values_of_users_are_not_judged():
    assert not list(without_value({"payload": {"a": None}, "env": {"A": ""}, "stdout": ""}))
