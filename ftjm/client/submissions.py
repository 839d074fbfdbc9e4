"""Submissions as commands, and what is sent where a cluster does not know explicit fields yet.

`SubmitJob.explicit` is of record level 5. A scheduler of an older build cannot read a command that has it, and one that
is upgraded refuses it until the upgrade is final. As long as either may be, no queue can have defaults, and the list
means nothing. So the same command without the list asks for the same job.
"""

from __future__ import annotations

import msgspec

from ftjm.core.records.commands import ApplySchedule, Command, SubmitJob
from ftjm.core.records.messages import CommandReply
from ftjm.specs.job import JobRequest

TOO_NEW = frozenset({"UNKNOWN_FINGERPRINT", "NOT_YET_SUPPORTED"})
"""Codes of the refusals of a command that the cluster does not know yet: by a scheduler of an older build, and by one
whose upgrade is not final."""


def submission(job: JobRequest, *, awaits: bool = False) -> SubmitJob:
    """The command that submits a job.

    Args:
        job: the job, with its id.
        awaits: whether its sender waits for the outcome, too.
    """
    return SubmitJob(queue=job.queue, job_id=job.job_id, spec=job.spec, explicit=[*job.explicit], awaits=awaits)


def names_explicit(command: Command) -> bool:
    """Whether the command names explicit fields."""
    match command:
        case SubmitJob():
            return bool(command.explicit)
        case ApplySchedule():
            return bool(command.spec.explicit)
        case _:
            return False


def to_send_instead(command: Command, reply: CommandReply) -> Command | None:
    """The command to send in place of one that was refused since it names explicit fields; None if it was not."""
    if reply.accepted or reply.code not in TOO_NEW or not names_explicit(command):
        return None
    if isinstance(command, ApplySchedule):
        return msgspec.structs.replace(command, spec=msgspec.structs.replace(command.spec, explicit=[]))
    return msgspec.structs.replace(command, explicit=[])
