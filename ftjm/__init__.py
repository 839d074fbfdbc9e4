"""ftjm: a fault-tolerant job manager, event-sourced over Kafka."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftjm import testing as testing
    from ftjm.client.ticket import Refused as Refused
    from ftjm.runtime.errors import FtjmError as FtjmError
    from ftjm.runtime.errors import Unreachable as Unreachable
    from ftjm.runtime.errors import UsageError as UsageError
    from ftjm.sdk.client import Client as Client
    from ftjm.sdk.errors import JobCancelled as JobCancelled
    from ftjm.sdk.errors import JobFailed as JobFailed
    from ftjm.sdk.handle import Handle as Handle
    from ftjm.sdk.handle import Status as Status
    from ftjm.sdk.request import JobOptions as JobOptions
    from ftjm.sdk.request import Request as Request
    from ftjm.sdk.request import command as command
    from ftjm.sdk.running import Attempt as Attempt
    from ftjm.sdk.running import Stopped as Stopped
    from ftjm.sdk.running import attempt as attempt
    from ftjm.sdk.running import checkpoint as checkpoint
    from ftjm.sdk.running import progress as progress
    from ftjm.sdk.tasks import Task as Task
    from ftjm.sdk.tasks import task as task
    from ftjm.specs.job import InvalidJobError as InvalidJobError

from ftjm.runtime.version import __version__

# Loaded when they are first used (PEP 562): a program that only defines tasks must not load Kafka's client.
_HOMES = {
    "Refused": "ftjm.client.ticket",
    "FtjmError": "ftjm.runtime.errors",
    "Unreachable": "ftjm.runtime.errors",
    "UsageError": "ftjm.runtime.errors",
    "InvalidJobError": "ftjm.specs.job",
    "Client": "ftjm.sdk.client",
    "JobCancelled": "ftjm.sdk.errors",
    "JobFailed": "ftjm.sdk.errors",
    "Handle": "ftjm.sdk.handle",
    "Status": "ftjm.sdk.handle",
    "JobOptions": "ftjm.sdk.request",
    "Request": "ftjm.sdk.request",
    "command": "ftjm.sdk.request",
    "Attempt": "ftjm.sdk.running",
    "Stopped": "ftjm.sdk.running",
    "attempt": "ftjm.sdk.running",
    "checkpoint": "ftjm.sdk.running",
    "progress": "ftjm.sdk.running",
    "Task": "ftjm.sdk.tasks",
    "task": "ftjm.sdk.tasks",
}
__all__ = ["__version__", "testing"]
__all__ += list(_HOMES)


if not TYPE_CHECKING:  # to a type checker, a name that is not there is not there

    def __getattr__(name: str) -> object:
        if name == "testing":
            return import_module("ftjm.testing")
        if name not in _HOMES:
            raise AttributeError(f"module 'ftjm' has no attribute {name!r}")
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
