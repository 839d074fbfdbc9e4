"""Commands about a schedule: declare, delete, pause, resume, trigger, backfill. `commands.py` lists all commands."""

from msgspec import field

from ftjm.core.records.command import ANY_REVISION, Command, QueueCommand
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.schedules import ScheduleSpec


class ScheduleCommand(QueueCommand, kw_only=True):
    """The envelope of a command about a schedule. Where there is no such schedule, all but `ApplySchedule` and
    `DeleteSchedule` are refused with `UNKNOWN_SCHEDULE`."""

    name: str
    """The schedule's name in its queue."""


class ApplySchedule(ScheduleCommand, kw_only=True):
    """Declare a schedule, or change its declaration.

    The same declaration again changes nothing. Refused with `INVALID`, or with `CONFLICT` if another one was made
    meanwhile.
    """

    spec: ScheduleSpec
    labels: dict[str, str] = field(default_factory=dict)
    expected_revision: int = ANY_REVISION
    """As in `ApplyQueue`."""


class DeleteSchedule(ScheduleCommand, kw_only=True):
    """Delete a schedule. Its jobs stay. Refused with `CONFLICT` if the declaration was changed meanwhile."""

    expected_revision: int = ANY_REVISION
    """As in `ApplyQueue`."""


class PauseSchedule(ScheduleCommand, kw_only=True):
    """Let the schedule fire no more. Its jobs go on. One that is paused already gets the new reason."""

    reason: str = ""
    """For people."""


class ResumeSchedule(ScheduleCommand, kw_only=True):
    """Let the schedule fire again, from now on: what fell into the pause is not caught up."""


class TriggerSchedule(ScheduleCommand, kw_only=True):
    """Make a job of the schedule now, also while it is paused.

    `command_id` must be given: the job's id is `NAME.now.COMMAND_ID`, so a repeated request gives the same job. Refused
    with `OVERLAP` where the schedule lets no two jobs overlap and the last one has not ended, and as a submission is.
    """


class BackfillSchedule(ScheduleCommand, kw_only=True):
    """Make the jobs of the instants from one time to another, both in the past; also while the schedule is paused.

    The jobs have the ids that the instants have anyway, so none comes twice. They are made little by little.
    `command_id` names the request: a repeated one is refused with `REPEATED`. Refused with `UNDER_WAY` while another
    backfill of the schedule is.
    """

    from_at: int
    to_at: int
    reprocess: Reprocess
    """Which jobs that are there already run again."""
    max_active: int
    """At most so many of the runs that it begins have not ended."""


class StopBackfill(ScheduleCommand, kw_only=True):
    """Let a backfill begin no further run. Those that it has begun go on. Refused with `UNKNOWN_BACKFILL` if it is not
    under way."""

    backfill: str
    """`command_id` of the request."""


SCHEDULE_COMMANDS: tuple[type[Command], ...] = (
    ApplySchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    TriggerSchedule,
    BackfillSchedule,
    StopBackfill,
)
