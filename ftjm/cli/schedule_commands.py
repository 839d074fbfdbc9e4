"""The verbs that send a command to schedules: pause, resume, trigger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import answers
from ftjm.cli.options import PATIENCE, Connection, OutputFormat, Patience, schedule_name
from ftjm.cli.output import Output
from ftjm.cli.verbs import add_verb

if TYPE_CHECKING:
    from ftjm.core.records.commands import ScheduleCommand

Names = Annotated[list[str], typer.Argument(metavar="QUEUE/NAME...", help="Schedules.")]


def register(group: typer.Typer) -> None:
    """Add `pause`, `resume` and `trigger`."""
    for verb in (pause, resume, trigger):
        add_verb(group, verb)


def pause(
    connection: Connection,
    schedules: Names,
    reason: Annotated[str, typer.Option(help="Why; shown by `ftjm schedule describe`.")] = "",
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Pause schedules: they do not fire until they are resumed. Their jobs go on.

    What waits to fire is dropped, and what falls into the pause is not caught up. No file resumes a schedule.

    \b
    Examples:
      ftjm schedule pause etl/nightly --reason "the source is down"
    """
    from ftjm.core.records.commands import PauseSchedule

    _send(connection, schedules, lambda **names: PauseSchedule(**names, reason=reason), patience, output)


def resume(
    connection: Connection, schedules: Names, patience: Patience = PATIENCE, output: OutputFormat = Output.table
) -> None:
    """Resume schedules that were paused: they go on with the first instant from now on.

    \b
    Examples:
      ftjm schedule resume etl/nightly
    """
    from ftjm.core.records.commands import ResumeSchedule

    _send(connection, schedules, ResumeSchedule, patience, output)


def trigger(
    connection: Connection,
    schedules: Names,
    command_id: Annotated[
        str | None,
        typer.Option(help="Names this request, and the job, NAME.now.ID: if it is repeated, there is one job."),
    ] = None,
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Make a job of each schedule now, also while it is paused. Its instants stay as they are.

    It is refused with OVERLAP where no two jobs may overlap and the last one has not ended.

    \b
    Examples:
      ftjm schedule trigger etl/nightly
      ftjm schedule trigger etl/nightly --command-id after-the-repair
    """
    import uuid_utils

    from ftjm.core.records.commands import TriggerSchedule

    request = command_id or str(uuid_utils.uuid7())
    columns = ["schedule", "job", "answer", "state", "why"]

    def make(**names: Any) -> ScheduleCommand:
        return TriggerSchedule(**names, command_id=request)

    _send(connection, schedules, make, patience, output, columns)


def _send(
    connection: Connection,
    schedules: Iterable[str],
    make: Callable[..., ScheduleCommand],
    patience: str,
    output: Output,
    columns: list[str] | None = None,
) -> None:
    """Send a command to each schedule: see `answers.carry_out`."""
    named = [schedule_name(schedule) for schedule in dict.fromkeys(schedules)]
    commands = [make(queue=queue, name=name) for queue, name in named]
    answers.carry_out(connection.settings(), patience, commands, output, columns or ["schedule", "answer"])
