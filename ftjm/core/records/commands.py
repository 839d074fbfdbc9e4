"""Commands: what a user or a worker asks a partition to do. A command may be refused.

They are records of the topic `commands`, in the partition that decides about the job. Every command leads to at least
one event that names its offset, be it `CommandRejected`.

Fields, their order and their defaults are those of `schemas/commands`; a test holds the two together.
"""

from msgspec import field

from ftjm.core.records.command import ANY_REVISION as ANY_REVISION  # noqa: PLC0414
from ftjm.core.records.command import Command as Command  # noqa: PLC0414  (other files find them with the commands)
from ftjm.core.records.command import QueueCommand as QueueCommand  # noqa: PLC0414
from ftjm.core.records.resource_commands import RESOURCE_COMMANDS
from ftjm.core.records.resource_commands import AdoptResource as AdoptResource  # noqa: PLC0414
from ftjm.core.records.resource_commands import ApplyResource as ApplyResource  # noqa: PLC0414
from ftjm.core.records.resource_commands import AskResources as AskResources  # noqa: PLC0414
from ftjm.core.records.resource_commands import ClusterCommand as ClusterCommand  # noqa: PLC0414
from ftjm.core.records.resource_commands import ConfirmAdoption as ConfirmAdoption  # noqa: PLC0414
from ftjm.core.records.resource_commands import DeleteResource as DeleteResource  # noqa: PLC0414
from ftjm.core.records.resource_commands import ReconcileResources as ReconcileResources  # noqa: PLC0414
from ftjm.core.records.resource_commands import ToldCommand as ToldCommand  # noqa: PLC0414
from ftjm.core.records.schedule_commands import SCHEDULE_COMMANDS
from ftjm.core.records.schedule_commands import ApplySchedule as ApplySchedule  # noqa: PLC0414
from ftjm.core.records.schedule_commands import BackfillSchedule as BackfillSchedule  # noqa: PLC0414
from ftjm.core.records.schedule_commands import DeleteSchedule as DeleteSchedule  # noqa: PLC0414
from ftjm.core.records.schedule_commands import PauseSchedule as PauseSchedule  # noqa: PLC0414
from ftjm.core.records.schedule_commands import ResumeSchedule as ResumeSchedule  # noqa: PLC0414
from ftjm.core.records.schedule_commands import ScheduleCommand as ScheduleCommand  # noqa: PLC0414
from ftjm.core.records.schedule_commands import StopBackfill as StopBackfill  # noqa: PLC0414
from ftjm.core.records.schedule_commands import TriggerSchedule as TriggerSchedule  # noqa: PLC0414
from ftjm.core.state.model import FailureReason, JobSpec
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.core.state.queues import QueueSpec


class SubmitJob(Command, kw_only=True):
    """Submit a job. A second submission with the same identity and content gives the same job.

    Refused with `INVALID`, `IDENTITY_TAKEN` or `OVERLOADED`.
    """

    spec: JobSpec
    awaits: bool = False
    """Whether the sender waits for the outcome, too."""
    explicit: list[str] = field(default_factory=list)
    """Names of the fields of `spec` that were given although they have their default. All other fields with their
    default were left open: the queue's defaults fill them."""


class AwaitJob(Command, kw_only=True):
    """Ask for the outcome of a job that was submitted.

    It never creates a job: one that was forgotten does not run again because a program asks for its result. Refused
    with `UNKNOWN_JOB` or `IDENTITY_TAKEN`.
    """

    spec: JobSpec
    """The job as it was submitted. A job of the same identity with another content is another job."""
    explicit: list[str] = field(default_factory=list)
    """As in `SubmitJob`."""


class CancelJob(Command, kw_only=True):
    """Cancel a job that has not ended. An attempt that runs is asked to stop."""

    reason: str = ""
    """For people."""


class HoldJob(Command, kw_only=True):
    """Keep a waiting job from starting."""

    reason: str = ""
    """For people."""


class ReleaseJob(Command, kw_only=True):
    """Let a held job start again."""


class RerunJob(Command, kw_only=True):
    """Begin a new run of an ended job.

    Each request begins one more run, so it needs a `command_id`; a repeated one is refused with `REPEATED`.
    """

    reason: str = ""
    """For people."""


class PrioritizeJob(Command, kw_only=True):
    """Change the priority of a job that has not ended. One that waits gets another place in its queue at once."""

    priority: int
    """0 to 100, higher first."""


class PauseQueue(QueueCommand, kw_only=True):
    """Start no further attempt of the queue's jobs. Attempts that were sent to a worker go on.

    The queue need not have a job. One that is paused already gets the new reason.
    """

    reason: str = ""
    """For people."""


class ResumeQueue(QueueCommand, kw_only=True):
    """Let the queue's jobs start again."""


class ApplyQueue(QueueCommand, kw_only=True):
    """Declare a queue, or change its declaration.

    The same declaration again changes nothing. Refused with `CONFLICT` if another one was made meanwhile.
    """

    spec: QueueSpec
    labels: dict[str, str] = field(default_factory=dict)
    expected_revision: int = ANY_REVISION
    """The revision that the sender has seen; 0 if the queue is not declared; `ANY_REVISION` for whichever it is."""


class DeleteQueue(QueueCommand, kw_only=True):
    """Delete a queue's declaration: the queue has the defaults again. Its jobs stay.

    Refused with `CONFLICT` if the declaration was changed meanwhile.
    """

    expected_revision: int = ANY_REVISION
    """As in `ApplyQueue`."""


class BulkJobs(QueueCommand, kw_only=True):
    """Do the same with many jobs of a queue: with those that are there when this is decided.

    The jobs are changed little by little. `command_id` names the request: a repeated one is refused with `REPEATED`.
    """

    action: BulkAction
    filter: JobFilter
    reason: str = ""
    """For people; kept with each job."""
    priority: int = 0
    """For PRIORITIZE."""


class StopBulk(QueueCommand, kw_only=True):
    """Stop a bulk request. Jobs that it has changed stay so. Refused with `UNKNOWN_BULK` if it is not under way."""

    bulk: str
    """`command_id` of the request."""


class AttemptReport(Command, kw_only=True):
    """The envelope of what a worker reports about an attempt.

    A report of an attempt that is not the job's current one is refused with `STALE_ATTEMPT`.
    """

    run: int
    """0 where the worker does not know it; the attempt's number is unique over all runs."""
    attempt: int
    session: str
    """The worker's session that the attempt was dispatched to."""


class StartAttempt(AttemptReport, kw_only=True):
    """The attempt has started."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms."""


class CompleteAttempt(AttemptReport, kw_only=True):
    """The attempt has succeeded."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms."""
    ended_at: int
    """When it ended, by the worker's clock, ms."""
    exit_code: int = 0
    result: bytes = b""
    """JSON; empty if there is none."""
    stdout: bytes = b""
    """The end of its standard output."""
    stderr: bytes = b""
    """The end of its standard error."""
    stdout_cut: int = 0
    """Bytes of standard output before the part that is kept."""
    stderr_cut: int = 0
    """Bytes of standard error before the part that is kept."""


class FailAttempt(AttemptReport, kw_only=True):
    """The attempt has failed, or the worker has given it up."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms."""
    ended_at: int
    """When it ended, by the worker's clock, ms."""
    reason: FailureReason
    error: str = ""
    """The error text, for people."""
    exit_code: int = 0
    signal: int = 0
    """Number of the signal that ended it; 0 if none did."""
    stdout: bytes = b""
    """The end of its standard output."""
    stderr: bytes = b""
    """The end of its standard error."""
    stdout_cut: int = 0
    """Bytes of standard output before the part that is kept."""
    stderr_cut: int = 0
    """Bytes of standard error before the part that is kept."""


class CheckpointAttempt(AttemptReport, kw_only=True):
    """The attempt reports its checkpoint or progress. A field with its default value leaves the earlier report."""

    data: bytes = b""
    """JSON that the run's next attempt gets."""
    progress: float = -1.0
    """0 to 1; below 0 if it is not reported."""
    text: str = ""
    """A line for people."""


class DeclineAttempt(AttemptReport, kw_only=True):
    """The worker has no room for the attempt, or stops: the job returns to its place in the queue."""

    reason: str = ""
    """For people."""


COMMANDS: tuple[type[Command], ...] = (
    SubmitJob,
    AwaitJob,
    CancelJob,
    HoldJob,
    ReleaseJob,
    RerunJob,
    PrioritizeJob,
    PauseQueue,
    ResumeQueue,
    ApplyQueue,
    DeleteQueue,
    *SCHEDULE_COMMANDS,
    BulkJobs,
    StopBulk,
    *RESOURCE_COMMANDS,
    StartAttempt,
    CompleteAttempt,
    FailAttempt,
    CheckpointAttempt,
    DeclineAttempt,
)
