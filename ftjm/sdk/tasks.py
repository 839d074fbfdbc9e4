"""Python functions as jobs: `@ftjm.task`, and the tasks that a process knows by name.

@ftjm.task(queue="thumbnails", max_attempts=3, timeout="2m")
def resize(path: str, width: int) -> dict: ...

resize("a.png", width=200)         # a request: nothing happens before it is submitted
resize.run("a.png", width=200)     # an ordinary call, in this process
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from ftjm.core import json_values
from ftjm.core.names import TASK_NAME_CHARACTERS_MAX, is_task_name
from ftjm.core.state.executors import PYTHON
from ftjm.sdk.request import JobOptions, Request, found_type

P = ParamSpec("P")
R = TypeVar("R")

CHECKS = ContextVar("ftjm_checks", default=True)
"""Whether options are checked. Not in a zygote: the libraries that check them would make every fork slower."""
TASKS: dict[str, Task[..., Any]] = {}
"""The tasks of this process by name. A worker finds here what its apps define."""


class Task(Generic[P, R]):
    """A function that can be submitted. Calling it makes a request; `run` calls the function here and now."""

    __name__: str

    def __init__(self, function: Callable[P, R], name: str, options: JobOptions, *, isolated: bool = False) -> None:
        if not is_task_name(name):
            most = TASK_NAME_CHARACTERS_MAX
            raise ValueError(f"expected a task's name of at most {most} letters, but found {name!r}")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.options: JobOptions = options
        self.isolated = isolated
        self._signature = inspect.signature(function)
        if CHECKS.get():
            # A wrong option is an error at the line that has it.
            self._request((), {}).checked()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Request[R]:
        """Make a request for a job that calls the function with these arguments. Nothing happens before it is
        submitted.

        Raises:
            TypeError: The function does not take such arguments, or JSON cannot hold them.
            InvalidJobError: The arguments are larger than a record may be.
        """
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{self._signature}: {error}") from None
        return self._request(args, kwargs).checked()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in this process, as if it had no decorator."""
        return self.function(*args, **kwargs)

    def _request(self, args: Any, kwargs: Any) -> Request[R]:
        payload = json_values.encode({"args": list(args), "kwargs": dict(kwargs)}, self.name)
        return Request[R](PYTHON, (self.name,), payload, dict(self.options))

    def __repr__(self) -> str:
        return f"<task {self.name}>"


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *, name: str = "", isolated: bool = False, idempotent: bool = False, **options: Unpack[JobOptions]
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    isolated: bool = False,
    idempotent: bool = False,  # noqa: ARG001  (see its description)
    **options: Any,
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: `@ftjm.task(queue="thumbnails", timeout="2m")`.

    Args:
        function: A plain function, if the decorator is used without parentheses.
        name: The name by which workers know the task; by default its module and name. It must stay the same while jobs
            of it wait.
        isolated: Whether each attempt gets a process of its own, which ends with it. By default an attempt runs in a
            process that has run others before, and modules and global variables of the app are as these left them. A
            process of its own costs about 9 ms of processor time.
        idempotent: Whether an attempt may run twice without harm. It says so to readers, and has no effect: it chose
            threads before there were processes that are kept.
        options: Options of its jobs, which a submission may override. `max_attempts` is 3 by default.

    Returns:
        The task; or, with options, the decorator that makes it.

    Raises:
        InvalidJobError: An option has a wrong value.
        TypeError: It is not a plain function.
        ValueError: The name cannot be a task's, or another task has it.
    """
    checked: JobOptions = options  # type: ignore[assignment]  # the overloads declare their types

    def make(function: Callable[P, R]) -> Task[P, R]:
        if todo := _why_no_task(function):
            raise TypeError(f"expected a plain function as a task, but found {found_type(function)}; {todo}")
        made = Task(function, name or _name(function), checked, isolated=isolated)
        _register(made)
        return made

    return make if function is None else make(function)


def _why_no_task(function: Any) -> str:
    """What to do with what cannot be a task; empty for a function that can."""
    if inspect.iscoroutinefunction(function):
        return "write a function that calls it with asyncio.run"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "write a function that returns a list"
    if not callable(function) or inspect.isclass(function) or not hasattr(function, "__qualname__"):
        return "write `def` of a function that calls it"
    try:
        inspect.signature(function)
    except ValueError:
        return "its parameters are not known: write a function that calls it"
    return ""


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
