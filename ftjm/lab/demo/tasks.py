"""The app of the demonstration: a Python task that counts what a source file defines."""

from __future__ import annotations

import ast
from pathlib import Path

import ftjm


@ftjm.task(queue="survey", timeout="1m")
def survey(source: str) -> dict[str, int]:
    """Return the number of functions, classes and lines of a Python source file."""
    text = Path(source).read_bytes()
    kinds = [type(node) for node in ast.walk(ast.parse(text))]
    return {
        "functions": kinds.count(ast.FunctionDef) + kinds.count(ast.AsyncFunctionDef),
        "classes": kinds.count(ast.ClassDef),
        "lines": text.count(b"\n"),
    }
