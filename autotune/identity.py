"""Hashes of what a result follows from: the meaning of a kernel's code, without comments, docstrings and formatting.

Code is read from the syntax tree and followed through every name: in its own module, in modules of the package or
folder that it lies in, and in this package's kernels. A name from elsewhere (torch, triton, the rest of this package)
enters by its import path alone.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autotune.errors import KernelError
from autotune.origin import KERNELS

_PACKAGE = "autotune.kernels."
_SILENT = frozenset({"ctx", "kind", "type_comment"})
"""Fields of a syntax tree that follow from the others or carry no meaning."""


@dataclass(frozen=True)
class Identity:
    """16 hex digits each; equal digits mean that nothing changed."""

    kernel: str
    """Code that the compiler and the launcher see, on which rows depend: device code, launcher, default, `reject`."""
    proof: str
    """The problem, the reference and how outputs are decoded: what a proof depends on beside the kernel."""
    work: str
    """The formula of bytes and operations, or the code that is counted in its place: modeled times depend on it."""


def read(path: Path, launcher: str) -> Identity:
    """Return the identity of the kernel whose `@tunable` function `launcher` stands in the file at `path`."""
    module = _module(path, path.parents[1])
    functions = [node for node in module.bindings.get(launcher, ()) if isinstance(node, ast.FunctionDef)]
    decorated = [(function, node) for function in functions for node in function.decorator_list]
    calls = [(function, node) for function, node in decorated if isinstance(node, ast.Call) and _is_tunable(node)]
    if len(calls) != 1:
        raise KernelError(
            f"{path}: {launcher} must stand once, at the top level of the file and under `@tunable(...)`: its code is "
            "read there, to know when a table is stale"
        )
    ((function, call),) = calls
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    problem = call.args[0]
    # A launcher or rule that names the problem's class, or a base of it, does not depend on how its inputs are drawn.
    left_out = _classes(module, problem)
    rules = [given[name] for name in ("default", "reject") if name in given]
    # Without a default, the first of the choices is one: what serves where no row does.
    choices = [given["choices"]] if "choices" in given and "default" not in given else []
    kernel = [function, given["jit"], *rules, *choices]
    proof = [problem, given["reference"], *(given[name] for name in ("decode", "tolerance") if name in given)]
    return Identity(
        _digest(module, kernel, left_out),
        _digest(module, proof),
        _digest(module, [given["work"]] if "work" in given else kernel, left_out),
    )


@cache
def meaning(node: ast.AST) -> str:
    """Spell a syntax tree without docstrings, the same way on every version of Python."""
    return _spelled(node)


def _spelled(value: object) -> str:
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields if name not in _SILENT)
        spelled = (f"{name}={_spelled(field)}" for name, field in fields if field not in (None, []))
        return f"{type(value).__name__}({', '.join(spelled)})"
    if isinstance(value, list):
        return f"[{', '.join(_spelled(item) for item in value if not _is_unread(item))}]"
    return repr(value)


def _is_unread(node: object) -> bool:
    """True for a docstring, and for `@tunable(...)`, whose arguments are identified one by one."""
    return _is_tunable(node) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def _is_tunable(node: object) -> bool:
    return isinstance(node, ast.Call) and _last_name(node.func) == "tunable"


def _last_name(node: ast.AST) -> str:
    """`tunable` of `tunable` and of `autotune.tunable`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@dataclass(frozen=True)
class _Module:
    path: Path
    root: Path
    """The folder around its family."""
    bindings: dict[str, list[ast.stmt]]
    """Statements of the top level by each name that they bind."""
    siblings: dict[str, tuple[Path, str]]
    """Names from other modules that are followed: the module's file, and the name there ("" for all of it)."""
    elsewhere: dict[str, str]
    """Import path of every other imported name."""

    def statements(self, name: str) -> list[ast.stmt]:
        """Statements that bind `name`; all of the module for ""."""
        return self.bindings.get(name, []) if name else [search for some in self.bindings.values() for search in some]


def _classes(module: _Module, problem: ast.AST) -> set[tuple[Path, str]]:
    """File and name of the problem's class and of its bases in the kernels folder."""
    classes: set[tuple[Path, str]] = set()
    queue = [(module, problem)]
    while queue:
        home, node = queue.pop()
        for path, name in _reads(home, _names(node)) - classes:
            classes.add((path, name))
            there = _module(path, home.root)
            statements = (part for part in there.statements(name) if isinstance(part, ast.ClassDef))
            queue += [(there, base) for statement in statements for base in statement.bases]
    return classes


def _digest(module: _Module, roots: Iterable[ast.AST], left_out: Iterable[tuple[Path, str]] = ()) -> str:
    seen = set(left_out)
    spelled: set[str] = set()
    queue = [(module, root) for root in roots]
    while queue:
        home, node = queue.pop()
        spelled.add(meaning(node))
        names = _names(node)
        spelled |= {f"{name} is {home.elsewhere[name]}" for name in names & home.elsewhere.keys()}
        for path, name in _reads(home, names) - seen:
            seen.add((path, name))
            there = _module(path, home.root)
            queue += [(there, statement) for statement in there.statements(name)]
    return hashlib.sha256("\n".join(sorted(spelled)).encode()).hexdigest()[:16]


def _reads(module: _Module, names: Iterable[str]) -> set[tuple[Path, str]]:
    """File and name of each definition of the kernels folder that `names` mean in `module`."""
    here = {(module.path, name) for name in names if name in module.bindings}
    return here | {module.siblings[name] for name in names if name in module.siblings}


@cache
def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(part.id for part in _parts(node) if isinstance(part, ast.Name))


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield `node` and what it contains, less what `meaning` leaves out."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not _is_unread(child):
            yield from _parts(child)


@cache
def _module(path: Path, root: Path) -> _Module:
    module = _Module(path, root, {}, {}, {})
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            module.elsewhere.update({(alias.asname or alias.name): alias.name for alias in statement.names})
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                name, imported = alias.asname or alias.name, _import_path(statement, alias.name, path)
                if found := _sibling(imported, path, root):
                    module.siblings[name] = found
                else:
                    module.elsewhere[name] = imported
        else:
            for name in _bound(statement):
                module.bindings.setdefault(name, []).append(statement)
    return module


def _import_path(statement: ast.ImportFrom, name: str, path: Path) -> str:
    """`package.module.name`; the folders of the file at `path` stand for the dots of a relative import."""
    folders = path.parts[: len(path.parts) - statement.level] if statement.level else ()
    package = [folders[-1]] if folders else []
    return ".".join([*package, *filter(None, [statement.module]), name])


def _sibling(imported: str, path: Path, root: Path) -> tuple[Path, str] | None:
    """The file and name behind an import path, where it lies in a package around `path` or in this one's kernels."""
    for prefix, folder in _followed(path, root):
        if not imported.startswith(prefix):
            continue
        parts = imported.removeprefix(prefix).split(".")
        for depth, name in ((len(parts), ""), (len(parts) - 1, parts[-1])):
            file = folder.joinpath(*parts[:depth]).with_suffix(".py")
            if depth and file.exists():
                return file, name
    return None


def _followed(path: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Beginnings of import paths whose modules are read, each with the folder where they lie."""
    yield _PACKAGE, root
    yield _PACKAGE, KERNELS
    for folder in path.parents[:-1]:
        if folder != KERNELS.parent:
            yield f"{folder.name}.", folder


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement binds: a function, a class, or any variable that it assigns."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
