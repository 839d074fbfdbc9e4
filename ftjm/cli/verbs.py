"""Registers verbs: with options that several verbs share, and each built only when it is looked up.

**Shared options.** typer reads a verb's options from its parameters, so options that thirty verbs share would be thirty
times the same parameters. Here they are the fields of a dataclass, an `OptionGroup`, and a verb takes the group as one
parameter. `expand` gives typer the function that it wants, with the group's fields in place of the group:

    @dataclass(frozen=True)
    class Connection(OptionGroup):
        bootstrap: Annotated[str | None, typer.Option(help="Kafka servers.")] = None
        cluster: Annotated[str | None, typer.Option(help="Prefix of the topics.")] = None

    def get(connection: Connection, jobs: Jobs) -> None: ...

    expand(get)   # a function (*, jobs: Jobs, bootstrap: ... = None, cluster: ... = None)

**Verbs on demand.** To build a verb, its file is imported and its annotations are evaluated. `ftjm get` needs one of
forty verbs, so `LazyVerbs` knows only which file has which verb, and builds a verb when click looks it up.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import typer

from ftjm.runtime.errors import UsageError, short

MAY_NAME_FILES = frozenset({"file", "files", "data_dir", "token_file", "payload", "args", "kwargs"})


class OptionGroup:
    """Options that several verbs share: a dataclass derives from it, and each of its fields is an option."""


def add_verb(group: typer.Typer, verb: Callable[..., None], name: str | None = None, **options: Any) -> None:
    """Add a verb, which may have parameters of the type `OptionGroup`.

    Args:
        group: The group to add the verb to.
        verb: The function that carries it out.
        name: The verb's name; by default that of the function.
        options: Further arguments of `typer.Typer.command`.
    """
    group.command(name, **options)(expand(verb))


def expand(verb: Callable[..., None]) -> Callable[..., None]:
    """The function that typer reads and calls in place of `verb`: each group of options is replaced by its options.

    The options of the groups come after the verb's own, in the order of the groups.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, OptionGroup)
    }
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(verb).parameters.items()
        if name not in groups
    ]
    for group in groups.values():
        parameters += _options(group)

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        _refuse_odd_bytes(given)
        for name, group in groups.items():
            given[name] = group(**{option.name: given.pop(option.name) for option in _options(group)})
        verb(**given)

    del run.__wrapped__  # typer would read the options of `verb` instead
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _refuse_odd_bytes(given: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument that is not UTF-8, which no record can hold. Names of files may be any bytes."""
    for name, value in given.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and name not in MAY_NAME_FILES and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    option = name.replace("_", "-")
                    raise UsageError(f"text in UTF-8 as {option}", ascii(short(text)), "write it in UTF-8") from None


@functools.cache
def _options(group: type[Any]) -> tuple[inspect.Parameter, ...]:
    """The fields of a group as parameters."""
    hints = get_type_hints(group, include_extras=True)
    return tuple(
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    )


class LazyVerbs(Mapping[str, Any]):
    """Verbs by name, for click; each is built when it is looked up.

    Args:
        modules: The module of each verb, in the order of `ftjm --help`. It has a function `register(group)`, which adds
            its verbs to a typer application.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._built: dict[str, Any] = {}

    def __getitem__(self, verb: str) -> Any:
        if verb not in self._built:
            group = typer.Typer()
            importlib.import_module(self._modules[verb]).register(group)
            self._built |= typer.main.get_group(group).commands
        return self._built[verb]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)
