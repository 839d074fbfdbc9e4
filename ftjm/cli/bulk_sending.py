"""Sends bulk requests, waits until they have ended, and prints what has become of them.

Requests go into the log as commands, and how far they have come is read there, from the events of their partitions. So
it works without an API.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ftjm.cli import answers
from ftjm.cli.output import Output, echo, emit
from ftjm.runtime.errors import FtjmError

if TYPE_CHECKING:
    from ftjm.core.records.commands import BulkJobs
    from ftjm.core.records.events import CommandRejected
    from ftjm.history.bulk_requests import BulkFollower, Place
    from ftjm.readmodel.documents.bulk import BulkDocument
    from ftjm.runtime.config import Settings

COLUMNS = ("request", "action", "status", "jobs", "looked", "changed", "refused")


def send_and_wait(settings: Settings, commands: Sequence[BulkJobs], patience: str, output: Output) -> None:
    """Send the commands, and wait for their ends. Exits with 1 if one is refused, or stopped before its end."""
    from ftjm.history.bulk_requests import BulkFollower

    with (
        BulkFollower(settings, [command.queue for command in commands]) as follower,
        answers.connect(settings, patience) as client,
    ):
        tickets = [client.send(command) for command in commands]
        names = [answers.subject_of(ticket) for ticket in tickets]
        try:
            answers.await_decisions(client, tickets)
            places = {(ticket.partition, ticket.offset): answers.subject_of(ticket) for ticket in tickets}
            refusals = _await_ends(settings, follower, places)
        except KeyboardInterrupt:
            one = names[0] if len(names) == 1 else f"QUEUE/{commands[0].command_id}"
            text = "no longer waiting, but what is in the log goes on: see it with `ftjm bulk list`"
            echo(f"interrupted: {text}, stop it with `ftjm bulk stop {one}`", err=True)
            raise
    _print(names, follower.known, refusals, output)


def _await_ends(settings: Settings, follower: BulkFollower, places: dict[Place, str]) -> dict[str, CommandRejected]:
    """Wait until all requests have ended. Returns the refusals, by the requests' names."""
    left = set(places.values())
    refusals: dict[str, CommandRejected] = {}
    with _progress() as show:
        for name, refusal in follower.follow(places):
            if refusal is not None and name not in follower.known:  # else the client had to send it again
                if refusal.code == "REPEATED":
                    _add_earlier(settings, follower, name)
                else:
                    refusals[name] = refusal
            if name in refusals or follower.known[name].has_ended:
                left.discard(name)
            show(follower.known.values())
            if not left:
                break
    return refusals


def _add_earlier(settings: Settings, follower: BulkFollower, name: str) -> None:
    """Let the follower know a request that was accepted before. Raises FtjmError if its result is not kept any more."""
    from ftjm.readmodel import bulk_requests, one_shot

    queue, _, bulk = name.partition("/")
    with one_shot.folded_log(settings, queue) as (reader, _):
        found = bulk_requests.find(reader, queue, bulk)
    if found is None:
        raise FtjmError(f"the result of the request {name}", "none: it was accepted a day ago", "choose another id")
    follower.add(name, found)


def _print(
    names: Iterable[str], known: dict[str, BulkDocument], refusals: dict[str, CommandRejected], output: Output
) -> None:
    """Print what has become of each request; refusals to standard error."""
    from ftjm.readmodel.documents.fields import plain_document

    rows: list[dict[str, Any]] = []
    for name in names:
        if (refusal := refusals.get(name)) is not None:
            echo(f"error: {name} was refused: {refusal.text} ({refusal.code})", err=True)
            if output is not Output.table:
                rows.append({"request": name, "answer": f"refused: {refusal.code}", "why": refusal.text})
        elif name in known:
            rows.append(plain_document(known[name]))
    if rows or output is not Output.table:
        emit(rows, output, columns=COLUMNS)
    if len(known) > 1 and output is Output.table:
        changed, refused = (sum(getattr(one, count) for one in known.values()) for count in ("changed", "refused"))
        echo(f"{len(known)} queues: {changed} jobs changed, {refused} refused", err=True)
    if refusals or any(one.status == "STOPPED" for one in known.values()):
        raise typer.Exit(1)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Iterable[BulkDocument]], None]]:
    """A bar on a terminal; nothing in a pipe. Gives a function that shows how far the requests have come."""
    if not sys.stderr.isatty():
        yield lambda _known: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("looked at"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(known: Iterable[BulkDocument]) -> None:
            found = list(known)
            text = f"{sum(one.changed for one in found)} changed, {sum(one.refused for one in found)} refused"
            done, jobs = sum(min(one.looked, one.jobs) for one in found), sum(one.jobs for one in found)
            bar.update(task, completed=done, total=jobs, description=text)

        yield show
