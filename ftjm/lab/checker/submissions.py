"""The rule on what a new job is: what its sender gave, and in what the sender left open its queue's defaults.

A field that the sender names as explicit is given. One that it does not name is given if it differs from what a job has
of which nobody says anything. What is not given is open, and gets the value that the queue is declared to give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from ftjm.core.state.queues import JobDefaults
from ftjm.lab.checker.evidence import CommandsByOffset
from ftjm.lab.checker.verdict import Violation, ViolationKind

TASK = "python"
TASK_ATTEMPTS = 3
"""The executor of Python tasks, and the attempts of a task of which nobody says anything."""


class Submissions:
    """Judges the new jobs of one partition by what their queues were declared to give."""

    def __init__(self, commands: CommandsByOffset) -> None:
        """`commands` are those of the partition; empty where they are not known."""
        self._commands = commands
        self._defaults: dict[str, JobDefaults] = {}

    def take(self, event: e.Event) -> None:
        """Apply an event of a queue as a whole."""
        if isinstance(event, e.QueueApplied | e.QueueDeleted):
            self._defaults.pop(event.queue, None)
        if isinstance(event, e.QueueApplied) and event.spec.defaults:
            (self._defaults[event.queue],) = event.spec.defaults

    def check(self, event: e.JobSubmitted) -> Iterator[Violation]:
        """Judge a new job by the command that submitted it, where that is known."""
        ref = event.cause_ref if event.cause is e.Cause.COMMAND else ""
        command = self._commands.get(int(ref)) if ref.isdecimal() else None
        if not isinstance(command, c.SubmitJob):
            return
        expected = self.expected(event.queue, command.spec, command.explicit)
        if differing := ", ".join(differences(expected, event.spec)):
            text = f"expected the values of the SubmitJob {ref}"
            yield Violation(ViolationKind.ANSWER, f"{text}, but found others for {differing}")

    def expected(self, queue: str, spec: JobSpec, explicit: Sequence[str]) -> JobSpec:
        """Return what a job is that is submitted so, but for the cluster's retention."""
        if (defaults := self._defaults.get(queue)) is None:
            return spec
        unsaid = JobSpec(max_attempts=TASK_ATTEMPTS) if spec.executor == TASK else JobSpec()
        said = {name for name in JobSpec.__struct_fields__ if getattr(spec, name) != getattr(unsaid, name)}
        said.update(explicit)
        if "deadline_at" in said:
            said.add("deadline_ms")
        left = [name for name in defaults.fields if name not in said]
        return msgspec.structs.replace(spec, **{name: getattr(defaults.spec, name) for name in left})


def differences(expected: JobSpec, found: JobSpec) -> list[str]:
    """Return the names of the fields that differ. A retention that nobody gives is that of the cluster."""
    names = [name for name in JobSpec.__struct_fields__ if getattr(expected, name) != getattr(found, name)]
    return [name for name in names if name != "retention_ms" or expected.retention_ms]
