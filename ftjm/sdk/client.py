"""The client as programs use it: submit requests, get handles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Unpack

import uuid_utils

from ftjm import config
from ftjm.config import Settings
from ftjm.core.commands import SubmitJob
from ftjm.core.identity import parse_job
from ftjm.inputs import JobRequest
from ftjm.sdk.handle import Handle
from ftjm.sdk.request import JobOptions, Request
from ftjm.sdk.transport import KafkaTransport, Transport
from ftjm.tickets import Ticket

R = TypeVar("R")


class Client:
    """A session with a cluster, which is found by these arguments, then `FTJM_*` variables, then `ftjm.toml`, then the
    running `ftjm up` of this machine. A context manager; all of it may be called from any thread.

    Args:
        kafka: settings for the Kafka client, as they are.
        patience: seconds for which Kafka may be silent before a call gives up with `Unreachable`.
    """

    def __init__(
        self,
        *,
        bootstrap: str | None = None,
        cluster: str | None = None,
        data_dir: str | None = None,
        kafka: Mapping[str, str | int | float | bool] | None = None,
        patience: float = 120.0,
        settings: Settings | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Raises UsageError, Unreachable, FtjmError."""
        if transport is None:
            found = settings or config.load(
                bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=dict(kafka) if kafka else None
            )
            transport = KafkaTransport(found, patience)
        self._transport = transport

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session. Jobs go on; handles can wait no more."""
        self._transport.close()

    def submit(self, request: Request[R], *, job_id: str = "", **options: Unpack[JobOptions]) -> Handle[R]:
        """Submit a job: returns when the replicated log has it.

        Args:
            job_id: with the queue its identity: submitting the same one again gives the same job. By default a new one.
            options: win over those of the request.

        Raises:
            InvalidJobError: for options that cannot be. What the cluster refuses, the handle raises.
            Unreachable: Kafka was silent; submit the same again with its `job_id`, and nothing is doubled.
        """
        job = request.job({**options, "job_id": job_id or None})
        ticket = self._send(job, awaits=True)
        self._transport.confirm([ticket])
        return Handle(self._transport, job.queue, ticket.command.job_id, ticket)

    def submit_many(
        self, requests: Iterable[Request[R] | tuple[str, Request[R]]], *, awaits: bool = True
    ) -> list[Handle[R]]:
        """Submit jobs, each with a job id or without, and wait once until the log has all of them.

        Args:
            awaits: whether outcomes will be wanted: of those that are not, none is sent.

        Raises as `submit`; those before an invalid one are submitted.
        """
        handles: list[Handle[R]] = []
        tickets: list[Ticket] = []
        try:
            for item in requests:
                job_id, request = item if isinstance(item, tuple) else ("", item)
                job = request.job({"job_id": job_id or None})
                ticket = self._send(job, awaits=awaits)
                tickets.append(ticket)
                handles.append(Handle(self._transport, job.queue, ticket.command.job_id, ticket))
        finally:
            self._transport.confirm(tickets)
        return handles

    def job(self, name: str) -> Handle[Any]:
        """A handle of a job that somebody has submitted: `queue/job_id`. Raises ValueError for what is no name."""
        return Handle(self._transport, *parse_job(name))

    def _send(self, job: JobRequest, *, awaits: bool) -> Ticket:
        job_id = job.job_id or str(uuid_utils.uuid7())
        return self._transport.send(SubmitJob(queue=job.queue, job_id=job_id, spec=job.spec, awaits=awaits))
