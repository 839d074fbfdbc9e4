"""Apps: the modules that define the tasks of a worker, and their import."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable

from ftjm.sdk.tasks import TASKS

TEXT_MAX = 4_000


class AppError(Exception):
    """An app cannot be imported. The text names the app and the reason."""


def load(apps: Iterable[str]) -> list[str]:
    """Import the apps.

    Returns:
        The names of all tasks that are defined then, sorted.

    Raises:
        AppError: One of them cannot be imported.
    """
    for app in apps:
        try:
            importlib.import_module(app)
        except BaseException as error:
            raise AppError(f"cannot import {app}: {_import_error(app, error)}") from error
    return sorted(TASKS)


def _import_error(app: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in {app, *_parents(app)}:
        return f"no module named {error.name!r} on this worker; run it where the module is, or set PYTHONPATH"
    return "".join(traceback.format_exception(error)).strip()[-TEXT_MAX:]


def _parents(app: str) -> list[str]:
    parts = app.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
