"""The source as syntax trees: what the rules of the house are checked on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ftjm"


def files(folder: str = "") -> list[Path]:
    """All modules of the package, or of one folder of it."""
    return sorted((PACKAGE / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Every module that the file imports, wherever in it: `from a import b` counts as `a` and as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def top(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function by name, and its length in lines without its docstring."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None and first.end_lineno is not None:
                length -= first.end_lineno - first.lineno + 1
            yield node.name, length
