"""The source code as syntax trees, for the tests of the project's rules."""

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


def module_of(path: Path) -> str:
    """The dotted name of the module at this path. An `__init__.py` has the name of its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Every module that the file imports, and every name that it takes from one: see `imported_names`."""
    return imported_names(tree(path))


def imported_names(module: ast.Module) -> set[str]:
    """Everything that the source imports, also inside of functions: `from a import b` counts as `a` and as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {source_of(node), *(f"{source_of(node)}.{alias.name}" for alias in node.names)}
    return found


def imported_modules(module: ast.Module) -> set[str]:
    """The modules that the source imports. `from a import b` counts as `a.b` if that is a module of ours, else as `a`.

    `import a.b` binds the name `a`, so it counts as both.
    """
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            found |= {top(alias.name) for alias in node.names if alias.asname is None}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{source_of(node)}.{alias.name}" for alias in node.names}
            found |= {full if is_module(full) else source_of(node) for full in names}
    return found


def source_of(node: ast.ImportFrom) -> str:
    """The module that `from … import` takes names from. A relative import is a fault."""
    assert node.level == 0, f"line {node.lineno}: expected an absolute import"
    assert node.module is not None
    return node.module


def is_module(module: str) -> bool:
    """Whether there is a module or a package of this dotted name in the repository."""
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def top(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's name, and its length in lines without the docstring."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None and first.end_lineno is not None:
                length -= first.end_lineno - first.lineno + 1
            yield node.name, length
