"""What a verb of `ftjm bulk` asks for: its options, and the commands that they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import job_states, moment, pairs
from ftjm.cli.verbs import OptionGroup
from ftjm.runtime.errors import UsageError

if TYPE_CHECKING:
    from ftjm.core.records.commands import BulkJobs
    from ftjm.specs.bulk import BulkFields

DESTRUCTIVE = ("cancel", "purge")
"""Actions that are not undone by another one: about whole queues, they need --yes."""


@dataclass(frozen=True)
class FilterOptions(OptionGroup):
    """Options for the jobs that a request is about."""

    queue: Annotated[list[str] | None, typer.Option(help="Jobs of this queue; may be repeated.")] = None
    all_queues: Annotated[bool, typer.Option("--all-queues", help="Jobs of all queues that hold any now.")] = False
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="Only jobs in this state; may be repeated. Default: all states in which the action makes sense."
        ),
    ] = None
    dead: Annotated[
        bool, typer.Option("--dead", help="Only jobs that failed for good: FAILED and UPSTREAM_FAILED.")
    ] = False
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only jobs with this label; may be repeated.")
    ] = None
    submitted_after: Annotated[
        str | None, typer.Option(help="Submitted at or after this time: 2h (ago), or 2026-11-21T08:00:00Z.")
    ] = None
    submitted_before: Annotated[
        str | None, typer.Option(help="Submitted before this time, written in the same way.")
    ] = None


@dataclass(frozen=True)
class BulkOptions(OptionGroup):
    """Options for the request itself."""

    reason: Annotated[str, typer.Option(help="Why; shown in the history of each job.")] = ""
    command_id: Annotated[
        str | None,
        typer.Option(
            help="The request's id: if it is repeated within 24 h, nothing is done twice (default: a new one)."
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, and count the jobs that it would be about.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", help="Cancel or purge whole queues, without any filter.")] = False
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all jobs are changed, or only for the decision.")
    ] = True


@dataclass(frozen=True)
class BulkRequest:
    """A checked request."""

    queues: tuple[str, ...]
    """Empty for all queues."""
    fields: BulkFields
    command_id: str

    def commands(self, queues: Iterable[str]) -> list[BulkJobs]:
        """The command for each of these queues."""
        from ftjm.core.records.commands import BulkJobs

        fields = self.fields
        return [
            BulkJobs(
                queue=queue,
                action=fields.action,
                filter=fields.filter.job_filter(),
                command_id=self.command_id,
                reason=fields.reason,
                priority=fields.priority or 0,
            )
            for queue in queues
        ]


def checked(action: str, filters: FilterOptions, options: BulkOptions, priority: int | None = None) -> BulkRequest:
    """The request that the options ask for. Raises UsageError."""
    import uuid_utils

    from ftjm.core.names import NAME_TEXT, is_name

    queues = tuple(dict.fromkeys(filters.queue or ()))
    if bool(queues) == filters.all_queues:
        found = "both" if queues else "neither"
        raise UsageError("--queue QUEUE or --all-queues", found, "say which queues, so that no others are changed")
    for queue in queues:
        if not is_name(queue):
            raise UsageError(f"the name of a queue: {NAME_TEXT}", repr(queue), "see `ftjm queue list`")
    command_id = str(uuid_utils.uuid7()) if options.command_id is None else options.command_id
    if not is_name(command_id):
        raise UsageError(f"a --command-id: {NAME_TEXT}", repr(command_id), "choose another one")
    wanted = _filter_fields(filters)
    if action in DESTRUCTIVE and not wanted and not (options.yes or options.dry_run):
        todo = "see with --dry-run which jobs there are"
        raise UsageError(f"a filter, or --yes to {action} all jobs of these queues", "neither", todo)
    return BulkRequest(queues, _fields(action, wanted, options.reason, priority), command_id)


def _fields(action: str, wanted: dict[str, Any], reason: str, priority: int | None) -> BulkFields:
    from ftjm.specs.bulk import InvalidBulkError, parse_bulk

    fields = {"action": action, "filter": wanted, "reason": reason}
    try:
        return parse_bulk(fields if priority is None else fields | {"priority": priority})
    except InvalidBulkError as error:
        raise UsageError("a request that can be sent", str(error), "see `ftjm bulk --help`") from None


def _filter_fields(filters: FilterOptions) -> dict[str, Any]:
    """The filters that are given."""
    given = {
        "states": job_states(filters.state, dead=filters.dead),
        "labels": pairs("--label", filters.label),
        "submitted_after": _time("--submitted-after", filters.submitted_after),
        "submitted_before": _time("--submitted-before", filters.submitted_before),
    }
    return {name: value for name, value in given.items() if value}


def _time(option: str, text: str | None) -> str | None:
    return None if text is None else moment(option, text)
