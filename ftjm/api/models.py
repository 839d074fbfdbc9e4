"""What the API gives, as models; the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from ftjm.explain import Reason

Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Freshness(BaseModel):
    """How true what is read is: all that the log held at `as_of` is in it."""

    as_of: Moment | None
    age_seconds: float | None = Field(description="null where it is not known")
    stale: bool = Field(description="Older than usual: the log is away, or reading is behind.")


class JobSummary(BaseModel):
    """A job in a list."""

    job: str = Field(description="queue/job_id")
    queue: str
    job_id: str
    state: str
    run: int
    attempt: int
    priority: int
    labels: dict[str, str]
    worker: str | None = Field(description="That the newest attempt was given to.")
    reason: str | None
    submitted_at: Moment
    due_at: Moment | None
    deadline_at: Moment | None
    dispatched_at: Moment | None
    started_at: Moment | None
    ended_at: Moment | None


class Job(JobSummary):
    """All that is known of a job."""

    failures: int
    worker_losses: int
    max_attempts: int
    executor: str
    command: list[str]
    payload: Any
    env: dict[str, str]
    cwd: str | None
    timeout: str | None
    stopping: str | None
    session: str | None
    progress: float | None = Field(description="0 to 1, as the run's attempts told.")
    progress_text: str | None
    checkpoint: Any = Field(description="What the run's attempts have left for the next one.")
    exit_code: int | None
    error: str | None
    result: Any
    freshness: Freshness


class JobPage(BaseModel):
    """Newest submission first. A page may be shorter than its limit: go on while there is a `next`."""

    jobs: list[JobSummary]
    next: str | None = Field(description="The cursor of the next page.")
    freshness: Freshness


class Outcome(BaseModel):
    """How a run ended."""

    state: str
    reason: str | None
    exit_code: int
    error: str | None
    result: Any


class Accepted(BaseModel):
    """A command that the replicated log has."""

    job: str
    queue: str
    job_id: str
    decided: bool = Field(description="Whether a scheduler has decided yet; what is in the log will be.")
    state: str | None
    run: int | None
    token: str = Field(description="For `after`, in a read that must see what became of this.")
    outcome: Outcome | None = None


class Happened(BaseModel):
    """An event, as the log has it; outputs are under logs."""

    at: Moment
    job: str | None
    event: str
    run: int | None
    attempt: int | None
    cause: str
    cause_ref: str
    actor: str | None
    partition: int
    offset: int
    details: dict[str, Any]


class HistoryPage(BaseModel):
    """A job's events, oldest first."""

    events: list[Happened]
    next: int | None
    freshness: Freshness


class Logs(BaseModel):
    """What one attempt wrote: the tails that the log holds. Bytes that are not UTF-8 are replaced."""

    job: str
    run: int
    attempt: int
    exit_code: int
    stdout: str
    stderr: str
    stdout_cut: int = Field(description="Bytes before the tail, which were not kept.")
    stderr_cut: int
    freshness: Freshness


class Explained(BaseModel):
    """Why a job is not running."""

    job: str
    state: str
    reason: Reason
    text: str
    todo: str | None
    ahead: int | None = Field(description="Jobs of its queue that are served before it, where it waits in line.")
    freshness: Freshness


class QueueSummary(BaseModel):
    """A queue, and how many jobs it holds in each state."""

    queue: str
    partition: int
    jobs: dict[str, int]
    oldest_ready: Moment | None
    workers: int = Field(description="Worker sessions that serve it now.")


class QueuePage(BaseModel):
    """Queues by name."""

    queues: list[QueueSummary]
    next: str | None
    freshness: Freshness


class Worker(BaseModel):
    """A worker session, as its last heartbeat told."""

    worker: str
    session: str
    host: str
    pid: int
    state: str
    alive: bool
    silent_ms: int
    lease_ms: int
    slots: int
    busy: int
    queues: list[str]


class Workers(BaseModel):
    """Worker sessions that were heard within the last minute."""

    workers: list[Worker]


class Role(BaseModel):
    """What a scheduler says of a partition."""

    scheduler: str
    role: str
    applied_offset: int


class PartitionSummary(BaseModel):
    """Who decides about a partition, and how far it has come."""

    partition: int
    owner: str | None
    alive: bool = Field(description="Whether the owner was heard lately, saying that it is the owner.")
    epoch: int
    batch: int
    decided_at: Moment | None
    next_command: int
    lag: int | None = Field(description="Commands that are not decided yet; null where Kafka did not say.")
    applied_offset: int
    roles: list[Role]


class Partitions(BaseModel):
    """All partitions."""

    partitions: list[PartitionSummary]
    freshness: Freshness


class SchedulerSummary(BaseModel):
    """A scheduler process, as its last heartbeat told."""

    scheduler: str
    host: str
    pid: int
    alive: bool
    silent_ms: int
    roles: dict[str, int] = Field(description="How many partitions it has in each role.")


class BrokerSummary(BaseModel):
    """A Kafka broker."""

    id: int
    host: str
    port: int
    controller: bool


class Topology(BaseModel):
    """Who is there."""

    cluster: str
    version: str
    schedulers: list[SchedulerSummary]
    workers: list[Worker]
    brokers: list[BrokerSummary] | None = Field(description="null where Kafka did not answer.")
    freshness: Freshness


class Health(BaseModel):
    """Whether this instance may be asked."""

    ready: bool
    why: str | None = None


class Fault(BaseModel):
    """What is wrong with one field."""

    path: list[str | int]
    text: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str | None = Field(None, description="For programs, where the title does not tell enough.")
    errors: list[Fault] | None = None
    job: str | None = Field(None, description="The job that it is about, where it may exist.")
