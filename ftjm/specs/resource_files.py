"""Files of resources: YAML or JSON, folders of them, standard input. All of them are checked before any is applied."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ftjm.runtime.errors import UsageError
from ftjm.specs.files import PROBLEMS_SHOWN_MAX, unreadable
from ftjm.specs.json_text import json_items
from ftjm.specs.problems import FieldProblem
from ftjm.specs.resources import InvalidResourceError, Resource, parse_resource
from ftjm.specs.written import Located, UnreadableError
from ftjm.specs.yaml_lines import yaml_items

FILE_BYTES_MAX = 1024 * 1024
FILES_MAX = 10_000
"""Files below the given folders. Somebody who names `/` by mistake need not wait for its end."""
SUFFIXES = (".yaml", ".yml", ".json")
"""The files of a folder that hold resources."""
STANDARD_INPUT = "-"


class PlacedResource(NamedTuple):
    """A resource, and where it is written."""

    resource: Resource
    file: str
    line: int

    @property
    def place(self) -> str:
        """File and line, as errors name them."""
        return f"{self.file}:{self.line}"


class ResourceFiles(NamedTuple):
    """What the given files hold."""

    files: list[str]
    resources: list[PlacedResource]


class InvalidResourcesError(UsageError):
    """Files with resources that cannot be applied. None of them was applied."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count, some = len(problems), problems[:PROBLEMS_SHOWN_MAX]
        more = [f"… and {count - len(some)} more"] if count > len(some) else []
        found = f"{count} {'error' if count == 1 else 'errors'}:\n" + "\n".join(f"  {p}" for p in some + more)
        super().__init__("resources that can be applied", found, "correct them, and try again; nothing was changed")


def read_resources(sources: Sequence[str]) -> ResourceFiles:
    """Read and check files of resources.

    Args:
        sources: Names of files and folders; `-` is standard input. Of a folder, all files with a suffix of `SUFFIXES`
            are read, also those of the folders in it, but none whose name begins with a dot.

    Raises:
        UsageError: A file or a folder cannot be read, or there is no resource at all.
        InvalidResourcesError: Something in the files is wrong. Names file and line of each fault.
    """
    files = list(_files(sources))
    problems: list[str] = []
    found: dict[tuple[str, str], PlacedResource] = {}
    for file in files:
        for located in _located(file):
            faults: list[FieldProblem] = []
            try:
                resource = _parsed(located)
                one = PlacedResource(resource, _shown(file), located.line)
                other = found.setdefault((resource.kind, resource.name), one)
                if other is not one:
                    text = f"expected one {resource.kind} {resource.name}, but {other.place} has another of this name"
                    faults = [FieldProblem(("metadata", "name"), text)]
            except InvalidResourceError as error:
                faults = error.problems
            lines = sorted((located.line_of(fault.path), str(fault)) for fault in faults)
            problems += [f"{_shown(file)}:{line}: {text}" for line, text in lines]
    if problems:
        raise InvalidResourcesError(problems)
    if not found:
        where = ", ".join(map(_shown, sources))
        raise UsageError("at least one resource", f"none in {where}", "write one, or name other files")
    return ResourceFiles([_shown(file) for file in files], list(found.values()))


def _shown(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file


def _files(sources: Iterable[str]) -> Iterator[str]:
    """The files that the sources name, each once, those of a folder by name. Raises UsageError."""
    seen: set[str] = set()
    for source in sources:
        is_folder = source != STANDARD_INPUT and Path(source).is_dir()
        for file in sorted(_below(source)) if is_folder else [source]:
            whole = file if file == STANDARD_INPUT else os.path.abspath(file)  # noqa: PTH100  (resolves no links)
            if whole in seen:
                continue
            seen.add(whole)
            if len(seen) > FILES_MAX:
                raise UsageError(f"at most {FILES_MAX} files", f"more in {source}", "name the folder of your resources")
            yield file


def _below(folder: str) -> list[str]:
    """The files of resources in a folder and in the folders in it. Raises UsageError if there is none."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename or folder, error) from None

    found: list[str] = []
    for path, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [str(Path(path, n)) for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
        if len(found) > FILES_MAX:
            break
    if not found:
        suffixes = ", ".join(SUFFIXES)
        raise UsageError(f"files of resources ({suffixes}) in {folder}", "none", "name another file or folder")
    return found


def _parsed(located: Located) -> Resource:
    if located.broken:
        raise InvalidResourceError([FieldProblem(located.broken.path, located.broken.text)])
    return parse_resource(located.fields)


def _located(file: str) -> Iterator[Located]:
    """The resources of a file, as they are written. Raises UsageError if it cannot be read."""
    try:
        if file == STANDARD_INPUT:
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        raise unreadable(file, error) from None
    try:
        if len(data) > FILE_BYTES_MAX:
            raise UnreadableError((), f"expected at most {FILE_BYTES_MAX} bytes in a file, but found more; split it")
        yield from _items(file, data)
    except UnreadableError as error:
        yield Located(None, error.line, broken=error)


def _items(file: str, data: bytes) -> Iterator[Located]:
    """The items of JSON or YAML, by the name of the file, or by what it holds. Raises UnreadableError."""
    is_json = file.lower().endswith(".json")
    if not is_json and data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        try:
            yield from list(json_items(data))
            return
        except UnreadableError:
            pass  # YAML may begin so, too
    yield from json_items(data) if is_json else yaml_items(data)
