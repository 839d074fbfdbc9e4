"""The settings that topics must have, and the report of differences."""

from __future__ import annotations

import dataclasses

import pytest

from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.topics import Topic
from ftjm.core.limits import CONTINUE_FOR_MAX_MS
from ftjm.runtime import config

SETTINGS = config.load(bootstrap="b:1", cluster="c", partitions=16, lanes=8, lease_seconds=15)


def _wanted(kind: str, brokers: int = 3) -> Topic:
    return next(topic for topic in topics.wanted(SETTINGS, brokers) if topic.name == f"c.{kind}")


def test_the_log_is_never_deleted_by_time_or_size() -> None:
    for kind in ("commands", "events"):
        wanted = _wanted(kind)
        assert wanted.partitions == 16
        assert (wanted.config["retention.ms"], wanted.config["retention.bytes"]) == ("-1", "-1")
        assert wanted.config["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize(("kind", "hours"), [("dispatch", 24), ("replies", 1), ("heartbeats", 1)])
def test_topics_beside_the_log_keep_records_for_a_limited_time(kind: str, hours: int) -> None:
    wanted = _wanted(kind)
    assert wanted.partitions == 8
    assert wanted.config["cleanup.policy"] == "delete"
    assert int(wanted.config["retention.ms"]) == hours * 3_600_000
    assert int(wanted.config["segment.ms"]) < int(wanted.config["retention.ms"])


def test_what_is_sent_to_a_worker_that_is_cut_off_is_kept_until_it_returns() -> None:
    hour_ms = 3_600_000
    assert CONTINUE_FOR_MAX_MS + hour_ms <= int(_wanted("dispatch").config["retention.ms"])


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
def test_replicas_follow_the_number_of_brokers(brokers: int, replicas: int, in_sync: str) -> None:
    for topic in topics.wanted(SETTINGS, brokers):
        assert topic.replication_factor == replicas
        assert topic.config["min.insync.replicas"] == in_sync
        assert topic.config["unclean.leader.election.enable"] == "false"


def test_additional_settings_of_the_user_are_no_difference() -> None:
    wanted = _wanted("events")
    found = dataclasses.replace(wanted, config={**wanted.config, "flush.messages": "1"})
    assert topics.differences(wanted, found) == []


def test_every_difference_is_reported_with_its_remedy() -> None:
    wanted = _wanted("snapshots")
    found = dataclasses.replace(
        wanted, partitions=4, replication_factor=1, config={**wanted.config, "cleanup.policy": "delete"}
    )
    found_differences = topics.differences(wanted, found)
    assert [(d.setting, d.expected, d.found) for d in found_differences] == [
        ("partitions", "16", "4"),
        ("replication factor", "3", "1"),
        ("cleanup.policy", "compact", "delete"),
    ]
    assert "FTJM_PARTITIONS=4" in found_differences[0].todo
    assert "--repair" in found_differences[2].todo


def test_the_number_of_lanes_has_its_own_setting() -> None:
    wanted = _wanted("dispatch")
    (difference,) = topics.differences(wanted, dataclasses.replace(wanted, partitions=2))
    assert "FTJM_LANES=2" in difference.todo


def test_an_absent_topic_is_to_be_created() -> None:
    (difference,) = topics.differences(_wanted("replies"), None)
    assert (difference.found, difference.todo) == ("absent", "run `ftjm topics create`")


def test_brokers_whose_settings_cannot_be_read_have_no_differences() -> None:
    assert topics.broker_differences(SETTINGS, {}) == []


def test_sessions_shorter_than_the_brokers_allow_are_an_error() -> None:
    (difference,) = topics.broker_differences(SETTINGS, {"group.min.session.timeout.ms": "10000"})
    assert (difference.severity, difference.found) == ("error", "10000")


@pytest.mark.parametrize(("session_ms", "warnings"), [("12000", 0), ("12001", 1)])
def test_a_lease_must_outlast_the_brokers_session_by_3_seconds(session_ms: str, warnings: int) -> None:
    differences = topics.broker_differences(SETTINGS, {"broker.session.timeout.ms": session_ms})
    assert [difference.severity for difference in differences] == ["warning"] * warnings
