"""Sends bulk requests and backfills, waits until they have ended, and prints what has become of them.

Requests go into the log as commands, and how far they have come is read there, from the events of their partitions. So
it works without an API.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ftjm.cli import answers
from ftjm.cli.output import Output, echo, emit
from ftjm.runtime.errors import FtjmError

if TYPE_CHECKING:
    from ftjm.core.records.commands import Command
    from ftjm.core.records.events import CommandRejected
    from ftjm.history.requests import Place, RequestFollower
    from ftjm.readmodel.queries import Reader
    from ftjm.runtime.config import Settings


@dataclass(frozen=True)
class RequestKind:
    """A kind of requests. Their documents are values of any type here."""

    follower: Callable[[Settings, Sequence[str]], RequestFollower[Any, Any]]
    find: Callable[[Reader, str], Any]
    """Finds the row of a request by its name."""
    columns: Sequence[str]
    """The columns of a table of requests."""
    list_verb: str
    stop_verb: str
    progress: Callable[[Sequence[Any]], tuple[str, int, int, str]]
    """Tells of documents for a bar: what is counted, how many are done, of how many, and a text behind them."""
    summary: Callable[[Sequence[Any]], str]
    """The last line behind a table of several requests."""
    is_success: Callable[[Any], bool]
    """Whether a document is of a request that did what was asked for."""


def send_and_wait(
    kind: RequestKind, settings: Settings, commands: Sequence[Command], patience: str, output: Output
) -> None:
    """Send the commands, and wait for their ends. Exits with 1 if one is refused, or is no success."""
    with (
        kind.follower(settings, [command.queue for command in commands]) as follower,
        answers.connect(settings, patience) as client,
    ):
        tickets = [client.send(command) for command in commands]
        names = [answers.subject_of(ticket) for ticket in tickets]
        try:
            answers.await_decisions(client, tickets)
            places = {(ticket.partition, ticket.offset): answers.subject_of(ticket) for ticket in tickets}
            refusals = _await_ends(kind, settings, follower, places)
        except KeyboardInterrupt:
            one = names[0] if len(names) == 1 else f"QUEUE/{commands[0].command_id}"
            text = f"no longer waiting, but what is in the log goes on: see it with `{kind.list_verb}`"
            echo(f"interrupted: {text}, stop it with `{kind.stop_verb} {one}`", err=True)
            raise
    _print(kind, names, follower.known, refusals, output)


def _await_ends(
    kind: RequestKind, settings: Settings, follower: RequestFollower[Any, Any], places: dict[Place, str]
) -> dict[str, CommandRejected]:
    """Wait until all requests have ended. Returns the refusals, by the requests' names."""
    left = set(places.values())
    refusals: dict[str, CommandRejected] = {}
    with _progress(kind) as show:
        for name, refusal in follower.follow(places):
            if refusal is not None and name not in follower.known:  # else the client had to send it again
                if refusal.code == "REPEATED":
                    _add_earlier(kind, settings, follower, name)
                else:
                    refusals[name] = refusal
            if name in refusals or follower.known[name].has_ended:
                left.discard(name)
            show(follower.known.values())
            if not left:
                break
    return refusals


def _add_earlier(kind: RequestKind, settings: Settings, follower: RequestFollower[Any, Any], name: str) -> None:
    """Let the follower know a request that was accepted before. Raises FtjmError if its result is not kept any more."""
    from ftjm.readmodel import one_shot

    with one_shot.folded_log(settings, name.partition("/")[0]) as (reader, _):
        found = kind.find(reader, name)
    if found is None:
        raise FtjmError(f"the result of the request {name}", "none: it was accepted a day ago", "choose another id")
    follower.add(name, found)


def _print(
    kind: RequestKind,
    names: Iterable[str],
    known: dict[str, Any],
    refusals: dict[str, CommandRejected],
    output: Output,
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
        emit(rows, output, columns=kind.columns)
    if len(known) > 1 and output is Output.table:
        echo(kind.summary(list(known.values())), err=True)
    if refusals or not all(kind.is_success(one) for one in known.values()):
        raise typer.Exit(1)


@contextlib.contextmanager
def _progress(kind: RequestKind) -> Iterator[Callable[[Iterable[Any]], None]]:
    """A bar on a terminal; nothing in a pipe. Gives a function that shows how far the requests have come."""
    if not sys.stderr.isatty():
        yield lambda _known: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.fields[what]}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, what="")

        def show(known: Iterable[Any]) -> None:
            what, done, total, text = kind.progress(list(known))
            bar.update(task, completed=done, total=total, description=text, what=what)

        yield show
