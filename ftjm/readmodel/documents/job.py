"""A job as a document: in full, as one of a list, and how its run ended."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ftjm.core.records.messages import JobOutcome
from ftjm.core.state.model import TERMINAL, Checkpoint, Job, JobSpec, JobState, Outcome
from ftjm.readmodel.documents.fields import Document, Moment, exit_fields, json_value
from ftjm.runtime.durations import format_duration, format_time
from ftjm.specs.executors import written


class JobSummary(Document, frozen=True, kw_only=True):
    """A job in a list."""

    job: Annotated[str, Meta(description="Name of the job: queue/job_id.")]
    queue: str
    job_id: str
    state: Annotated[str, Meta(description="The job's state, such as READY, RUNNING or SUCCEEDED.")]
    reason: Annotated[str | None, Meta(description="Why the job is in its state.")] = None
    run: Annotated[int, Meta(description="Number of the run; a rerun begins the next one.")]
    attempt: Annotated[int, Meta(description="Number of the newest attempt, counted over all runs; 0 before any.")]
    priority: Annotated[int, Meta(description="0 to 100; higher is served first.")]
    labels: dict[str, str] = field(default_factory=dict)
    schedule: Annotated[str | None, Meta(description="The schedule that made the job: queue/name.")] = None
    concurrency_key: Annotated[
        str | None, Meta(description="Of the queue's jobs with the same key, some only have a worker at a time.")
    ] = None
    share_identifier: Annotated[str | None, Meta(description="The share of its queue that it belongs to.")] = None
    worker: Annotated[str | None, Meta(description="The worker that the newest attempt was sent to.")] = None
    submitted_at: Moment
    pending_at: Annotated[Moment | None, Meta(description="Since when it is PENDING.")] = None
    due_at: Annotated[Moment | None, Meta(description="When the job, or its next attempt, may start.")] = None
    deadline_at: Annotated[Moment | None, Meta(description="When the job is stopped if it has not ended.")] = None
    dispatched_at: Annotated[Moment | None, Meta(description="When the newest attempt was sent to its worker.")] = None
    started_at: Annotated[Moment | None, Meta(description="When the newest attempt started to run.")] = None
    ended_at: Annotated[Moment | None, Meta(description="When the run ended.")] = None

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return JobState[self.state] in TERMINAL


class JobDocument(JobSummary, frozen=True, kw_only=True):
    """A job with what it was asked to do, how far it has come, and how it ended."""

    failures: Annotated[int, Meta(description="Failed attempts of the run.")]
    worker_losses: Annotated[int, Meta(description="Attempts of the run that were lost with their workers.")]
    max_attempts: int
    executor: Annotated[str, Meta(description="What carries out the job: command or python.")]
    command: Annotated[list[str], Meta(description="The program and its arguments.")] = field(default_factory=list)
    payload: Annotated[Any, Meta(description="JSON for the program's standard input.")] = None
    task: Annotated[str | None, Meta(description="Name of the Python task.")] = None
    args: Annotated[list[Any], Meta(description="What the task is called with; as is kwargs.")] = field(
        default_factory=list
    )
    kwargs: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    timeout: Annotated[str | None, Meta(description="Time limit of each attempt, such as 90s.")] = None
    content: Annotated[
        str | None,
        Meta(description="Version and hash of what was submitted, by which the same submission is recognised."),
    ] = None
    stopping: Annotated[str | None, Meta(description="Why the running attempt is being stopped.")] = None
    session: Annotated[str | None, Meta(description="The worker session that runs the job.")] = None
    progress: Annotated[float | None, Meta(description="0 to 1, as the run's attempts reported it.")] = None
    progress_text: Annotated[str | None, Meta(description="The attempts' own words on their progress.")] = None
    checkpoint: Annotated[Any, Meta(description="What the run's attempts left for the next attempt.")] = None
    checkpoint_at: Annotated[Moment | None, Meta(description="When the checkpoint was reported.")] = None
    exit_code: Annotated[int | None, Meta(description="Exit status of the process that ended the run.")] = None
    signal: Annotated[int | None, Meta(description="The signal that ended the process, set instead of exit_code.")] = (
        None
    )
    error: str | None = None
    result: Any = None


class LoggedJobDocument(JobDocument, frozen=True, kw_only=True):
    """A job as its events in the log have it. The log knows a job that the schedulers, and HTTP, have forgotten."""

    forgotten_at: Annotated[
        Moment | None, Meta(description="When the job's retention ended and the schedulers dropped it.")
    ] = None


class OutcomeDocument(Document, frozen=True, kw_only=True):
    """The outcome of a run."""

    state: str
    reason: str | None = None
    exit_code: int | None = None
    error: str | None = None
    result: Any = None


def job_summary(key: str, job: Job, labels: dict[str, str], worker: str) -> JobSummary:
    """Render a job of a list.

    Args:
        key: `queue/job_id`.
        worker: name of the worker that the newest attempt was sent to; empty if there is none.
    """
    return JobSummary(**_summary_fields(key, job, labels, worker))


def job_fields(
    key: str,
    job: Job,
    spec: JobSpec,
    outcome: Outcome,
    checkpoint: Checkpoint,
    *,
    worker: str = "",
    signal: int = 0,
) -> dict[str, Any]:
    """The fields of a `JobDocument`, from the job's rows.

    Args:
        key: `queue/job_id`.
        worker: name of the worker that the newest attempt was sent to; empty if there is none.
        signal: the signal that ended the newest attempt; 0 if none or unknown.
    """
    return {
        **_summary_fields(key, job, spec.labels, worker),
        "failures": job.failures,
        "worker_losses": job.losses,
        "max_attempts": spec.max_attempts,
        "executor": spec.executor,
        **written(spec.executor, spec.command, json_value(spec.payload)),
        "env": spec.environment,
        "cwd": spec.working_directory or None,
        "timeout": format_duration(spec.timeout_ms) if spec.timeout_ms else None,
        "content": f"{job.content_version}:{job.content.hex()}",
        "stopping": job.stopping or None,
        "session": job.session or None,
        "progress": checkpoint.progress if checkpoint.progress >= 0 else None,
        "progress_text": checkpoint.text or None,
        "checkpoint": json_value(checkpoint.data),
        "checkpoint_at": format_time(job.checkpoint_at) or None,
        **(
            exit_fields(outcome.exit_code, signal, succeeded=job.state is JobState.SUCCEEDED)
            if job.state in TERMINAL
            else {}
        ),
        "error": outcome.error or None,
        "result": json_value(outcome.result),
    }


def logged_job_document(fields: dict[str, Any], forgotten_at: int) -> LoggedJobDocument:
    """Render a job that was read from the log.

    Args:
        fields: see `job_fields`.
        forgotten_at: when the schedulers dropped the job, ms; 0 if they have not.
    """
    return LoggedJobDocument(**fields, forgotten_at=format_time(forgotten_at) or None)


def outcome_document(outcome: JobOutcome) -> OutcomeDocument:
    """Render how a run ended, from the message that its waiting client gets."""
    return OutcomeDocument(
        state=outcome.state,
        reason=outcome.reason or None,
        **exit_fields(outcome.exit_code, 0, succeeded=outcome.state == JobState.SUCCEEDED.name),
        error=outcome.error or None,
        result=json_value(outcome.result),
    )


def _summary_fields(key: str, job: Job, labels: dict[str, str], worker: str) -> dict[str, Any]:
    queue, _, job_id = key.partition("/")
    return {
        "job": key,
        "queue": queue,
        "job_id": job_id,
        "state": job.state.name,
        "reason": job.reason or None,
        "run": job.run,
        "attempt": job.attempt,
        "priority": job.priority,
        "labels": labels,
        "schedule": f"{queue}/{job.schedule}" if job.schedule else None,
        "concurrency_key": job.concurrency_key or None,
        "share_identifier": job.share or None,
        "worker": worker or None,
        "submitted_at": format_time(job.submitted_at),
        "pending_at": format_time(job.pending_at) or None,
        "due_at": format_time(job.due_at) or None,
        "deadline_at": format_time(job.deadline_at) or None,
        "dispatched_at": format_time(job.dispatched_at) or None,
        "started_at": format_time(job.started_at) or None,
        "ended_at": format_time(job.ended_at) or None,
    }
