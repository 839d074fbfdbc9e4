"""The verb `submit`: one job from options, or many from a file."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import answers
from ftjm.cli.options import PATIENCE, Connection, OutputFormat, Patience, pairs
from ftjm.cli.output import Output, count_progress, echo, emit_line
from ftjm.cli.verbs import OptionGroup, add_verb
from ftjm.runtime.errors import UsageError, short

if TYPE_CHECKING:
    from ftjm.client.command_client import Client
    from ftjm.client.ticket import Ticket
    from ftjm.core.records.messages import JobOutcome
    from ftjm.specs.job import JobRequest

HELP = """Submit one job, or many from a file. Returns when the replicated log has them.

A job is known by its queue and its id: submitting the same one again gives the same job, and other content under a
known identity is refused.

\b
Examples:
  ftjm submit -- ffmpeg -i a.avi a.mp4
  ftjm submit --queue thumbnails --job-id a-200 -- convert a.png a.jpg
  echo '{"width": 200}' | ftjm submit --payload - --wait -- ./resize
  ftjm submit --task thumbnails.resize --args '["a.png"]' --kwargs '{"width": 200}'
  ftjm submit -f jobs.yaml
  make-jobs | ftjm submit -f - --wait

A file is YAML (a list of jobs, or one under `jobs:`) or JSON lines (one job a line). Fields of a job: command (a
list, or a text that is split into words as a shell does, without running one) with payload, or task with args and
kwargs; queue, job_id, env, labels, cwd, priority, hold, delay, start_at, timeout, deadline, max_attempts, backoff
{initial, factor, max}, on_worker_loss, worker_losses_max, disconnect {continue_for}, cancel_grace, retention,
concurrency_key, share_identifier.

A field that is left out has the default of the job's queue, where that is declared with some; else the one that is
named below.

The whole file is checked first: if anything in it is wrong, nothing is submitted. Jobs without a job_id get one from
their content, so that an interrupted submit can be run again without doubling anything; to run the same file once
more on purpose, give another --batch.

A task is a Python function of an app that a worker serves (`ftjm worker --app`, `ftjm up --app`). It is known here by
its name alone: the queue or timeout in its decorator applies to jobs that are submitted in Python.

A job's environment, command, arguments and payload are public: they stay in the log, for all who may read it. Pass
the names of secrets, not secrets."""


def _folded(text: str) -> str:
    """Each paragraph on one line, since typer folds it to the terminal; but not those that begin with \\b."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(part if part.startswith("\b") else " ".join(part.split()) for part in paragraphs)


JOB_OPTIONS = (
    *("queue", "job_id", "task", "priority", "cwd", "timeout", "deadline", "delay", "start_at", "max_attempts"),
    *("on_worker_loss", "worker_losses_max", "cancel_grace", "retention", "concurrency_key", "share_identifier"),
)
"""Options that are fields of a job under the same name."""
JSON_OPTIONS = {"payload": '"a text"', "args": '["a text"]', "kwargs": '{"name": "a text"}'}
"""Options that are fields of a job, written in JSON; each with an example."""
NAMES_SHOWN_MAX = 5
"""Most jobs that are named when Ctrl-C ends a submission of many."""
FAILURES_SHOWN_MAX = 20
SIGNAL_TEXT = re.compile(r"killed by (?:(SIG\w+)|signal (\d+))")
"""The error of an attempt that a signal has ended. An outcome has no other field for the signal."""


def _field(text: str, *names: str, **options: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="One job", show_default=False, **options)


@dataclass(frozen=True)
class OneJob(OptionGroup):
    """The fields of one job."""

    queue: Annotated[str | None, _field("Its queue; by default `default`.")] = None
    job_id: Annotated[str | None, _field("Its id in the queue; by default a new one (UUIDv7).")] = None
    priority: Annotated[str | None, _field("0 to 100, higher first; by default 50.")] = None
    task: Annotated[str | None, _field("The name of a Python task, instead of a command.")] = None
    args: Annotated[str | None, _field("Arguments of the task: a JSON list; @FILE or - reads it from there.")] = None
    kwargs: Annotated[
        str | None, _field("Named arguments of the task: a JSON object; @FILE or - reads it from there.")
    ] = None
    payload: Annotated[str | None, _field("JSON for the command's standard input; @FILE or - reads it from there.")] = (
        None
    )
    env: Annotated[
        list[str] | None, _field("An environment variable. It is public: it stays in the log.", metavar="NAME=VALUE")
    ] = None
    label: Annotated[list[str] | None, _field("A label, by which `ftjm list` finds the job.", metavar="NAME=VALUE")] = (
        None
    )
    cwd: Annotated[str | None, _field("Its working directory, on the worker's host.")] = None
    timeout: Annotated[str | None, _field("The longest time of one attempt, such as 90s.")] = None
    deadline: Annotated[str | None, _field("When the job must have ended: 2h, or 2030-01-31T18:00:00Z.")] = None
    delay: Annotated[str | None, _field("How long it waits before it may start, such as 10m.")] = None
    start_at: Annotated[str | None, _field("When it may start, such as 2030-01-31T18:00:00Z.")] = None
    max_attempts: Annotated[str | None, _field("How many attempts it has; by default 1, and 3 for a task.")] = None
    backoff: Annotated[str | None, _field("The delay before the first retry; by default 1s.")] = None
    backoff_factor: Annotated[str | None, _field("Each further delay is this many times longer; by default 2.")] = None
    backoff_max: Annotated[str | None, _field("The longest delay; by default 5m.")] = None
    on_worker_loss: Annotated[
        str | None, _field("What follows when its worker is lost: requeue (the default), fail or hold.")
    ] = None
    worker_losses_max: Annotated[
        str | None, _field("How often it is requeued after the loss of a worker; by default 3.")
    ] = None
    continue_for: Annotated[
        str | None, _field("How long an attempt continues while its worker is cut off from Kafka; at most 23h.")
    ] = None
    cancel_grace: Annotated[str | None, _field("The time from SIGTERM to SIGKILL; by default 10s.")] = None
    retention: Annotated[str | None, _field("How long the job is kept after its end.")] = None
    concurrency_key: Annotated[
        str | None, _field("Of its queue's jobs with the same key, one has a worker at a time, or as many as it says.")
    ] = None
    share_identifier: Annotated[str | None, _field("The share of its queue that it belongs to.")] = None
    hold: Annotated[bool, _field("The job waits for `ftjm release`.", "--hold")] = False


@dataclass(frozen=True)
class ManyJobs(OptionGroup):
    """Many jobs."""

    file: Annotated[
        str | None,
        typer.Option("-f", "--file", help="YAML or JSON lines; - is standard input.", rich_help_panel="Many jobs"),
    ] = None
    batch: Annotated[
        str | None,
        typer.Option(help="Distinguishes this file from an earlier one with equal jobs.", rich_help_panel="Many jobs"),
    ] = None


def register(group: typer.Typer) -> None:
    """Add `submit`."""
    # What follows the program's name belongs to the program, with or without `--`.
    add_verb(group, submit, help=_folded(HELP), context_settings={"allow_interspersed_args": False})


def submit(
    job: OneJob,
    many: ManyJobs,
    connection: Connection,
    command: Annotated[list[str] | None, typer.Argument(metavar="[--] COMMAND", show_default=False)] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the jobs have ended; the exit status is the job's.")
    ] = False,
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Submit one job, or many. Its help is `HELP`."""
    settings = connection.settings()
    with read_jobs(command, job, many, settings.inline_limit_bytes) as (jobs, count):
        if not count:
            raise UsageError("at least one job", f"none in {many.file}", "see `ftjm submit --help`")
        with answers.connect(settings, patience) as client:
            tickets = _send(client, jobs, count, wait)
            _await(client, tickets, wait)
    _print(tickets, output, wait)
    raise typer.Exit(exit_status(tickets, wait))


def _send(client: Client, jobs: Iterable[JobRequest], count: int, wait: bool) -> list[Ticket]:
    names: list[str] = []

    def named() -> Iterator[JobRequest]:
        for job in jobs:
            names.append(f"{job.queue}/{job.job_id}")
            yield job

    try:
        with count_progress("in the log", count) as progress:
            return client.submit_many(named(), awaits=wait, progress=progress)
    except KeyboardInterrupt:
        state = f"{client.acknowledged} of {count} are in the log"
        _print_interrupted(f"{state}; run the same again with --job-id or -f, and nothing is doubled", names)
        raise


def _await(client: Client, tickets: list[Ticket], wait: bool) -> None:
    """Wait for the decisions, and, with `wait`, until all jobs have ended."""
    names = [answers.subject_of(ticket) for ticket in tickets]
    try:
        if wait and len(names) == 1:
            echo(f"waiting for {names[0]}", err=True)
        answers.await_decisions(client, tickets)
        with count_progress("ended", len(tickets)) as progress:
            while wait and not client.ended(tickets, 60.0, progress):
                pass
    except KeyboardInterrupt:
        _print_interrupted("no longer waiting; what is in the log goes on: see it with `ftjm get`", names)
        raise


def _print_interrupted(text: str, names: list[str]) -> None:
    more = f" … and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    echo(f"interrupted: {' '.join(names[:NAMES_SHOWN_MAX])}{more}: {text}", err=True)


# ---- what to submit


@contextlib.contextmanager
def read_jobs(
    command: list[str] | None, job: OneJob, many: ManyJobs, inline_limit_bytes: int
) -> Iterator[tuple[Iterable[JobRequest], int]]:
    """The jobs that the options describe, and their number. Raises UsageError."""
    from ftjm.specs.files import open_jobs

    fields = job_fields(job)
    if many.file is None:
        if not (command or job.task):
            todo = "write for instance: ftjm submit -- echo hello"
            raise UsageError("a command, --task NAME, or -f FILE", "none of them", todo)
        yield [_one_job(fields | ({"command": command} if command else {}), inline_limit_bytes)], 1
        return
    if command or fields:
        found = "a command" if command else f"--{next(iter(fields)).replace('_', '-')}"
        raise UsageError("nothing of a job beside -f", found, "write it into the file")
    with open_jobs(many.file, inline_limit_bytes=inline_limit_bytes, batch=many.batch or "") as jobs:
        yield jobs, jobs.count


def job_fields(job: OneJob) -> dict[str, Any]:
    """The options of a job that were given, as the fields that a file would have. Raises UsageError."""
    fields: dict[str, Any] = {name: getattr(job, name) for name in JOB_OPTIONS}
    fields["env"] = pairs("--env", job.env)
    fields["labels"] = pairs("--label", job.label)
    fields["hold"] = job.hold or None
    delays = {"initial": job.backoff, "factor": job.backoff_factor, "max": job.backoff_max}
    fields["backoff"] = {name: value for name, value in delays.items() if value is not None} or None
    fields["disconnect"] = {"continue_for": job.continue_for} if job.continue_for else None
    fields |= {name: getattr(job, name) for name in JSON_OPTIONS}
    return {name: value for name, value in fields.items() if value is not None}


def _one_job(fields: dict[str, Any], inline_limit_bytes: int) -> JobRequest:
    import uuid_utils

    from ftjm.specs.job import InvalidJobError, parse_job

    fields |= {name: _json(name, fields[name]) for name in JSON_OPTIONS if name in fields}
    try:
        job = parse_job(fields, inline_limit_bytes)
    except InvalidJobError as error:
        raise UsageError("a job that can be submitted", str(error), "see `ftjm submit --help`") from None
    return job if job.job_id else job._replace(job_id=str(uuid_utils.uuid7()))


def _json(option: str, text: str) -> Any:
    """The JSON of an option: its text, or that of the file or standard input that it names. Raises UsageError."""
    from ftjm.specs.json_text import decode_value
    from ftjm.specs.written import UnreadableError

    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        else:
            data = Path(text[1:]).read_bytes() if text.startswith("@") else os.fsencode(text)
        return decode_value(data)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise UsageError(f"a readable file {text[1:]}", reason, "check its name") from None
    except UnreadableError as error:
        where = "".join(f"[{part!r:.80}]" for part in error.path[:8])
        found = f"line {error.line}: {error.text}" if error.line > 1 else error.text
        raise UsageError(
            f"--{option} as JSON", f"{where} {found}".strip(), f"quote text twice: --{option} '{JSON_OPTIONS[option]}'"
        ) from None


# ---- what to print


def _print(tickets: list[Ticket], output: Output, wait: bool) -> None:
    """Print each job, as a line or a document. Why one was refused or has failed goes to standard error."""
    failures = 0
    for ticket in tickets:
        answers.print_refusal(ticket)
        document = answers.answer_document(ticket)
        if not ticket.refused or output is not Output.table:
            emit_line(document, output, f"{document['job']} {document.get('state', '')}" if wait else document["job"])
        if ticket.outcome and ticket.outcome.state != "SUCCEEDED":
            failures += 1
            if failures <= FAILURES_SHOWN_MAX:
                echo(f"error: {document['job']}: {_why(ticket.outcome)}", err=True)
    if failures > FAILURES_SHOWN_MAX:
        echo(f"… and {failures - FAILURES_SHOWN_MAX} more that did not succeed", err=True)
    if len(tickets) > 1 and output is Output.table:
        refused = sum(ticket.refused for ticket in tickets)
        succeeded = sum(ticket.outcome is not None and ticket.outcome.state == "SUCCEEDED" for ticket in tickets)
        text = f"{len(tickets)} jobs in the log, {refused} refused"
        echo(f"{text}, {succeeded} succeeded" if wait else text, err=True)


def _why(outcome: JobOutcome) -> str:
    """Why a run did not succeed, in one line: the reason, and the last line of the error, which of a traceback tells
    most."""
    lines = outcome.error.strip().splitlines()
    text = ": ".join(filter(None, (outcome.reason, short(lines[-1].strip(), 300) if lines else "")))
    return f"{text or outcome.state}; see `ftjm logs {outcome.queue}/{outcome.job_id}`"


def exit_status(tickets: list[Ticket], wait: bool) -> int:
    """The exit status of `ftjm submit`.

    0 if no job was refused, and, with `wait`, all succeeded. With `wait` and one job, the job's own exit status, if it
    has one, or 128 and the number of the signal that ended it, as in a shell. Else 1.
    """
    if any(ticket.refused for ticket in tickets):
        return 1
    if not wait or all(ticket.outcome and ticket.outcome.state == "SUCCEEDED" for ticket in tickets):
        return 0
    only = tickets[0].outcome if len(tickets) == 1 else None
    if only is None:
        return 1
    if only.reason == "SIGNAL":
        return 128 + _signal(only.error)
    return only.exit_code if 0 < only.exit_code < 256 else 1


def _signal(error: str) -> int:
    """The number of the signal that a text names; that of SIGKILL where it names none."""
    found = SIGNAL_TEXT.search(error)
    name, number = found.groups() if found else ("", None)
    return int(number) if number else int(getattr(signal, name or "", signal.SIGKILL))
