"""Core and engine are pure: time, names and random numbers are arguments."""

from __future__ import annotations

import ast

import pytest

from tests.tidy.source import files, imports, name, top, tree

MODULES = {
    *("__future__", "collections", "enum", "functools", "hashlib", "heapq", "itertools", "math", "operator", "re"),
    *("abc", "typing", "msgspec", "ftjm"),
}
"""The modules that the core may import. None of them knows a clock, a random number, a process, a file or a network."""
ENGINE_MODULES = MODULES | {"threading", "traceback"}
"""The engine has locks, since deliveries are reported from other threads, and describes the faults of commands."""
NO_NAMES = {"open", "print", "input", "id", "hash"}
"""`hash` of a text differs from process to process, and `id` from object to object."""
PURE = [*files("core"), *files("engine")]


def impure_names(module: ast.Module) -> set[str]:
    """The functions with side effects or changing results that the source uses, called or passed on."""
    names = [node for node in ast.walk(module) if isinstance(node, ast.Name) and node.id in NO_NAMES]
    own = {node.arg for node in ast.walk(module) if isinstance(node, ast.arg)}
    own |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {node.id for node in names} - own


@pytest.mark.parametrize("path", PURE, ids=name)
def test_no_module_of_clocks_randomness_or_io_is_imported(path):
    allowed = MODULES if path in files("core") else ENGINE_MODULES
    assert {top(found) for found in imports(path)} <= allowed


@pytest.mark.parametrize("path", PURE, ids=name)
def test_no_function_with_changing_results_is_used(path):
    assert not impure_names(tree(path))


@pytest.mark.parametrize("planted", ["hash(text)", "sorted(rows, key=hash)", "def a():\n  with open(b) as c: pass"])
def test_a_function_with_changing_results_is_found(planted):
    assert impure_names(ast.parse(planted))


SETS = {"set", "frozenset"}
UNORDERED = {*SETS, "sorted", "sum", "min", "max", "len", "any", "all"}
"""Functions whose result does not depend on the order of what they are given."""
ORDERED = {"list", "tuple", "enumerate", "iter", "zip", "map", "filter", "reversed", "dict"}
"""Functions that hand on what they are given in its order."""
ORDERED_METHODS = {"extend", "join", "fromkeys", "writelines", "extendleft"}
MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove"),
    *("setdefault", "sort", "update", "__setitem__", "__delitem__"),
}
"""Methods that change lists, dicts, sets and deques."""


class Sets:
    """What a source says of its sets: names and attributes that are assigned a set, or annotated as one."""

    def __init__(self, *modules: ast.Module) -> None:
        self.names: set[str] = set()
        """Names and attributes alike: `changed` for `self.changed` as well as for a variable."""
        nodes = [node for module in modules for node in ast.walk(module)]
        before: set[str] | None = None
        while before != self.names:  # a name may be assigned from another name
            before = set(self.names)
            for node in nodes:
                self._learn(node)
            self.names.discard("")

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign) and self.holds(node.value):
            self.names.update(map(called, node.targets))
        elif isinstance(node, ast.AnnAssign) and is_set_type(node.annotation):
            self.names.add(called(node.target))
        elif isinstance(node, ast.arg) and node.annotation is not None and is_set_type(node.annotation):
            self.names.add(node.arg)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None and is_set_type(node.returns):
            self.names.add(node.name)

    def holds(self, value: ast.expr) -> bool:
        """Whether the value is a set, as far as the source tells."""
        match value:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Subscript(value=made)) | ast.Call(func=made):
                return called(made) in SETS | self.names
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return self.holds(value.left) or self.holds(value.right)
            case ast.Name() | ast.Attribute():
                return called(value) in self.names
            case _:
                return False

    def walked(self, module: ast.Module) -> list[int]:
        """The lines that go through a set in its own order."""
        harmless = {
            id(node.args[0])
            for node in ast.walk(module)
            if isinstance(node, ast.Call) and node.args and called(node.func) in UNORDERED
        }
        lines = []
        for node in ast.walk(module):
            match node:
                case ast.For(iter=walked) | ast.Starred(value=walked) | ast.YieldFrom(value=walked):
                    sources = [walked]
                case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
                    sources = [] if id(node) in harmless else [part.iter for part in node.generators]
                case ast.Call(func=ast.Name(id=function)) if function in ORDERED:
                    sources = node.args
                case ast.Call(func=ast.Attribute(attr=method), args=[first, *_]) if method in ORDERED_METHODS:
                    sources = [first]
                case _:
                    continue
            lines += [each.lineno for each in sources if self.holds(each)]
        return lines


def called(node: ast.expr) -> str:
    """The name by which the source refers to something: the last part of a dotted name; empty for other expressions."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_set_type(annotation: ast.expr) -> bool:
    return called(annotation.value if isinstance(annotation, ast.Subscript) else annotation) in {*SETS, "Set"}


def changed_globals(module: ast.Module) -> list[int]:
    """The lines in functions that change what a name of the module, or an imported name, refers to."""
    shared = {name for node in module.body for name in bound(node)}
    lines = []
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes = list(ast.walk(function))
            own = {name for node in nodes for name in bound(node)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
            lines += [n.lineno for n in nodes if isinstance(n, ast.expr) and changes(n) & (shared - own)]
    return lines


def bound(node: ast.AST) -> set[str]:
    """The names that a statement binds."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return {top(alias.asname or alias.name) for alias in node.names}
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Name(ctx=ast.Store()):
            return {node.id}
        case ast.Assign() | ast.AnnAssign() | ast.For() | ast.If() | ast.With() | ast.Try():
            return {
                each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            }
        case _:
            return set()


def changes(node: ast.AST) -> set[str]:
    """The names at the root of what the statement or call changes in place: `a` of `a.b[0] = c` and `a.append(c)`."""
    match node:
        case (
            ast.Subscript(ctx=ast.Store() | ast.Del(), value=target)
            | ast.Attribute(ctx=ast.Store() | ast.Del(), value=target)
        ):
            return root(target)
        case ast.Call(func=ast.Attribute(attr=method, value=target)) if method in MUTATORS:
            return root(target)
        case _:
            return set()


def root(target: ast.expr) -> set[str]:
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
    return {target.id} if isinstance(target, ast.Name) else set()


CORE = [tree(path) for path in files("core")]
CORE_SETS = Sets(*CORE)


@pytest.mark.parametrize("path", files("core"), ids=name)
def test_no_set_is_iterated_unsorted(path):
    """The order of texts in a set differs between processes, so replayed state would differ."""
    lines = CORE_SETS.walked(tree(path))
    assert not lines, f"{name(path)}: lines {lines}: expected sorted(…) around the set, or a dict in its place"


@pytest.mark.parametrize(
    "planted",
    [
        "for a in {1, 2}: pass",
        "for a in set(b): pass",
        "for a in frozenset(b) | c: pass",
        "class A:\n  def __init__(self):\n    self.b: set[str] = set()\n  def c(self):\n    for d in self.b: pass",
        "B = frozenset({1})\nC = B\nd = [a for a in C]",
        "def a(b: set[str]): return list(b)",
        "def a() -> frozenset[str]: ...\nb = dict.fromkeys(a())",
        "a = set()\nb = [*a]",
        "a = set()\nb = ','.join(c for c in a)",
        "a = set[int]()\nb = {c: 1 for c in a}",
    ],
)
def test_a_walk_through_a_set_is_found(planted):
    module = ast.parse(planted)
    assert Sets(module).walked(module)


@pytest.mark.parametrize(
    "planted",
    [
        "for a in sorted({1, 2}): pass",
        "a = set()\nb = any(c for c in a) or len(a) or {c for c in a}",
        "a = {1: 2}\nfor b in a: pass",
        "a = set()\nb = c in a",
    ],
)
def test_uses_of_a_set_that_do_not_depend_on_its_order_are_allowed(planted):
    module = ast.parse(planted)
    assert not Sets(module).walked(module)


@pytest.mark.parametrize("path", files("core"), ids=name)
def test_the_core_has_no_mutable_global(path):
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Global | ast.Nonlocal), name(path)
    assert not changed_globals(tree(path)), f"{name(path)}: a function changes what all of its callers share"


@pytest.mark.parametrize(
    "planted",
    [
        "A = {}\ndef b(): A['c'] = 1",
        "A = []\ndef b(): A.append(1)",
        "A: dict[str, int] = {}\nclass B:\n  def c(self): A.setdefault('d', 1)",
        "from a import TABLE\ndef b(): del TABLE['c']",
        "import a\ndef b(): a.TABLE['c'] = 1",
        "class A:\n  cache = {}\n  def b(self): A.cache['c'] = 1",
        "A = [{}]\nb = lambda: A[0].update(c=1)",
        "A = {}\ndef b(): A['c'] += 1",
    ],
)
def test_a_changed_global_is_found(planted):
    assert changed_globals(ast.parse(planted))


@pytest.mark.parametrize(
    "planted",
    [
        "A = {}\ndef b(A): A['c'] = 1",
        "A = {}\ndef b():\n  A = {}\n  A['c'] = 1",
        "class A:\n  def b(self): self.c['d'] = 1",
        "A = {}\nA['b'] = 1",
        "A = {1: 2}\ndef b(): return A[1]",
    ],
)
def test_changes_of_what_a_function_or_an_object_owns_are_allowed(planted):
    assert not changed_globals(ast.parse(planted))
