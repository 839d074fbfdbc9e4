"""The verbs that send a command to jobs: cancel, hold, release, rerun, prioritize."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ftjm.cli import answers
from ftjm.cli.options import PATIENCE, Connection, Jobs, OutputFormat, Patience, job_names
from ftjm.cli.output import Output
from ftjm.cli.verbs import add_verb

if TYPE_CHECKING:
    from ftjm.core.records.commands import Command

Reason = Annotated[str, typer.Option(help="Why; shown in the job's history.")]


def register(group: typer.Typer) -> None:
    """Add `cancel`, `hold`, `release`, `rerun` and `prioritize`."""
    for verb in (cancel, hold, release, rerun, prioritize):
        add_verb(group, verb)


def cancel(
    connection: Connection,
    jobs: Jobs,
    reason: Reason = "",
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Cancel jobs: a waiting one at once; a running one gets SIGTERM, and SIGKILL after its grace period.

    A running job stays RUNNING until it has stopped. If it ends before it is stopped, its own outcome counts.

    \b
    Examples:
      ftjm cancel thumbnails/a-200 --reason "wrong width"
    """
    from ftjm.core.records.commands import CancelJob

    def make(queue: str, job_id: str) -> Command:
        return CancelJob(queue=queue, job_id=job_id, reason=reason)

    _send(connection, jobs, make, patience, output)


def hold(
    connection: Connection,
    jobs: Jobs,
    reason: Reason = "",
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Keep waiting jobs from starting, until they are released or cancelled.

    \b
    Examples:
      ftjm hold thumbnails/a-200 --reason "disk is full"
    """
    from ftjm.core.records.commands import HoldJob

    def make(queue: str, job_id: str) -> Command:
        return HoldJob(queue=queue, job_id=job_id, reason=reason)

    _send(connection, jobs, make, patience, output)


def release(
    connection: Connection, jobs: Jobs, patience: Patience = PATIENCE, output: OutputFormat = Output.table
) -> None:
    """Release held jobs: each continues from the state in which it was held.

    \b
    Examples:
      ftjm release thumbnails/a-200
    """
    from ftjm.core.records.commands import ReleaseJob

    def make(queue: str, job_id: str) -> Command:
        return ReleaseJob(queue=queue, job_id=job_id)

    _send(connection, jobs, make, patience, output)


def rerun(
    connection: Connection,
    jobs: Jobs,
    reason: Reason = "",
    command_id: Annotated[
        str | None,
        typer.Option(help="Names this request: if it is repeated within 24 h, the jobs run only once more."),
    ] = None,
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Run ended jobs once more, with all their attempts again. Earlier runs stay in the history.

    \b
    Examples:
      ftjm rerun thumbnails/a-200 --reason "the disk is larger now"
    """
    import uuid_utils

    from ftjm.core.records.commands import RerunJob

    request = command_id or str(uuid_utils.uuid7())

    def make(queue: str, job_id: str) -> Command:
        # The partition remembers the request for each job, so all jobs may share its id.
        return RerunJob(queue=queue, job_id=job_id, reason=reason, command_id=request)

    _send(connection, jobs, make, patience, output)


def prioritize(
    connection: Connection,
    jobs: Jobs,
    priority: Annotated[int, typer.Option(min=0, max=100, help="The new priority; higher is served first.")],
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Give jobs another priority: a waiting one gets another place at once.

    Of a running job it counts if the job waits again.

    \b
    Examples:
      ftjm prioritize thumbnails/a-200 --priority 90
    """
    from ftjm.core.records.commands import PrioritizeJob

    def make(queue: str, job_id: str) -> Command:
        return PrioritizeJob(queue=queue, job_id=job_id, priority=priority)

    _send(connection, jobs, make, patience, output)


def _send(
    connection: Connection, jobs: list[str], make: Callable[[str, str], Command], patience: str, output: Output
) -> None:
    """Send a command to each job: see `answers.carry_out`."""
    commands = [make(queue, job_id) for queue, job_id in job_names(jobs)]
    answers.carry_out(connection.settings(), patience, commands, output, ["job", "answer", "state", "run", "why"])
