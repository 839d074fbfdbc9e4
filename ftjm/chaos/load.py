"""The work that goes on meanwhile: a pure function of the seed, and who submits it."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from queue import Queue
from random import Random
from typing import Any

import msgspec

from ftjm.chaos import recorder
from ftjm.checker import Name
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core.commands import CancelJob, Command, ReleaseJob, RerunJob, SubmitJob
from ftjm.core.model import JobState, job_key
from ftjm.errors import FtjmError
from ftjm.inputs import parse_job
from ftjm.tickets import Ticket

PER_SECOND = 12.0
LOSSES_MAX = 10_000
"""No job may fail because its workers were lost: that is what is broken here."""
PATIENCE_SECONDS = 180.0
AGAIN_SECONDS = 0.5
"""Between a wish and its repetition."""
HTTP_SECONDS = 5.0
HTTP_PAUSE_SECONDS = 0.2
SHOWN_MAX = 3

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


class Planned(msgspec.Struct, frozen=True):
    """One job, and what its user does with it."""

    at_seconds: float
    fields: dict[str, Any]
    """As in a file of jobs."""
    ends: frozenset[JobState]
    cancel_after: float = -1.0
    """Seconds after the submission; below 0 never."""
    release_after: float = -1.0
    rerun_after: float = -1.0
    """One wish, sent twice, as by a client that lost the answer."""
    again: bool = False
    """Submitted twice, as by a client that lost the answer."""
    by_http: bool = False

    @property
    def name(self) -> Name:
        return self.fields["queue"], self.fields["job_id"]


def jobs(seed: int, duration_seconds: float, queues: Sequence[str], marks: Path) -> list[Planned]:
    """All jobs of a run, in the order in which they are submitted; `marks` is where they write down when they ran."""
    draw = Random(f"load {seed}")  # noqa: S311  (a seed is meant to be repeated)
    found: list[Planned] = []
    at = 0.0
    while (at := at + draw.expovariate(PER_SECOND)) < duration_seconds:
        kind = draw.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
        name = {
            "queue": draw.choice(queues),
            "job_id": f"{kind}-{len(found)}",
            "priority": draw.choice((20, 50, 50, 80)),
        }
        asked = _KINDS[kind][1](draw)
        how = {key: asked.pop(key) for key in ("ends", "cancel_after", "release_after", "rerun_after") if key in asked}
        run = [asked.pop("seconds"), asked.pop("status", 0), asked.pop("failures", 0)]
        # The interpreter that is there anyhow, without what takes time at its start.
        command = [sys.executable, "-I", "-S", recorder.__file__, str(marks), *map(str, run)]
        fields = name | {"command": command, "worker_losses_max": LOSSES_MAX} | asked
        again, by_http = draw.random() < 0.05, draw.random() < 0.2
        # What is wished afterwards must arrive afterwards: it goes the same way.
        by_http = by_http and how.keys() == {"ends"}
        found.append(Planned(round(at, 3), fields, **how, again=again, by_http=by_http))
    return found


def _seconds(draw: Random, shortest: float, longest: float) -> float:
    return round(draw.uniform(shortest, longest), 3)


_KINDS: dict[str, tuple[int, Any]] = {
    "quick": (10, lambda draw: {"seconds": _seconds(draw, 0, 0.2), "ends": {S}}),
    "long": (4, lambda draw: {"seconds": _seconds(draw, 0.3, 2), "ends": {S}}),
    "patient": (
        2,
        lambda draw: {"seconds": _seconds(draw, 0.3, 2), "disconnect": {"continue_for": "10s"}, "ends": {S}},
    ),
    "flaky": (
        3,
        lambda draw: {
            "seconds": _seconds(draw, 0, 0.2),
            "failures": draw.randint(1, 2),
            "max_attempts": 4,
            "backoff": {"initial": "200ms"},
            "ends": {S},
        },
    ),
    "failing": (
        1,
        lambda _: {"seconds": 0.05, "status": 3, "max_attempts": 2, "backoff": {"initial": "200ms"}, "ends": {F}},
    ),
    "hanging": (1, lambda _: {"seconds": 60, "timeout": "400ms", "cancel_grace": "1s", "ends": {F}}),
    "late": (1, lambda _: {"seconds": 60, "deadline": "2s", "cancel_grace": "1s", "ends": {F}}),
    "delayed": (2, lambda draw: {"seconds": 0.05, "delay": f"{draw.randint(200, 3_000)}ms", "ends": {S}}),
    "cancelled": (
        2,
        lambda draw: {"seconds": _seconds(draw, 0.5, 3), "cancel_after": _seconds(draw, 0, 2), "ends": {S, C}},
    ),
    "rerun": (1, lambda draw: {"seconds": 0.05, "rerun_after": _seconds(draw, 1, 6), "ends": {S}}),
    # Where its worker is lost, it has failed; or is held, until somebody looks at it.
    "strict": (1, lambda draw: {"seconds": _seconds(draw, 0.3, 2), "on_worker_loss": "fail", "ends": {S, F}}),
    "watched": (
        1,
        lambda draw: {
            "seconds": _seconds(draw, 0.3, 2),
            "on_worker_loss": "hold",
            "cancel_after": _seconds(draw, 6, 9),
            "ends": {S, C},
        },
    ),
    "held": (1, lambda draw: {"seconds": 0.05, "hold": True, "release_after": _seconds(draw, 0.1, 2), "ends": {S}}),
}
"""How often each kind comes, and what it asks for."""


class Load(threading.Thread):
    """Does what the users of a run do, at their times, until all is in the log."""

    def __init__(self, settings: Settings, planned: Sequence[Planned], api_port: int) -> None:
        super().__init__(name="load", daemon=True)
        self._settings = settings
        self._planned = planned
        self._failure: Exception | None = None
        self._tickets: list[Ticket] = []
        self._http = ByHttp(api_port)

    def run(self) -> None:
        """Submit, cancel and release. Told by `finish` if it fails."""
        acts: list[tuple[float, Command | Planned]] = []
        for job in self._planned:
            queue, job_id = job.name
            request = parse_job(job.fields)
            submit = SubmitJob(queue=queue, job_id=job_id, spec=request.spec)
            acts.append((job.at_seconds, job if job.by_http else submit))
            if job.again:
                acts.append((job.at_seconds + AGAIN_SECONDS, submit))
            if job.cancel_after >= 0:
                acts.append((job.at_seconds + job.cancel_after, CancelJob(queue=queue, job_id=job_id)))
            if job.release_after >= 0:
                acts.append((job.at_seconds + job.release_after, ReleaseJob(queue=queue, job_id=job_id)))
            if job.rerun_after >= 0:
                rerun = RerunJob(queue=queue, job_id=job_id, command_id=f"{job_id}-again")
                acts += [(job.at_seconds + job.rerun_after + later, rerun) for later in (0.0, AGAIN_SECONDS)]
        acts.sort(key=lambda act: act[0])
        self._http.start()
        try:
            self._act(acts)
        except Exception as error:  # noqa: BLE001  (told by `finish`, in the caller's own thread)
            self._failure = error
        self._http.waiting.put(None)
        self._http.join()

    def _act(self, acts: Sequence[tuple[float, Command | Planned]]) -> None:
        began = time.monotonic()
        with Client(self._settings, listen=False, patience_seconds=PATIENCE_SECONDS) as client:
            for at, act in acts:
                time.sleep(max(0.0, began + at - time.monotonic()))
                if isinstance(act, Planned):
                    self._http.waiting.put(act)
                else:
                    self._tickets.append(client.send(msgspec.structs.replace(act)))
            client.confirm()

    def finish(self) -> None:
        """Wait until the log has everything that was planned. Raises what went wrong; FtjmError if something lacks."""
        self.join()
        if failure := self._failure or self._http.failure:
            raise failure
        if lacking := sorted({job.name for job in self._planned} - self.acknowledged):
            named = ", ".join(job_key(*name) for name in lacking[:SHOWN_MAX])
            found = f"{len(lacking)} were not: {named}"
            raise FtjmError(f"all {len(self._planned)} jobs to be acknowledged", found, "look at the logs of the API")

    @property
    def acknowledged(self) -> set[Name]:
        """Jobs whose submission was acknowledged."""
        return self._http.acknowledged | {
            (ticket.command.queue, ticket.command.job_id)
            for ticket in list(self._tickets)
            if ticket.acknowledged and isinstance(ticket.command, SubmitJob)
        }


class ByHttp(threading.Thread):
    """Submits through the API, again and again until it is told yes: the job's id makes that harmless.

    Ends with the first job that is refused, or not taken within `patience_seconds`.
    """

    def __init__(self, port: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__(name="load-http", daemon=True)
        self.failure: Exception | None = None
        self.waiting: Queue[Planned | None] = Queue()
        self.acknowledged: set[Name] = set()
        self._port = port
        self._patience_seconds = patience_seconds

    def run(self) -> None:
        """Until it is given None, or fails. Raises nothing: `failure` has it."""
        try:
            while (job := self.waiting.get()) is not None:
                self._submit(job)
                self.acknowledged.add(job.name)
        except Exception as error:  # noqa: BLE001  (told by `finish`, in the caller's own thread)
            self.failure = error

    def _submit(self, job: Planned) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while not self._is_taken(job):
            if time.monotonic() > deadline:
                todo = "look at the logs of the API"
                raise FtjmError(f"{job_key(*job.name)} to be taken in {self._patience_seconds:g} s", "it was not", todo)
            time.sleep(HTTP_PAUSE_SECONDS)

    def _is_taken(self, job: Planned) -> bool:
        body = json.dumps(job.fields).encode()
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=HTTP_SECONDS)) as connection:
                connection.request("POST", "/api/v1/jobs", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        if 400 <= answer.status < 500 and answer.status != http.HTTPStatus.TOO_MANY_REQUESTS:
            found = f"{answer.status} {said.decode(errors='replace')}"
            raise FtjmError(f"the API to take {job_key(*job.name)}", found, "look at the logs of the API")
        return answer.status < http.HTTPStatus.MULTIPLE_CHOICES
