"""Operations that want something of a job. None of them judges: a command is decided by its partition alone."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable
from hashlib import blake2b
from http import HTTPStatus
from urllib.parse import quote

import uuid_utils
from aiohttp import web

from ftjm.api import models as m
from ftjm.api import problems, requests, views
from ftjm.api.desk import Errand, LogAway
from ftjm.api.operations import KEY_MAX, Asked, Handler, Operation, reply
from ftjm.api.problems import ProblemError
from ftjm.core import commands as c
from ftjm.core.names import is_name
from ftjm.core.submission import RETRY_SECONDS
from ftjm.inputs import InvalidJobError, JobFields, parse_job

DECISION_SECONDS = 2.0
IDEMPOTENCY_KEY = "Idempotency-Key"
REFUSALS = {
    "IDENTITY_TAKEN": HTTPStatus.CONFLICT,
    "WRONG_STATE": HTTPStatus.CONFLICT,
    "UNKNOWN_JOB": HTTPStatus.NOT_FOUND,
    "INTERNAL_ERROR": HTTPStatus.BAD_GATEWAY,
}
"""All other codes say that the command itself is wrong: 422."""


async def submit(asked: Asked) -> web.StreamResponse:
    """Submit a job."""
    key = _idempotency_key(asked.request)
    try:
        job = parse_job(asked.body, asked.service.settings.inline_limit_bytes)
    except InvalidJobError as error:
        errors = [m.Fault(path=list(problem.path), text=problem.text[:500]) for problem in error.problems[:100]]
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        raise ProblemError(status, "the job cannot be submitted as it is", errors=errors) from None
    job_id = job.job_id or _named("k", key) or str(uuid_utils.uuid7())
    wait_seconds = asked.query.wait / 1000
    command = c.SubmitJob(queue=job.queue, job_id=job_id, spec=job.spec, awaits=wait_seconds > 0)
    with await _send(asked, command) as errand:
        await errand.decided(DECISION_SECONDS)
        _raise_refusal(errand)
        if wait_seconds:
            await errand.ended(wait_seconds)
            _raise_refusal(errand)
    return _accepted(errand)


def _command(make: Callable[[Asked, str, str], c.Command]) -> Handler:
    """A handler that sends what `make` makes of (request, queue, job id), and tells what was decided."""

    async def handle(asked: Asked) -> web.StreamResponse:
        queue, job_id = asked.request.match_info["queue"], asked.request.match_info["job_id"]
        if not (is_name(queue) and is_name(job_id)):
            raise problems.no_such_job(f"{queue}/{job_id}")
        with await _send(asked, make(asked, queue, job_id)) as errand:
            await errand.decided(DECISION_SECONDS)
        _raise_refusal(errand)
        return _accepted(errand)

    return handle


def _rerun(asked: Asked, queue: str, job_id: str) -> c.Command:
    wish = _named("h", _idempotency_key(asked.request)) or str(uuid_utils.uuid7())
    return c.RerunJob(queue=queue, job_id=job_id, reason=asked.body.reason, command_id=wish)


cancel = _command(lambda asked, q, j: c.CancelJob(queue=q, job_id=j, reason=asked.body.reason))
hold = _command(lambda asked, q, j: c.HoldJob(queue=q, job_id=j, reason=asked.body.reason))
release = _command(lambda _, q, j: c.ReleaseJob(queue=q, job_id=j))
rerun = _command(_rerun)


def _idempotency_key(request: web.Request) -> str:
    key = request.headers.get(IDEMPOTENCY_KEY, "")
    if len(key) > KEY_MAX or (IDEMPOTENCY_KEY in request.headers and not key):
        text = f"expected 1 to {KEY_MAX} characters in {IDEMPOTENCY_KEY}, but found {len(key)}"
        raise ProblemError(HTTPStatus.BAD_REQUEST, text)
    return key


def _named(prefix: str, key: str) -> str:
    """A name that is the same for the same key; empty for none."""
    digest = blake2b(key.encode(errors="surrogateescape"), digest_size=20).digest()
    return f"{prefix}-{b32encode(digest).decode().lower()}" if key else ""


async def _send(asked: Asked, command: c.Command) -> Errand:
    command.actor = f"http@{asked.request.remote or 'unknown'}"
    name = f"{command.queue}/{command.job_id}"
    try:
        return await asked.service.desk.send(command)
    except LogAway as error:
        text = (
            f"the log does not take commands now: {error}; send the same again, under the same id: nothing is doubled"
        )
        raise problems.away(text, job=name) from None


def _raise_refusal(errand: Errand) -> None:
    ticket = errand.ticket
    if ticket.refused and ticket.reply is not None:
        code = ticket.reply.code
        if code == "OVERLOADED":
            job = f"{ticket.command.queue}/{ticket.command.job_id}"
            raise problems.away(ticket.reply.text, code=code, job=job, seconds=RETRY_SECONDS)
        name = f"{ticket.command.queue}/{ticket.command.job_id}"
        status = REFUSALS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
        raise ProblemError(status, ticket.reply.text, code=code, job=name)


def _accepted(errand: Errand) -> web.Response:
    """202, or 200 where the outcome is known."""
    ticket = errand.ticket
    queue, job_id = ticket.command.queue, ticket.command.job_id
    ended, decided = ticket.outcome, ticket.reply
    document = m.Accepted(
        job=f"{queue}/{job_id}",
        queue=queue,
        job_id=job_id,
        decided=decided is not None,
        state=(ended.state if ended else decided.state if decided else "") or None,
        run=(decided.run if decided else 0) or None,
        token=errand.token,
        outcome=views.outcome(ended) if ended else None,
    )
    headers = {"Location": f"/api/v1/jobs/{quote(queue)}/{quote(job_id)}", "Ftjm-Token": errand.token}
    return reply(document, 200 if ended else 202, headers)


_COMMANDS: tuple[tuple[str, str, Handler], ...] = (
    (
        "cancel",
        "Cancel it: at once while it waits; a running one is stopped, and an outcome reached first wins.",
        cancel,
    ),
    ("hold", "Keep it from starting until it is released.", hold),
    ("release", "Let a held job go on.", release),
    ("rerun", "Run an ended job once more: a new run, with all its attempts before it.", rerun),
    ("retry", "The same as rerun.", rerun),
)
_KEYED = ((IDEMPOTENCY_KEY, "The same key asks for the same thing, however often it is sent."),)
_REFUSED = (400, 404, 408, 409, 413, 415, 422, 502, 503)

OPERATIONS = (
    Operation(
        "POST",
        "/jobs",
        "submit",
        "Submit a job. 202 once the log has it; 200 with the outcome, where it was waited for.",
        submit,
        {202: m.Accepted, 200: m.Accepted},
        (400, 408, 409, 413, 414, 415, 422, 502, 503),
        query=requests.SubmitQuery,
        body=JobFields,
        body_required=True,
        headers=_KEYED,
    ),
    *(
        Operation(
            "POST",
            f"/jobs/{{queue}}/{{job_id}}/{verb}",
            verb,
            summary,
            handler,
            {202: m.Accepted},
            (*_REFUSED, 414),
            body=requests.Why,
            headers=_KEYED if handler is rerun else (),
        )
        for verb, summary, handler in _COMMANDS
    ),
)
