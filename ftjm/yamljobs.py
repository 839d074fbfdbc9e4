"""Jobs in YAML, each field with its line.

Read as nodes, since only nodes know where they stand. Outside `payload`, `args` and `kwargs` every
scalar is the text as it is written, so that `job_id: 007`, `command: [sleep, 1.50]` and `DEBUG: on` mean what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import yaml

FieldPath = tuple[str | int, ...]
VALUES_MAX = 100_000
"""In one job, aliases expanded: a file of a few lines can stand for billions of values."""
DEPTH_MAX = 100
DATA = frozenset({"payload", "args", "kwargs"})
"""Fields whose values have the types of YAML."""

_TAG = "tag:yaml.org,2002:"
# The parser in C is ten times quicker, and in every wheel; a PyYAML built without it still works.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Located(NamedTuple):
    """A job as written, with where its fields are."""

    fields: Any
    line: int
    lines: dict[FieldPath, int]
    """The line of each field; empty where the whole job is on one."""
    broken: str = ""
    """Why there are no fields at all."""

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, or of the innermost thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


class _Invalid(Exception):
    """A job that YAML allows and we do not."""

    def __init__(self, node: yaml.Node, text: str) -> None:
        super().__init__(text)
        self.line = _line(node)


class _Loader(_BaseLoader):  # type: ignore[misc]  # chosen at run time
    """The scalars of YAML 1.2's core schema: in 1.1, which PyYAML follows, `on` is true and 010 is 8."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own protocol)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def yaml_jobs(content: BinaryIO) -> Iterator[Located]:
    """The jobs of every document: a list, a list under `jobs:`, or one job. What cannot be read comes as broken."""
    try:
        for document in yaml.compose_all(content, Loader=_Loader):
            yield from _document(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        yield Located(None, mark.line + 1 if mark else 1, {}, f"expected YAML, but {error.problem}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield Located(None, 1, {}, f"expected YAML in UTF-8, but {' '.join(str(error).split())}")
    except RecursionError:
        yield Located(None, 1, {}, f"expected at most {DEPTH_MAX} levels")


def _document(node: yaml.Node) -> Iterator[Located]:
    jobs: Any = [node]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value != "jobs":
                continue
            if len(node.value) > 1 or not isinstance(value, yaml.SequenceNode):
                yield Located(None, _line(key), {}, "expected a list under jobs, and nothing beside it")
                return
            jobs = value.value
    elif isinstance(node, yaml.SequenceNode):
        jobs = node.value
    elif node.tag == _TAG + "null":
        return
    for job in jobs:
        lines: dict[FieldPath, int] = {}
        try:
            yield Located(_value(job, (), lines), _line(job), lines)
        except _Invalid as error:
            yield Located(None, error.line, {}, str(error))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _value(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int]) -> Any:
    lines.setdefault(path, _line(node))
    if len(lines) > VALUES_MAX:
        raise _Invalid(node, f"expected at most {VALUES_MAX} values in a job")
    if len(path) > DEPTH_MAX:
        raise _Invalid(node, f"expected at most {DEPTH_MAX} levels in a job")
    if isinstance(node, yaml.MappingNode):
        return {key: _value(value, (*path, key), lines) for key, value in _members(node, path, lines).items()}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), lines) for index, item in enumerate(node.value)]
    return _scalar(node, typed=not DATA.isdisjoint(path[:1]))


def _members(
    node: yaml.MappingNode, path: FieldPath, lines: dict[FieldPath, int], depth: int = 0
) -> dict[str, yaml.Node]:
    """A mapping's keys and values, `<<` merged in: what is written beside it wins."""
    own: dict[str, yaml.Node] = {}
    merged: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in sources:
                if not isinstance(source, yaml.MappingNode) or depth > DEPTH_MAX:
                    raise _Invalid(value, "expected names with values to merge")
                merged = _members(source, path, lines, depth + 1) | merged
        elif not isinstance(key, yaml.ScalarNode):
            raise _Invalid(key, "expected a name, but found a list or a mapping as one")
        elif key.value in own:
            raise _Invalid(key, f"expected each name once, but found {key.value} again")
        else:
            own[key.value] = value
            if depth == 0:
                lines[(*path, key.value)] = _line(key)
    return merged | own


def _scalar(node: yaml.Node, typed: bool) -> Any:
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool" if typed:
            return text.lower() == "true"
        case "int" if typed:
            return int(text)
        case "float" if typed:
            return float(text)
        case _:
            return text
