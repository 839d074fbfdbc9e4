"""Python functions as jobs: `@ftjm.task`, and the tasks that a process knows by name."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from ftjm.core.names import TASK_NAME_CHARACTERS_MAX, is_task_name
from ftjm.sdk import plain
from ftjm.sdk.request import PYTHON, JobOptions, Request

P = ParamSpec("P")
R = TypeVar("R")

CHECKS = ContextVar("ftjm_checks", default=True)
"""Off where tasks are only run: what checks options makes a process larger, and its forks slower."""
TASKS: dict[str, Task[..., Any]] = {}
"""By name. A worker finds here what its apps define."""


class Task(Generic[P, R]):
    """A function that can be submitted. Calling it makes a request; `run` calls the function here and now."""

    __name__: str

    def __init__(self, function: Callable[P, R], name: str, options: JobOptions, *, idempotent: bool) -> None:
        if not is_task_name(name):
            most = TASK_NAME_CHARACTERS_MAX
            raise ValueError(f"expected a task's name of at most {most} letters, but found {name!r}")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.options: JobOptions = options
        self.idempotent = idempotent
        self._signature = inspect.signature(function)
        if CHECKS.get():
            # A wrong option is told where it is written.
            self._request((), {}).checked()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Request[R]:
        """A job that will call the function so. Nothing happens before it is submitted.

        Raises:
            TypeError: for arguments that the function does not take, or that JSON cannot hold.
            InvalidJobError: for more arguments than a record may have.
        """
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{self._signature}: {error}") from None
        return self._request(args, kwargs).checked()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as if it had no decorator."""
        return self.function(*args, **kwargs)

    def _request(self, args: Any, kwargs: Any) -> Request[R]:
        payload = plain.encode({"args": list(args), "kwargs": dict(kwargs)}, self.name)
        return Request[R](PYTHON, (self.name,), payload, dict(self.options))

    def __repr__(self) -> str:
        return f"<task {self.name}>"


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *, name: str = "", idempotent: bool = False, **options: Unpack[JobOptions]
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(
    function: Callable[P, R] | None = None, /, *, name: str = "", idempotent: bool = False, **options: Any
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: `@ftjm.task(queue="thumbnails", timeout="2m")`.

    Args:
        name: what workers know it by; by default its module and name. It must stay the same while jobs wait.
        idempotent: it may run twice without harm. Its attempts are threads of one process that is kept, so that none
            pays for a fork; a stop raises `ftjm.Stopped` in it, and one that does not end within its grace is killed
            with that process, whose other attempts run again. A job with `env`, `cwd` or `disconnect` has a process.
        options: of its jobs, where a submission says nothing else; `max_attempts` is 3 by default.

    Raises InvalidJobError for options that cannot be, TypeError or ValueError for what cannot be a task.
    """
    checked: JobOptions = options  # type: ignore[assignment]  # the overloads say what they are

    def make(function: Callable[P, R]) -> Task[P, R]:
        if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"expected a plain function as a task, but found {function!r}; use asyncio.run in it")
        made = Task(function, name or _name(function), checked, idempotent=idempotent)
        _register(made)
        return made

    return make if function is None else make(function)


def _register(task: Task[..., Any]) -> None:
    known = TASKS.get(task.name)
    if known is not None and _place(known.function) != _place(task.function):
        raise ValueError(
            f"expected one task {task.name!r}, but {_place(known.function)} and {_place(task.function)} have that "
            f"name; give one of them another with name="
        )
    TASKS[task.name] = task


def _name(function: Callable[..., Any]) -> str:
    return f"{_module(function)}.{function.__qualname__}"


def _module(function: Callable[..., Any]) -> str:
    """The module's name as others import it, also where it is the program itself."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name.removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def _place(function: Callable[..., Any]) -> str:
    return f"{_module(function)}.{getattr(function, '__qualname__', repr(function))}"
