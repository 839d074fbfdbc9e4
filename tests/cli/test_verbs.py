"""How verbs get the options that they share, and how they are found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ftjm import cli
from ftjm.cli import FILES, app
from ftjm.cli.verbs import LazyVerbs, OptionGroup, add_verb


@dataclass(frozen=True)
class Place(OptionGroup):
    """Where to look."""

    host: Annotated[str, typer.Option(help="A host.")] = "here"
    port: Annotated[int | None, typer.Option("-p", "--port", help="A port.")] = None


def look(place: Place, name: Annotated[str, typer.Argument()], loud: bool = False) -> None:
    """Look for something."""
    typer.echo(f"{name} {place.host} {place.port} {loud}")


@pytest.fixture
def group() -> typer.Typer:
    made = typer.Typer()
    add_verb(made, look)
    return made


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [(["a"], "a here None False\n"), (["a", "--host", "there", "-p", "7", "--loud"], "a there 7 True\n")],
)
def test_the_options_of_a_group_arrive_as_one_parameter(group, arguments, printed):
    assert CliRunner().invoke(group, arguments).output == printed


def test_the_help_shows_the_options_of_a_group_after_those_of_the_verb(group):
    shown = CliRunner().invoke(group, ["--help"]).output
    assert "Look for something." in shown
    assert shown.index("--loud") < shown.index("--host") < shown.index("--port")


def test_every_verb_that_is_listed_is_registered_by_its_file():
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert isinstance(verbs, LazyVerbs)
    assert list(verbs) == list(FILES)
    assert [verb for verb in FILES if verbs[verb].name != verb] == []
    assert verbs.get("no-such-verb") is None


def test_every_verb_that_a_file_registers_is_listed():
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for verb in FILES:
        assert verbs[verb] is not None
    assert set(verbs._built) == set(FILES)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["up", "--port", port] for port in ("0", "-1", "65524", "99999", "9" * 5_000, "x")),
        ["up", "--api-port", "0"],
        ["up", "--schedulers", "1000000"],
        ["api", "--port", "0"],
        ["api", "--port", "65536"],
        ["worker", "--metrics-port", "65536"],
        ["inspect", "events", "--tail", "9" * 30],
    ],
)
def test_a_number_out_of_range_is_a_mistake_of_usage(arguments):
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert "Invalid value" in result.output


def test_verbs_print_through_the_functions_that_escape_control_characters() -> None:
    """`logs` alone prints bytes as they are; `output.py` has the functions."""
    printing = re.compile(r"\btyper\.echo\(|\bclick\.echo\(|(?<![\w.])print\(|\bsys\.std(out|err)\.write\(")
    folder = Path(cli.__file__).parent
    found = {path.name for path in folder.glob("*.py") if printing.search(path.read_text())}
    assert found == {"output.py"}
