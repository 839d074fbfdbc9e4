"""A kind of row is declared once, in `core/state/tables.py`: nothing else builds a decoder for its struct."""

from __future__ import annotations

import ast

from tests.tidy.source import PACKAGE, files, name, tree

DECLARED = PACKAGE / "core" / "state" / "tables.py"
MIGRATIONS = PACKAGE / "core" / "state" / "migrations.py"
"""Decodes rows of earlier versions, whose structs are its own."""


def row_structs() -> set[str]:
    """The structs of the tables: `Job` of `JOBS = Table[Job](b"j", "job", Job)`."""
    return {
        node.args[2].id
        for node in ast.walk(tree(DECLARED))
        if isinstance(node, ast.Call) and len(node.args) > 2 and isinstance(node.args[2], ast.Name)
    }


def test_the_tables_have_structs():
    assert row_structs() >= {"Job", "JobSpec", "Outcome", "Checkpoint", "Queue", "Position", "Session"}


def test_rows_are_decoded_by_their_tables():
    structs, found = row_structs(), []
    for path in set(files()) - {DECLARED, MIGRATIONS}:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                typed = {each.id for each in given if isinstance(each, ast.Name)} & structs
                if node.func.attr in ("Decoder", "decode") and typed:
                    found.append(f"{name(path)}:{node.lineno} decodes {typed}: use the table of core/state/tables.py")
    assert not found
