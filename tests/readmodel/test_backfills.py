"""Backfills as they are read: which there are, and how far each has come."""

from __future__ import annotations

from ftjm.adapters.avro import codec
from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.history.backfills import BackfillFollower
from ftjm.readmodel import backfills
from ftjm.readmodel.documents.backfill import BackfillStatus, backfill_document
from ftjm.readmodel.documents.event import event_document
from ftjm.runtime.durations import format_time
from tests.cli.cluster import PARTITIONS, Cluster
from tests.readmodel.test_projection import send
from tests.readmodel.test_queues import reader

HOUR_MS = 3_600_000


def requested() -> Cluster:
    """Backfills of two schedules: one is under way, one is stopped."""
    cluster = Cluster()
    for queue, name in (("etl", "hourly"), ("etl", "other"), ("web", "hourly")):
        spec = ScheduleSpec(job=JobSpec(command=["true"]), every_ms=HOUR_MS)
        send(cluster, c.ApplySchedule(queue=queue, name=name, spec=spec))
        to_at = cluster.now - cluster.now % HOUR_MS
        backfill = c.BackfillSchedule(
            queue=queue,
            name=name,
            command_id="b1",
            from_at=to_at - 2 * HOUR_MS,
            to_at=to_at,
            reprocess=Reprocess.NONE,
            max_active=2,
            actor="ann@host",
        )
        send(cluster, backfill)
        cluster.decide(partition_for(queue, PARTITIONS))
    send(cluster, c.StopBackfill(queue="web", name="hourly", backfill="b1"))
    return cluster


def test_backfills_are_found_while_they_wait_and_behind_their_end():
    found = reader(requested())
    names = ["etl/hourly/b1", "etl/other/b1", "web/hourly/b1"]
    assert [name for name, _ in backfills.find_all(found, "", "", 10)] == names
    assert [name for name, _ in backfills.find_all(found, "", names[0], 1)] == names[1:2]
    assert [name for name, _ in backfills.find_all(found, "etl/hourly", "", 10)] == names[:1]
    assert backfills.find_all(found, "etl/hourly", names[0], 10) == []
    assert backfills.find(found, "etl/hourly/b2") is None
    waiting = backfills.find(found, names[0])
    assert waiting is not None
    shown = backfill_document(names[0], waiting)
    assert (shown.status, shown.instants, shown.submitted, shown.active) == (BackfillStatus.UNDER_WAY, 3, 2, 2)
    assert (shown.id, shown.schedule, shown.actor) == ("b1", "etl/hourly", "ann@host")
    stopped = backfills.find(found, names[2])
    assert stopped is not None
    assert backfill_document(names[2], stopped).status is BackfillStatus.STOPPED


def test_the_events_of_a_backfill_are_shown_with_their_times():
    cluster = requested()
    written = [record for writer in cluster.writers for record in writer.records]
    shown = [
        event_document(event, 0, 0)
        for record in written
        if isinstance(event := codec.decode(record.value), e.BackfillEvent)
    ]
    assert {document.event for document in shown} == {"BackfillBegun", "BackfillAdvanced", "BackfillStopped"}
    begun = next(document for document in shown if document.event == "BackfillBegun")
    assert (begun.details["backfill"], begun.details["name"], begun.queue) == ("b1", "hourly", "etl")
    advanced = next(document for document in shown if document.event == "BackfillAdvanced")
    assert advanced.details["counted_to"] == format_time(cluster.now - cluster.now % HOUR_MS)


def test_the_follower_makes_the_same_rows_as_the_partition():
    """Of runs that have ended it knows the number."""
    cluster = requested()
    follower = BackfillFollower.__new__(BackfillFollower)
    follower._rows, follower.known = {}, {}
    for writer in cluster.writers:
        for record in writer.records:
            event = codec.decode(record.value)
            if isinstance(event, e.BackfillBegun):
                follower.add(follower.name_of(event), follower.first(event))
            elif isinstance(event, e.BackfillAdvanced | e.BackfillStopped):
                name = follower.name_of(event)
                follower.add(name, follower.following(follower._rows[name], event))
    found = reader(cluster)
    assert follower.known == {name: backfill_document(name, row) for name, row in backfills.find_all(found, "", "", 9)}
