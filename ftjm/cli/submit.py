"""The verb `submit`: one job from flags, or many from a file."""

# ruff: noqa: ARG001  (a job's flags are read through the context, by the names of its fields)

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import asking, common
from ftjm.cli.common import Output
from ftjm.errors import UsageError

if TYPE_CHECKING:
    from ftjm.client import Client, Progress
    from ftjm.inputs import JobRequest
    from ftjm.tickets import Ticket

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
{initial, factor, max}, on_worker_loss, worker_losses_max, disconnect {continue_for}, cancel_grace, retention.

The whole file is checked first: if anything in it is wrong, nothing is submitted. Jobs without a job_id get one from
their content, so that an interrupted submit can be run again without doubling anything; to run the same file once
more on purpose, give another --batch.

A task is a Python function of an app that a worker serves (`ftjm worker --app`, `ftjm up --app`). It is known here by
its name alone: what its decorator says of queue or timeout holds for jobs that are submitted in Python.

A job's environment, command, arguments and payload are public: they stay in the log, for all who may read it. Pass
the names of secrets, not secrets."""


def _folded(text: str) -> str:
    """Each paragraph on one line, since the help is folded to the terminal; but for those that begin with \\b."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(part if part.startswith("\b") else " ".join(part.split()) for part in paragraphs)


JOB_FLAGS = (
    *("queue", "job_id", "task", "priority", "cwd", "timeout", "deadline", "delay", "start_at", "max_attempts"),
    *("on_worker_loss", "worker_losses_max", "cancel_grace", "retention"),
)
"""Flags that are fields of a job, as they are."""
JSON_FLAGS = {"payload": '"a text"', "args": '["a text"]', "kwargs": '{"name": "a text"}'}
"""Flags that are fields of a job in JSON, each with an example."""


def _flag(text: str, *names: str, **options: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="One job", show_default=False, **options)


Text = str | None
Queue = Annotated[Text, _flag("By default: default.")]
JobId = Annotated[Text, _flag("By default a new one (UUIDv7).")]
Priority = Annotated[Text, _flag("0 to 100, higher first; by default 50.")]
Task = Annotated[Text, _flag("The name of a Python task, instead of a command.")]
Args = Annotated[Text, _flag("Of the task: a JSON list; @FILE or - reads it from there.")]
Kwargs = Annotated[Text, _flag("Of the task: a JSON object; @FILE or - reads it from there.")]
Payload = Annotated[Text, _flag("JSON for its standard input; @FILE or - reads it from there.")]
Env = Annotated[list[str] | None, _flag("Public: it stays in the log.", metavar="NAME=VALUE")]
Label = Annotated[list[str] | None, _flag("For selecting jobs.", metavar="NAME=VALUE")]
Cwd = Annotated[Text, _flag("Where it runs, on the worker's host.")]
Timeout = Annotated[Text, _flag("Of each attempt, such as 90s.")]
Deadline = Annotated[Text, _flag("By when it must have ended: 2h, or 2030-01-31T18:00:00Z.")]
Delay = Annotated[Text, _flag("Before it starts, such as 10m.")]
StartAt = Annotated[Text, _flag("It starts at this time, such as 2030-01-31T18:00:00Z.")]
MaxAttempts = Annotated[Text, _flag("How often it may fail, in all; by default 1, and 3 for a task.")]
Backoff = Annotated[Text, _flag("Before the first retry; by default 1s.")]
BackoffFactor = Annotated[Text, _flag("What each further delay is multiplied by; by default 2.")]
BackoffMax = Annotated[Text, _flag("The longest delay; by default 5m.")]
OnWorkerLoss = Annotated[Text, _flag("requeue (the default), fail or hold.")]
LossesMax = Annotated[Text, _flag("How often it is requeued so; by default 3.")]
ContinueFor = Annotated[Text, _flag("How long it goes on while its worker is cut off from Kafka.")]
CancelGrace = Annotated[Text, _flag("From SIGTERM to SIGKILL; by default 10s.")]
Retention = Annotated[Text, _flag("How long the ended job is kept.")]
Hold = Annotated[bool, _flag("It waits for `ftjm release`.", "--hold")]
FileName = Annotated[
    Text, typer.Option("-f", "--file", help="YAML or JSON lines; - is standard input.", rich_help_panel="Many jobs")
]
Batch = Annotated[Text, typer.Option(help="Tells equal files apart.", rich_help_panel="Many jobs")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow to the end; the exit status is the job's.")]
Command = Annotated[list[str] | None, typer.Argument(metavar="[--] COMMAND", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add `submit`."""
    # What follows the program's name belongs to the program, with or without `--`.
    app.command(help=_folded(HELP), context_settings={"allow_interspersed_args": False})(submit)


def submit(
    context: typer.Context,
    command: Command = None,
    file: FileName = None,
    batch: Batch = None,
    queue: Queue = None,
    job_id: JobId = None,
    priority: Priority = None,
    task: Task = None,
    args: Args = None,
    kwargs: Kwargs = None,
    payload: Payload = None,
    env: Env = None,
    label: Label = None,
    cwd: Cwd = None,
    timeout: Timeout = None,
    deadline: Deadline = None,
    delay: Delay = None,
    start_at: StartAt = None,
    max_attempts: MaxAttempts = None,
    backoff: Backoff = None,
    backoff_factor: BackoffFactor = None,
    backoff_max: BackoffMax = None,
    on_worker_loss: OnWorkerLoss = None,
    worker_losses_max: LossesMax = None,
    continue_for: ContinueFor = None,
    cancel_grace: CancelGrace = None,
    retention: Retention = None,
    hold: Hold = False,
    wait: Wait = False,
    patience: asking.Patience = asking.PATIENCE,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Its help is `HELP`."""
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    with jobs_of(context.params, settings.inline_limit_bytes) as (jobs, count):
        if not count:
            raise UsageError("at least one job", f"none in {file}", "see `ftjm submit --help`")
        with asking.client_of(settings, patience) as client:
            tickets = _send(client, jobs, count, wait)
            asking.ask(client, tickets)
            if wait:
                _follow(client, tickets)
    tell(tickets, output, wait)
    raise typer.Exit(exit_status(tickets, wait))


def _send(client: Client, jobs: Iterable[JobRequest], count: int, wait: bool) -> list[Ticket]:
    try:
        with _progress("in the log", count) as progress:
            return client.submit_many(jobs, awaits=wait, progress=progress)
    except KeyboardInterrupt:
        text = f"interrupted: {client.acknowledged} of {count} are in the log; run the same again, nothing is doubled"
        typer.echo(text, err=True)
        raise


def _follow(client: Client, tickets: list[Ticket]) -> None:
    try:
        with _progress("ended", len(tickets)) as progress:
            while not client.ended(tickets, 60.0, progress):
                pass
    except KeyboardInterrupt:
        typer.echo("no longer waiting: the jobs go on; see them with `ftjm get`", err=True)
        raise


# ---- what to submit


@contextlib.contextmanager
def jobs_of(flags: Mapping[str, Any], inline_limit_bytes: int) -> Iterator[tuple[Iterable[JobRequest], int]]:
    """The jobs that the flags describe, and how many they are. Raises UsageError."""
    from ftjm.jobfiles import open_jobs

    beside = [name for name in job_flags(flags) if name != "command"]
    if flags["file"] is None:
        if not (flags["command"] or flags["task"]):
            todo = "write for instance: ftjm submit -- echo hello"
            raise UsageError("a command, --task NAME, or -f FILE", "none of them", todo)
        yield [_job_from_flags(flags, inline_limit_bytes)], 1
        return
    if flags["command"] or beside:
        found = "a command" if flags["command"] else f"--{beside[0].replace('_', '-')}"
        raise UsageError("nothing of a job beside -f", found, "write it into the file")
    with open_jobs(flags["file"], inline_limit_bytes=inline_limit_bytes, batch=flags["batch"] or "") as jobs:
        yield jobs, jobs.count


def job_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that describe a job, as the fields that a file would have."""
    fields = {name: flags[name] for name in JOB_FLAGS}
    fields["command"] = flags["command"] or None
    fields["env"] = pairs("--env", flags["env"])
    fields["labels"] = pairs("--label", flags["label"])
    fields["hold"] = flags["hold"] or None
    delays = {"initial": flags["backoff"], "factor": flags["backoff_factor"], "max": flags["backoff_max"]}
    fields["backoff"] = {name: value for name, value in delays.items() if value is not None} or None
    fields["disconnect"] = {"continue_for": flags["continue_for"]} if flags["continue_for"] else None
    fields |= {name: flags[name] for name in JSON_FLAGS}
    return {name: value for name, value in fields.items() if value is not None}


def _job_from_flags(flags: Mapping[str, Any], inline_limit_bytes: int) -> JobRequest:
    import uuid_utils

    from ftjm.inputs import InvalidJobError, parse_job

    fields = job_flags(flags)
    fields |= {name: _json(name, fields[name]) for name in JSON_FLAGS if name in fields}
    try:
        job = parse_job(fields, inline_limit_bytes)
    except InvalidJobError as error:
        raise UsageError("a job that can be submitted", str(error), "see `ftjm submit --help`") from None
    return job if job.job_id else job._replace(job_id=str(uuid_utils.uuid7()))


def pairs(flag: str, given: Iterable[str] | None) -> dict[str, str] | None:
    """`NAME=VALUE` flags as a dict. Raises UsageError for one without `=`."""
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{flag} NAME=VALUE", f"{flag} {text}", "write the name, an equals sign and the value")
        found[name] = value
    return found or None


def _json(flag: str, text: str) -> Any:
    import msgspec

    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        else:
            data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return msgspec.json.decode(data)
    except OSError as error:
        raise UsageError(f"a readable file {text[1:]}", str(error.strerror).lower(), "check its name") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())
        raise UsageError(f"--{flag} as JSON", found, f"quote text twice: --{flag} '{JSON_FLAGS[flag]}'") from None


# ---- what to say


@contextlib.contextmanager
def _progress(what: str, count: int) -> Iterator[Progress | None]:
    """A bar on a terminal, where there is something to watch; nothing in a pipe."""
    if count < 2 or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=count)
        yield lambda done: bar.update(task, completed=done)


def tell(tickets: list[Ticket], output: Output, wait: bool) -> None:
    """Print each job, a line or a document each; refusals go to standard error as well."""
    for ticket in tickets:
        shown = asking.row(ticket)
        if ticket.refused:
            typer.echo(f"error: {shown['job']} was refused: {shown['why']}", err=True)
        if not ticket.refused or output is not Output.table:
            common.emit_line(shown, output, f"{shown['job']} {shown['state']}" if wait else shown["job"])
    if len(tickets) > 1 and output is Output.table:
        refused = sum(ticket.refused for ticket in tickets)
        succeeded = sum(ticket.outcome is not None and ticket.outcome.state == "SUCCEEDED" for ticket in tickets)
        text = f"{len(tickets)} jobs in the log, {refused} refused"
        typer.echo(f"{text}, {succeeded} succeeded" if wait else text, err=True)


def exit_status(tickets: list[Ticket], wait: bool) -> int:
    """0 if all is well; with `wait` and one job, its own exit status where it has one; else 1."""
    if any(ticket.refused for ticket in tickets):
        return 1
    if not wait or all(ticket.outcome and ticket.outcome.state == "SUCCEEDED" for ticket in tickets):
        return 0
    only = tickets[0].outcome if len(tickets) == 1 else None
    return only.exit_code if only and 0 < only.exit_code < 256 else 1
