"""Short forms for stories of schedules: schedule `n` of queue `q`, every minute of the Unix epoch unless said."""

from __future__ import annotations

from typing import Any

import msgspec

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.core.decide.decision import Policy
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import SCHEDULE_LEVEL
from ftjm.core.state.model import STATE_VERSION, JobSpec
from ftjm.core.state.schedules import Schedule, ScheduleSpec
from tests.core.story import NOW, POLICY, Story, command, given

FINAL = e.UpgradeFinalized(level=SCHEDULE_LEVEL, state_version=STATE_VERSION)
MINUTE = 60_000
FIRST = NOW + 20_000
"""The first whole minute after `NOW`: 00:17 of the first day of 1970."""
assert FIRST % MINUTE == 0


def schedule(**fields: Any) -> ScheduleSpec:
    recurs = {} if {"cron", "every_ms"} & fields.keys() else {"every_ms": MINUTE}
    return ScheduleSpec(**{"job": JobSpec(command=["true"]), **recurs, **fields})


def apply(
    name: str = "n",
    expected: int = c.ANY_REVISION,
    labels: dict[str, str] | None = None,
    queue: str = "q",
    **spec: Any,
) -> c.Command:
    return c.ApplySchedule(
        queue=queue, name=name, spec=schedule(**spec), labels=labels or {}, expected_revision=expected
    )


def order(kind: type[c.ScheduleCommand], **fields: Any) -> c.Command:
    return command(kind, **{"job_id": "", "name": "n", **fields})


def declared(**spec: Any) -> Story:
    """The schedule is declared at `NOW`."""
    return given(FINAL).when(apply(**spec))


def row(story: Story, name: str = "n") -> Schedule:
    found = story.state.schedule(f"q/{name}")
    assert found is not None
    return found


def fired(story: Story) -> list[str]:
    """Ids of the jobs that the newest decision made, each by a submission and a firing."""
    assert isinstance(story.decided, list)
    submitted = [event.job_id for event in story.decided if isinstance(event, e.JobSubmitted)]
    assert submitted == [event.job_id for event in story.decided if isinstance(event, e.ScheduleFired)]
    return submitted


def let_pass(story: Story, at: int, policy: Policy = POLICY) -> list[int]:
    """The instants that fire until nothing is due at this time, in their order."""
    found: list[int] = []
    while list(story.state.due(at)):
        story.when_due(at, policy)
        assert isinstance(story.decided, list)
        found += [event.instant for event in story.decided if isinstance(event, e.ScheduleFired)]
    return found


class OtherCalendar(LocalCalendar):
    """Time zones of another version, in which every instant of a cron expression is this much later, ms."""

    version = "other"

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift

    def next(self, spec: ScheduleSpec, key: str, after: int) -> int | None:
        found = super().next(spec, key, after - self.shift)
        return None if found is None else found + self.shift


def other_zones(shift: int = 0) -> Policy:
    return msgspec.structs.replace(POLICY, calendar=OtherCalendar(shift))
