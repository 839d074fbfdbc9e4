"""Paths that send a command about a job: submit, cancel, hold, release, rerun, prioritize.

A handler makes the command and sends it. Whether the job's state allows it is decided by the partition that owns the
job's queue, and only there; the handler turns the decision into a status.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from http import HTTPStatus
from urllib.parse import quote

import uuid_utils
from aiohttp import web

from ftjm.api.http.command_bridge import LogUnavailable, PendingCommand
from ftjm.api.http.models import Accepted, Fault
from ftjm.api.http.problems import ProblemError, unavailable, unknown_job
from ftjm.api.http.query_models import CommandBody, DeclarationQuery, PriorityBody, SubmitQuery
from ftjm.api.http.routing import (
    FAULT_TEXT_MAX,
    FAULTS_MAX,
    KEY_LENGTH_MAX,
    CheckedRequest,
    Handler,
    Operation,
    reply,
)
from ftjm.core.decide.submissions import RETRY_SECONDS
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.readmodel.documents.job import outcome_document
from ftjm.specs.job import InvalidJobError, JobFields, parse_job
from ftjm.specs.problems import FieldProblem

DECISION_SECONDS = 2.0
"""How long an answer waits for the decision; without the decision, the answer has `"decided": false`."""
IDEMPOTENCY_KEY = "Idempotency-Key"
REFUSALS = {
    "IDENTITY_TAKEN": HTTPStatus.CONFLICT,
    "WRONG_STATE": HTTPStatus.CONFLICT,
    "CONFLICT": HTTPStatus.CONFLICT,
    "IN_USE": HTTPStatus.CONFLICT,
    "OVERLAP": HTTPStatus.CONFLICT,
    "UNDER_WAY": HTTPStatus.CONFLICT,
    "UNKNOWN_JOB": HTTPStatus.NOT_FOUND,
    "UNKNOWN_BULK": HTTPStatus.NOT_FOUND,
    "UNKNOWN_SCHEDULE": HTTPStatus.NOT_FOUND,
    "UNKNOWN_BACKFILL": HTTPStatus.NOT_FOUND,
    "INTERNAL_ERROR": HTTPStatus.BAD_GATEWAY,
}
"""Statuses of refusals by their codes. All other codes mean that the command itself is wrong: 422."""


async def submit(request: CheckedRequest) -> web.StreamResponse:
    """Submit a job, and wait for the decision (and the outcome, with `wait`) as long as the request allows.

    Raises:
        ProblemError: the job is invalid (422), was refused, or Kafka does not take the command.
    """
    key = idempotency_key(request.http)
    service = request.service
    try:
        limit = service.settings.inline_limit_bytes
        job = await service.check(request.body_bytes, lambda: parse_job(request.body, limit))
    except InvalidJobError as error:
        detail = "the job cannot be submitted as it is; see errors, correct the fields, and send it again"
        raise invalid(detail, error.problems) from None
    job_id = job.job_id or id_of_key("k", key) or str(uuid_utils.uuid7())
    wait_seconds = request.query.wait / 1000
    command = c.SubmitJob(
        queue=job.queue, job_id=job_id, spec=job.spec, explicit=[*job.explicit], awaits=wait_seconds > 0
    )
    with await _send(request, command) as pending:
        await pending.decided(DECISION_SECONDS)
        _raise_refusal(pending)
        if wait_seconds:
            await pending.ended(wait_seconds)
            _raise_refusal(pending)
    return _accepted(pending)


def _command_handler(make: Callable[[CheckedRequest, str, str], c.Command]) -> Handler:
    """A handler that sends a command about the path's job, and answers with the decision.

    Args:
        make: makes the command of the request, the queue and the job id.
    """

    async def handle(request: CheckedRequest) -> web.StreamResponse:
        queue, job_id = request.http.match_info["queue"], request.http.match_info["job_id"]
        if not (is_name(queue) and is_name(job_id)):
            raise unknown_job(f"{queue}/{job_id}")
        return _accepted(await decide(request, make(request, queue, job_id)))

    return handle


def _rerun(request: CheckedRequest, queue: str, job_id: str) -> c.Command:
    command_id = named_request(request.http)
    return c.RerunJob(queue=queue, job_id=job_id, reason=request.body.reason, command_id=command_id)


cancel = _command_handler(lambda request, q, j: c.CancelJob(queue=q, job_id=j, reason=request.body.reason))
hold = _command_handler(lambda request, q, j: c.HoldJob(queue=q, job_id=j, reason=request.body.reason))
release = _command_handler(lambda _, q, j: c.ReleaseJob(queue=q, job_id=j))
prioritize = _command_handler(lambda request, q, j: c.PrioritizeJob(queue=q, job_id=j, priority=request.body.priority))
rerun = _command_handler(_rerun)


async def decide(request: CheckedRequest, command: c.Command) -> PendingCommand:
    """Send a command, and wait some time for the decision. Raises ProblemError if it is refused."""
    with await _send(request, command) as pending:
        await pending.decided(DECISION_SECONDS)
    _raise_refusal(pending)
    return pending


def named_request(http: web.Request, prefix: str = "h") -> str:
    """An id of the request: the same for the same idempotency key, and a new one without a key. Raises ProblemError.

    Args:
        http: the request.
        prefix: tells kinds of requests apart that one key may be used for.
    """
    return id_of_key(prefix, idempotency_key(http)) or str(uuid_utils.uuid7())


def expected_revision(request: CheckedRequest) -> int:
    """The revision that the request expects of a declaration."""
    query: DeclarationQuery = request.query
    return c.ANY_REVISION if query.expected_revision is None else query.expected_revision


def invalid(detail: str, problems: Sequence[FieldProblem]) -> ProblemError:
    """The problem of a body that breaks the rules for what users write."""
    errors = [Fault(path=list(problem.path), text=problem.text[:FAULT_TEXT_MAX]) for problem in problems[:FAULTS_MAX]]
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def idempotency_key(http: web.Request) -> str:
    """The text that names the request for its sender; empty if there is none. Raises ProblemError if it is too long."""
    key = http.headers.get(IDEMPOTENCY_KEY, "")
    if len(key) > KEY_LENGTH_MAX or (IDEMPOTENCY_KEY in http.headers and not key):
        detail = f"expected 1 to {KEY_LENGTH_MAX} characters in {IDEMPOTENCY_KEY}, but found {len(key)}"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
    return key


def id_of_key(prefix: str, key: str) -> str:
    """An id that is the same for the same idempotency key; empty if there is no key."""
    digest = blake2b(key.encode(errors="surrogateescape"), digest_size=20).digest()
    return f"{prefix}-{b32encode(digest).decode().lower()}" if key else ""


async def _send(request: CheckedRequest, command: c.Command) -> PendingCommand:
    """Send the command. Raises ProblemError if the log does not take it."""
    command.actor = f"http@{request.http.remote or 'unknown'}"
    try:
        return await request.service.commands.send(command)
    except LogUnavailable as error:
        again = "send the same again"
        if command.job_id:
            again += ", under the same id: nothing is doubled"
        detail = f"expected the log to take the command, but {error}; {again}"
        raise unavailable(detail, job=_job_of(command)) from None


def _raise_refusal(pending: PendingCommand) -> None:
    ticket = pending.ticket
    if not ticket.refused or ticket.reply is None:
        return
    code, job = ticket.reply.code, _job_of(ticket.command)
    if code == "OVERLOADED":
        raise unavailable(ticket.reply.text, code=code, job=job, retry_after_seconds=RETRY_SECONDS)
    status = REFUSALS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
    raise ProblemError(status, ticket.reply.text, code=code, job=job)


def _job_of(command: c.Command) -> str | None:
    """The job that a command is about; None if it is about none."""
    return f"{command.queue}/{command.job_id}" if command.job_id else None


def _accepted(pending: PendingCommand) -> web.Response:
    """202, or 200 if the outcome is known."""
    ticket = pending.ticket
    queue, job_id = ticket.command.queue, ticket.command.job_id
    outcome, decision = ticket.outcome, ticket.reply
    document = Accepted(
        job=f"{queue}/{job_id}",
        queue=queue,
        job_id=job_id,
        decided=decision is not None,
        state=(outcome.state if outcome else decision.state if decision else "") or None,
        run=(decision.run if decision else 0) or None,
        token=pending.token,
        outcome=outcome_document(outcome) if outcome else None,
    )
    headers = {"Location": f"/api/v1/jobs/{quote(queue)}/{quote(job_id)}", "Ftjm-Token": pending.token}
    return reply(document, 200 if outcome else 202, headers)


_RERUN_TEXT = "The run that has ended stays in the history. The new one has all of `max_attempts` again."
_CANCEL_TEXT = (
    "A job that waits is cancelled at once. A running one is stopped, and cancelled once it has stopped; if it ends by "
    "itself before that, its own outcome counts."
)
_COMMANDS: tuple[tuple[str, str, str, Handler], ...] = (
    ("cancel", "Cancel a job.", _CANCEL_TEXT, cancel),
    ("hold", "Hold a job: it does not start until it is released.", "", hold),
    ("release", "Release a held job.", "", release),
    ("rerun", "Run a job that has ended once more.", _RERUN_TEXT, rerun),
    ("retry", "Run a job that has ended once more: the same as rerun.", _RERUN_TEXT, rerun),
)
IDEMPOTENCY = (
    (
        IDEMPOTENCY_KEY,
        "A text of your choice. Requests with the same key are one request, however often they are sent.",
    ),
)
REFUSED = (400, 404, 408, 409, 413, 415, 422, 502, 503)

OPERATIONS = (
    Operation(
        "POST",
        "/jobs",
        "submit",
        "Submit a job.",
        submit,
        {202: Accepted, 200: Accepted},
        (400, 408, 409, 413, 414, 415, 422, 502, 503),
        query=SubmitQuery,
        body=JobFields,
        body_required=True,
        written=True,
        headers=IDEMPOTENCY,
        description="202 means that the replicated log has the job: it will run, whatever fails. 200 comes with the "
        "outcome, if `wait` was given and the run ended in time. A job's identity is its queue and its id: submitting "
        "the same job again gives the same job, and other content under the same identity is refused with 409.",
    ),
    *(
        Operation(
            "POST",
            f"/jobs/{{queue}}/{{job_id}}/{verb}",
            verb,
            summary,
            handler,
            {202: Accepted},
            (*REFUSED, 414),
            body=CommandBody,
            headers=IDEMPOTENCY if handler is rerun else (),
            description=description,
        )
        for verb, summary, description, handler in _COMMANDS
    ),
    Operation(
        "POST",
        "/jobs/{queue}/{job_id}/prioritize",
        "prioritize",
        "Give a job another priority.",
        prioritize,
        {202: Accepted},
        (*REFUSED, 414),
        body=PriorityBody,
        body_required=True,
        description="A waiting job gets another place at once. For one that runs it counts if it waits again.",
    ),
)
