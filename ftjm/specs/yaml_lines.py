"""Reads jobs and resources in YAML, and the line of each of their fields. The rules for values are in `written.py`.

PyYAML composes the file to nodes, since nodes know their lines, and this file makes values of the nodes:

    - job_id: 007                   # "007"; in most YAML readers the number 7
      payload: {count: 007}         # 7: payloads have the types of YAML 1.2

A few lines can stand for billions of values (by aliases), and a few bytes for 100,000 levels, at which libyaml takes a
minute, or ends the process. So the file is first read as events: their levels are limited, and their number tells how
many values aliases may add.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from ftjm.core.json_values import DEPTH_MAX
from ftjm.specs.written import (
    DOCUMENT_DEPTH_MAX,
    TOO_DEEP,
    FieldPath,
    Located,
    UnreadableError,
    check_depth,
    is_data,
    number,
    utf8,
)

ADDED_MAX = 100_000
"""Values that aliases may add to those that are written: in a file of any size, and …"""
ADDED_PER_VALUE_MAX = 10
"""… for each value that is written, so that thousands of jobs may share a part."""

_TAG = "tag:yaml.org,2002:"
# The parser in C is ten times faster. Every wheel of PyYAML has it; one built without it works, too.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
    "merge": re.compile(r"<<\Z"),
}
"""The core schema of YAML 1.2, and `<<`."""


class _Loader(_BaseLoader):  # type: ignore[misc]  # chosen at run time
    """Resolves scalars by the core schema of YAML 1.2. PyYAML follows YAML 1.1, where `on` is true and 010 is 8."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own protocol)


for _name, _first in (("null", ["~", "n", "N", ""]), ("bool", "tTfF"), ("int", "-+0123456789")):
    _Loader.add_implicit_resolver(_TAG + _name, _SCALARS[_name], list(_first))
_Loader.add_implicit_resolver(_TAG + "float", _SCALARS["float"], list("-+.0123456789"))
_Loader.add_implicit_resolver(_TAG + "merge", _SCALARS["merge"], ["<"])


def yaml_items(data: bytes, under: str = "") -> Iterator[Located]:
    """The items of every document, jobs or resources: a list, or one item.

    An item that cannot be read is returned too, with the reason in `broken`.

    Args:
        data: The text.
        under: A name under which a document may have its list, too; empty for none.

    Raises:
        UnreadableError: What follows is not YAML, or too much.
    """
    data = utf8(data)
    try:
        reader = _Reader(_count(data))
        for document in yaml.compose_all(data, Loader=_Loader):
            yield from reader.items(document, under)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableError((), f"expected YAML, but {error.problem}", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        raise UnreadableError((), f"expected YAML in UTF-8, but {error.reason}", line) from None


def _count(data: bytes) -> int:
    """How many values and names are written in the file. Raises UnreadableError where it has too many levels."""
    depth = count = 0
    for event in yaml.parse(data, Loader=_Loader):
        count += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DOCUMENT_DEPTH_MAX:
                raise UnreadableError((), TOO_DEEP, _line(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return count


class _Broken(UnreadableError):
    """An item that is correct YAML, but not allowed here."""

    def __init__(self, node: yaml.Node, path: FieldPath, text: str) -> None:
        super().__init__(path, text, _line(node))


class _Reader:
    """Makes items of the nodes of one file."""

    def __init__(self, written: int) -> None:
        self._left = ADDED_MAX + (ADDED_PER_VALUE_MAX + 1) * written
        """How many values may still be made of the file."""
        self._merged: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}
        """The keys and values of the mappings that `<<` merges in, by the `id` of their nodes in this document."""

    def items(self, node: yaml.Node, under: str) -> Iterator[Located]:
        """The items of one document."""
        self._merged.clear()
        items: Any = [node]
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not under or key.value != under:
                    continue
                if len(node.value) > 1 or not isinstance(value, yaml.SequenceNode):
                    yield _refused(_Broken(key, (), f"expected a list under {under}, and nothing beside it"))
                    return
                items = value.value
        elif isinstance(node, yaml.SequenceNode):
            items = node.value
        elif node.tag == _TAG + "null":
            return
        for item in items:
            lines: dict[FieldPath, int] = {}
            try:
                yield Located(self._value(item, (), lines), _line(item), lines.get)
            except _Broken as error:
                yield _refused(error)
            except UnreadableError as error:
                if self._left <= 0:
                    raise
                yield Located(None, _line(item), lines.get, error)

    def _value(self, node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int]) -> Any:
        lines.setdefault(path, _line(node))
        self._count(node, 1)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, path)
        check_depth(path)
        if node.tag != _TAG + ("map" if isinstance(node, yaml.MappingNode) else "seq"):
            raise _Broken(node, path, _tag_refused(node))
        if not isinstance(node, yaml.MappingNode):
            return [self._value(item, (*path, index), lines) for index, item in enumerate(node.value)]
        found = {}
        for name, (key, value) in self._members(node, path).items():
            lines[(*path, name)] = _line(key)
            found[name] = self._value(value, (*path, name), lines)
        return found

    def _members(
        self, node: yaml.MappingNode, path: FieldPath, outer: tuple[yaml.Node, ...] = ()
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The keys and values of a mapping, with those that `<<` merges in. Keys of the mapping itself win."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    for name, member in self._to_merge(source, value, path, outer).items():
                        merged.setdefault(name, member)
            elif not isinstance(key, yaml.ScalarNode):
                raise _Broken(key, path, "expected a name, but found a list or a mapping as one")
            elif key.tag.removeprefix(_TAG) not in {*_SCALARS, "str"}:
                raise _Broken(key, path, _tag_refused(key))
            elif key.value in own:
                raise _Broken(key, (*path, key.value), "expected each name once, but found it again")
            else:
                own[key.value] = (key, value)
        return merged | own

    def _to_merge(
        self, source: yaml.Node, at: yaml.Node, path: FieldPath, outer: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The keys and values of a mapping that is merged into another, which `outer` ends with."""
        found = self._merged.get(id(source))
        if found is None:
            if not isinstance(source, yaml.MappingNode) or source in outer or len(outer) > DEPTH_MAX:
                raise _Broken(at, path, "expected names with values to merge")
            found = self._merged[id(source)] = self._members(source, path, (*outer, source))
        self._count(source, len(found) + 1)
        return found

    def _count(self, node: yaml.Node, values: int) -> None:
        self._left -= values
        if self._left <= 0:
            text = f"expected aliases that add at most {ADDED_MAX} values to a file, but found more"
            raise UnreadableError((), text, _line(node))


def _refused(error: _Broken) -> Located:
    return Located(None, error.line, broken=error)


def _line(place: yaml.Node | yaml.Event) -> int:
    return int(place.start_mark.line) + 1 if place.start_mark else 1


def _tag_refused(node: yaml.Node) -> str:
    tag = node.tag.replace(_TAG, "!!")
    return f"expected a value without a tag, but found {tag[:80]}; write the value itself"


def _scalar(node: yaml.ScalarNode, path: FieldPath) -> Any:
    text: str = node.value
    tag = node.tag.removeprefix(_TAG)
    if tag == "str":
        return text
    # A tag may be written, too: `!!int x`.
    if node.tag != _TAG + tag or tag not in _SCALARS or not _SCALARS[tag].match(text):
        raise _Broken(node, path, _tag_refused(node))
    match tag:
        case "null":
            return None
        case "bool" if is_data(path):
            return text.lower() == "true"
        case "int" | "float" if is_data(path):
            return number(text, path)
        case _:
            return text
