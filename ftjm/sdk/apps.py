"""The modules that a worker serves: imported once, and what they define."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable

from ftjm.sdk.tasks import TASKS

TEXT_MAX = 4_000


class AppError(Exception):
    """An app that cannot be imported; says why."""


def load(apps: Iterable[str]) -> list[str]:
    """Import the apps; the names of all tasks that are defined then, in order. Raises AppError."""
    for app in apps:
        try:
            importlib.import_module(app)
        except BaseException as error:
            raise AppError(f"cannot import {app}: {_why(app, error)}") from error
    return sorted(TASKS)


def _why(app: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in {app, *_parents(app)}:
        return f"no module named {error.name!r} on this worker; run it where the module is, or set PYTHONPATH"
    return "".join(traceback.format_exception(error)).strip()[-TEXT_MAX:]


def _parents(app: str) -> list[str]:
    parts = app.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
