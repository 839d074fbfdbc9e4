"""The client of programs: it submits requests and returns handles.

with ftjm.Client() as client:
    handle = client.submit(resize("a.png", width=200), priority=7, job_id="resize-a-200")
    print(handle.result(timeout=30))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, Unpack

import uuid_utils

from ftjm.client.submissions import submission
from ftjm.client.ticket import Ticket
from ftjm.core.identity import parse_job
from ftjm.core.records.commands import SubmitJob
from ftjm.runtime import config
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, Unreachable
from ftjm.sdk.handle import Handle
from ftjm.sdk.request import JobOptions, Request, found_type
from ftjm.sdk.tasks import Task
from ftjm.sdk.transport import KafkaTransport, Transport

R = TypeVar("R")


# Same name as ftjm.client.command_client.Client: each is the client of its floor; users see only this one.
class Client:
    """A connection to a cluster. A context manager; all methods may be called from any thread.

    The cluster is found by the arguments, then by `FTJM_*` variables, then by `ftjm.toml`, then by the running `ftjm
    up` of this machine."""

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
        """Connect.

        Args:
            bootstrap: Addresses of Kafka brokers, `host:port,...`.
            cluster: The name of the cluster, which its topics begin with.
            data_dir: The directory that may hold the endpoint file of `ftjm up`.
            kafka: Settings that are handed to the Kafka client as they are.
            patience: Seconds for which Kafka may be silent before a call raises `Unreachable`.
            settings: All settings, instead of the arguments above.
            transport: A replacement for Kafka; for `ftjm.testing`.

        Raises:
            UsageError: A setting has a wrong value.
            Unreachable: Kafka does not answer.
            FtjmError: The topics of the cluster do not exist, or cannot be used.
        """
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
        """Disconnect. Jobs continue. Handles of this client cannot be used any more."""
        self._transport.close()

    def submit(self, request: Request[R], *, job_id: str = "", **options: Unpack[JobOptions]) -> Handle[R]:
        """Submit a job, and wait until the replicated log has it.

        Args:
            request: A call of a task, or a command.
            job_id: Together with the queue, the job's identity: submitting the same job again gives the same job. By
                default a new id.
            options: Options of the job, which win over those of the request.

        Returns:
            The job's handle. If the cluster refuses the job, the handle raises `Refused`.

        Raises:
            InvalidJobError: An option has a wrong value.
            TypeError: It is not a request, such as a task that is not called.
            Unreachable: Kafka does not answer. Submit again with the same `job_id`: the job is not doubled.
        """
        ticket = self._transport.send(_submission(request, {**options, "job_id": job_id or None}, awaits=True))
        self._transport.confirm([ticket])
        return self._handle(ticket)

    def submit_many(
        self, requests: Iterable[Request[R] | tuple[str, Request[R]]], *, awaits: bool = True
    ) -> list[Handle[R]]:
        """Submit many jobs, and wait once until the log has all of them. Much faster than one `submit` after another.

        Example:
            handles = client.submit_many((f"resize-{n}", resize(f"{n}.png", width=200)) for n in range(10_000))

        Args:
            requests: Requests, or pairs of a job id and a request.
            awaits: Whether results will be asked for. If not, partitions send no outcomes, which saves work.

        Returns:
            The handles, in the order of the requests.

        Raises:
            InvalidJobError, TypeError: A request is not valid. The jobs before it are submitted.
            Unreachable: Kafka does not answer. Submit again with the same job ids: no job is doubled.
        """
        if not isinstance(requests, Iterable):
            raise TypeError(f"expected requests, or pairs of a job id and a request, but found {found_type(requests)}")
        pairs = (item if isinstance(item, tuple) and len(item) == 2 else ("", item) for item in requests)
        commands = (_submission(request, {"job_id": job_id or None}, awaits=awaits) for job_id, request in pairs)
        tickets: list[Ticket] = []
        try:
            tickets.extend(map(self._transport.add, commands))  # of one that raises, those before are kept
        except Unreachable:
            raise
        except BaseException as error:
            with suppress(FtjmError):
                self._transport.confirm([ticket for ticket in tickets if not ticket.failure])
            if failed := [ticket for ticket in tickets if ticket.failure]:
                error.add_note(f"{len(failed)} of the jobs before were not sent: {failed[0].failure}")
            raise
        self._transport.confirm(tickets)
        return [self._handle(ticket) for ticket in tickets]

    def job(self, name: str) -> Handle[Any]:
        """A handle of a job that was submitted before, perhaps by another program.

        Args:
            name: `queue/job_id`; a bare id means the queue `default`.

        Raises:
            ValueError: It is not a job's name.
            TypeError: It is not text.
        """
        if not isinstance(name, str):
            raise TypeError(f"expected a job's name as text, but found {found_type(name)}")
        return Handle(self._transport, *parse_job(name))

    def _handle(self, ticket: Ticket) -> Handle[Any]:
        return Handle(self._transport, ticket.command.queue, ticket.command.job_id, ticket)


def _submission(request: Request[Any], options: Mapping[str, Any], *, awaits: bool) -> SubmitJob:
    """The command that submits a job. Raises InvalidJobError, TypeError."""
    job = _checked(request).job(options)
    return submission(job._replace(job_id=job.job_id or str(uuid_utils.uuid7())), awaits=awaits)


def _checked(request: Request[R]) -> Request[R]:
    if isinstance(request, Task):
        raise TypeError(f"expected a request, but found {request!r}, which is not called; submit {request.name}(...)")
    if not isinstance(request, Request):
        raise TypeError(f"expected a call of a task, or ftjm.command(...), but found {found_type(request)}")
    return request
