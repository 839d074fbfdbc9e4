"""What the documents say exists: commands, files, goldens."""

from __future__ import annotations

import re

import pytest
import typer

from ftjm.cli import app
from tests.codec.golden import golden_of, schema_files
from tests.tidy.source import PACKAGE, ROOT

DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md") if path.exists()]


def verbs() -> dict[str, set[str]]:
    """Every verb of the command line, and its verbs where it is a group."""
    command = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for verb, sub in getattr(command, "commands", {}).items():
        found[verb] = set(getattr(sub, "commands", {}))
    return found


def code_of(text: str) -> str:
    """What stands in code: fenced blocks and spans."""
    return "\n".join([*re.findall(r"```.*?\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_shown_exists(path):
    known = verbs()
    for line in code_of(path.read_text()).splitlines():
        for verb, sub in re.findall(r"(?:^|[\s;&|(])ftjm ([a-z]+)(?: ([a-z]+))?", line):
            assert verb in known, f"`ftjm {verb}` in {path.name}: {line}"
            if known[verb] and sub:
                assert sub in known[verb], f"`ftjm {verb} {sub}` in {path.name}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path):
    for named in re.findall(r"`((?:ftjm|tests|integration|scripts|schemas)/[\w./-]+)`", path.read_text()):
        assert (ROOT / named.rstrip("/")).exists(), f"{named} in {path.name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{link} in {path.name}"


@pytest.mark.parametrize("schema", schema_files(), ids=lambda path: path.stem)
def test_every_schema_has_its_golden_bytes(schema):
    assert golden_of(schema).exists()


def test_every_module_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not text or text.startswith('"""'), path.name
