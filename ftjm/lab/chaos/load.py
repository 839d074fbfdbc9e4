"""The load of a run: sends the requests of the planned jobs (`jobs.py`) and the declarations (`declared.py`) at their
times, in two threads.

Most jobs are submitted with the Python client, some through the HTTP API. Some requests are sent twice, as by a client
that lost the answer.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from queue import Queue

import msgspec

from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.records.commands import CancelJob, Command, ReleaseJob, RerunJob, SubmitJob
from ftjm.core.state.model import job_key
from ftjm.lab.chaos.declared import Timed
from ftjm.lab.chaos.jobs import PlannedJob
from ftjm.lab.checker import JobName
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from ftjm.specs.job import parse_job

PATIENCE_SECONDS = 180.0
AGAIN_SECONDS = 0.5
"""Time between a request and its repetition."""
HTTP_SECONDS = 5.0
HTTP_PAUSE_SECONDS = 0.2
SHOWN_MAX = 3


class ChaosLoad(threading.Thread):
    """Sends all requests of the run at their times, and waits until the log has them."""

    def __init__(
        self, settings: Settings, planned: Sequence[PlannedJob], declared: Sequence[Timed], api_port: int
    ) -> None:
        super().__init__(name="load", daemon=True)
        self._settings = settings
        self._planned = planned
        self._declared = declared
        self._failure: Exception | None = None
        self._tickets: list[Ticket] = []
        self._http = HttpSubmitter(api_port)

    def run(self) -> None:
        """Send all requests. Raises nothing: `finish` raises what went wrong."""
        requests: list[tuple[float, Command | PlannedJob]] = [*self._declared]
        for job in self._planned:
            queue, job_id = job.name
            parsed = parse_job(job.fields)
            submit = SubmitJob(queue=queue, job_id=job_id, spec=parsed.spec, explicit=list(parsed.explicit))
            requests.append((job.at_seconds, job if job.by_http else submit))
            if job.submit_twice:
                requests.append((job.at_seconds + AGAIN_SECONDS, submit))
            if job.cancel_after >= 0:
                requests.append((job.at_seconds + job.cancel_after, CancelJob(queue=queue, job_id=job_id)))
            if job.release_after >= 0:
                requests.append((job.at_seconds + job.release_after, ReleaseJob(queue=queue, job_id=job_id)))
            if job.rerun_after >= 0:
                rerun = RerunJob(queue=queue, job_id=job_id, command_id=f"{job_id}-again")
                requests += [(job.at_seconds + job.rerun_after + later, rerun) for later in (0.0, AGAIN_SECONDS)]
        requests.sort(key=lambda request: request[0])
        self._http.start()
        try:
            self._send_all(requests)
        except Exception as error:  # noqa: BLE001  (raised by `finish`, in the thread of its caller)
            self._failure = error
        self._http.queue.put(None)
        self._http.join()

    def _send_all(self, requests: Sequence[tuple[float, Command | PlannedJob]]) -> None:
        began = time.monotonic()
        with Client(self._settings, listen=False, patience_seconds=PATIENCE_SECONDS) as client:
            for at, request in requests:
                time.sleep(max(0.0, began + at - time.monotonic()))
                if isinstance(request, PlannedJob):
                    self._http.queue.put(request)
                else:
                    self._tickets.append(client.send(msgspec.structs.replace(request)))
            client.confirm()

    def finish(self) -> None:
        """Wait until the log has all planned jobs.

        Raises:
            FtjmError: some jobs were not acknowledged.
            Exception: the error that ended one of the threads.
        """
        self.join()
        if failure := self._failure or self._http.failure:
            raise failure
        if missing := sorted({job.name for job in self._planned} - self.acknowledged):
            named = ", ".join(job_key(*name) for name in missing[:SHOWN_MAX])
            found = f"{len(missing)} were not: {named}"
            raise FtjmError(f"all {len(self._planned)} jobs to be acknowledged", found, "look at the logs of the API")

    @property
    def acknowledged(self) -> set[JobName]:
        """Names of the jobs whose submission was acknowledged."""
        return self._http.acknowledged | {
            (ticket.command.queue, ticket.command.job_id)
            for ticket in list(self._tickets)
            if ticket.acknowledged and isinstance(ticket.command, SubmitJob)
        }


class HttpSubmitter(threading.Thread):
    """Submits jobs through the HTTP API, each again and again until the API accepts it: the id makes repetition
    harmless.

    Ends at the first job that the API refuses, or does not accept within `patience_seconds`.
    """

    def __init__(self, port: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__(name="load-http", daemon=True)
        self.failure: Exception | None = None
        self.queue: Queue[PlannedJob | None] = Queue()
        self.acknowledged: set[JobName] = set()
        self._port = port
        self._patience_seconds = patience_seconds

    def run(self) -> None:
        """Submit jobs from the queue until it yields `None`. Raises nothing: an error is kept in `failure`."""
        try:
            while (job := self.queue.get()) is not None:
                self._submit(job)
                self.acknowledged.add(job.name)
        except Exception as error:  # noqa: BLE001  (raised by `finish`, in the thread of its caller)
            self.failure = error

    def _submit(self, job: PlannedJob) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while not self._is_accepted(job):
            if time.monotonic() > deadline:
                wanted = f"{job_key(*job.name)} to be accepted in {self._patience_seconds:g} s"
                raise FtjmError(wanted, "it was not", "look at the logs of the API")
            time.sleep(HTTP_PAUSE_SECONDS)

    def _is_accepted(self, job: PlannedJob) -> bool:
        request = json.dumps(job.fields).encode()
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=HTTP_SECONDS)) as connection:
                connection.request("POST", "/api/v1/jobs", request, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        if 400 <= answer.status < 500 and answer.status != http.HTTPStatus.TOO_MANY_REQUESTS:
            found = f"{answer.status} {body.decode(errors='replace')}"
            raise FtjmError(f"the API to accept {job_key(*job.name)}", found, "look at the logs of the API")
        return answer.status < http.HTTPStatus.MULTIPLE_CHOICES
