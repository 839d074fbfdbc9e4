"""What all members of a cluster know: announced, heard without an announcement, silent, gone."""

from __future__ import annotations

import msgspec

from ftjm.core.decide.decision import Members
from ftjm.core.records.levels import UNANNOUNCED
from ftjm.core.records.messages import MemberVersion, SchedulerHeartbeat, SessionState, WorkerHeartbeat
from ftjm.engine.member_versions import LISTEN_MS, SILENT_MS, MemberVersions, agreed

NOW = 100_000
SCHEDULER = MemberVersion(member="a@h:1", name="a@h:1", role="scheduler", release="0.2.0", level=2, state_version=5)
WORKER = MemberVersion(member="s1", name="w@h:2", role="worker", release="0.2.0", level=2, state_version=0)
BEAT = SchedulerHeartbeat(instance="a@h:1", host="h", pid=1, port=1, partitions=[])
WORKER_BEAT = WorkerHeartbeat(
    session="s1",
    worker="w",
    host="h",
    pid=2,
    state=SessionState.OPEN,
    lane=0,
    lease_ms=10_000,
    slots=1,
    busy=0,
    queues=["q"],
    offers=[],
)


def members(*announced: MemberVersion) -> MemberVersions:
    found = MemberVersions(NOW - LISTEN_MS)
    for version in announced:
        found.receive_version(version, NOW)
    return found


def test_the_lowest_level_and_the_lowest_version_of_rows_count():
    older = msgspec.structs.replace(SCHEDULER, member="b@h:3", name="b@h:3", release="0.1.0", level=1, state_version=4)
    found = members(SCHEDULER, WORKER, older).agreed(NOW)
    assert found == Members(1, 4, "scheduler b@h:3 (ftjm 0.1.0, level 1, rows of version 4)")


def test_a_worker_reads_no_rows():
    assert members(SCHEDULER, WORKER).agreed(NOW).state_version == 5


def test_a_member_that_is_heard_and_announces_nothing_is_older_than_all_others():
    found = members(SCHEDULER)
    found.receive_worker(WORKER_BEAT, NOW)
    assert found.agreed(NOW).level == 0
    assert "worker w@h:2 (an ftjm that announces no version" in found.agreed(NOW).oldest
    found.receive_version(WORKER, NOW)
    assert found.agreed(NOW).level == 2
    found.receive_scheduler(msgspec.structs.replace(BEAT, instance="b@h:3"), NOW)
    assert found.agreed(NOW).state_version == 0


def test_a_member_that_is_silent_is_not_counted_and_one_that_is_heard_still_is():
    found = members(SCHEDULER, WORKER)
    found.receive_scheduler(BEAT, NOW + SILENT_MS - 1)
    assert [one.name for one in found.present(NOW + SILENT_MS)] == ["a@h:1"]
    assert (found.level("a@h:1"), found.level("s1")) == (2, 0)


def test_a_worker_with_a_long_lease_counts_between_its_heartbeats():
    lease = 4 * SILENT_MS
    found = members(SCHEDULER, WORKER)
    found.receive_worker(msgspec.structs.replace(WORKER_BEAT, lease_ms=lease), NOW)
    found.receive_version(WORKER, NOW)
    found.present(NOW + lease - 1)
    assert found.level("s1") == WORKER.level
    found.present(NOW + lease)
    assert found.level("s1") == UNANNOUNCED


def test_a_member_that_leaves_is_not_counted():
    found = members(SCHEDULER, WORKER, msgspec.structs.replace(SCHEDULER, member="api", role="api"))
    found.receive_scheduler(msgspec.structs.replace(BEAT, leaving=True), NOW)
    found.receive_worker(msgspec.structs.replace(WORKER_BEAT, state=SessionState.CLOSED), NOW)
    found.receive_version(msgspec.structs.replace(SCHEDULER, member="api", role="api", leaving=True), NOW)
    assert found.present(NOW) == []


def test_nothing_is_agreed_on_before_the_process_has_listened_for_a_while_or_without_members():
    found = MemberVersions(NOW)
    found.receive_version(SCHEDULER, NOW)
    assert found.agreed(NOW + LISTEN_MS - 1) == Members()
    assert found.agreed(NOW + LISTEN_MS).level == 2
    assert agreed([]) == Members()


def test_a_member_is_new_until_it_was_announced_and_again_once_it_has_left():
    found = MemberVersions(NOW)
    assert [found.receive_version(WORKER, NOW) for _ in range(2)] == [True, False]
    assert found.receive_version(SCHEDULER, NOW)
    assert not found.receive_version(msgspec.structs.replace(WORKER, leaving=True), NOW)
    assert found.receive_version(WORKER, NOW)
    found.present(NOW + SILENT_MS)
    assert found.receive_version(WORKER, NOW + SILENT_MS), "it was silent for so long that it was forgotten"
