"""The commands, files and links in the documents exist."""

from __future__ import annotations

import re

import pytest
import typer

from ftjm.cli import app
from tests.adapters.avro.golden import golden_of, schema_files
from tests.tidy.source import PACKAGE, ROOT

PAGES = sorted([ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")])
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md") if path.exists()]


def verbs() -> dict[str, set[str]]:
    """Every verb of the command line, with the verbs of the group if it is a group."""
    command = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for verb, sub in getattr(command, "commands", {}).items():
        found[verb] = set(getattr(sub, "commands", {}))
    return found


def code_of(text: str) -> str:
    """The text of code: fenced blocks and spans."""
    return "\n".join([*re.findall(r"```.*?\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_shown_exists(path):
    known = verbs()
    for line in code_of(path.read_text()).splitlines():
        for verb, sub in re.findall(r"(?:^|[\s;&|(])ftjm ([a-z]+)(?: ([a-z][a-z-]*))?", line):
            assert verb in known, f"`ftjm {verb}` in {path.name}: {line}"
            if known[verb] and sub:
                assert sub in known[verb], f"`ftjm {verb} {sub}` in {path.name}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path):
    for named in re.findall(r"`((?:ftjm|tests|integration|scripts|schemas)/[\w./-]+)`", path.read_text()):
        assert (ROOT / named.rstrip("/")).exists(), f"{named} in {path.name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_file_that_is_named_exists(path):
    """A path may begin at the top, in `ftjm/`, or anywhere in the tests, as `test_worker_cuts.py` in the runbook."""
    for named in re.findall(r"(?<![\w./*{}-])[\w./-]+\.py\b", path.read_text()):
        assert known_as(named), f"{named} in {path.name}"


def known_as(named: str) -> bool:
    """Whether a file of the project is called this."""
    if any((folder / named).exists() for folder in (ROOT, PACKAGE)):
        return True
    return any(any((ROOT / folder).rglob(named)) for folder in ("tests", "integration"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_has_a_target(path):
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{link} in {path.name}"


@pytest.mark.parametrize("schema", schema_files(), ids=lambda path: path.stem)
def test_every_schema_has_its_golden_bytes(schema):
    assert golden_of(schema).exists()


def test_every_module_has_a_docstring():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not text or text.startswith('"""'), path.name
