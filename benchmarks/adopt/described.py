"""Triton kernels of an unpacked package: each is described as `autotune adopt` reads it, or the reason why not."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotune.adopt import foreign
from autotune.errors import UsageError

DESCRIBED = "described"


def described(package: str) -> Iterator[tuple[str, str]]:
    """Yield each kernel of `package` as `module:function`, with DESCRIBED or a reason why it cannot be adopted.

    A function that another Triton function calls is a helper, and not counted; nor is code for Ascend NPUs and XPUs.
    Only modules with Triton code are imported; of one that cannot be, the kernels are read from its text.
    """
    for module, path in _modules(package):
        functions = _written(path)
        if not functions:
            continue
        try:
            there = vars(importlib.import_module(module))
        except BaseException as error:  # anybody's module may raise anything, or exit
            yield from ((f"{module}:{name}", f"its module is not imported: {_reason(error)}") for name in functions)
            continue
        for name in functions:
            if name in there:
                yield f"{module}:{name}", _description(there[name])
            else:  # under a condition that does not hold here
                yield f"{module}:{name}", "its module makes it on other machines only"


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(Path(folder).parent).with_suffix("").parts
            if not any(re.search(r"ascend|npu|xpu", part) for part in parts):
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _written(path: Path) -> list[str]:
    """Return the functions of a file under a decorator of Triton or Gluon that no other one of them calls."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if "jit" not in text or ("triton" not in text and "gluon" not in text):
        return []
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _is_triton(node)]
    called = {
        part.func.id
        for function in functions
        for part in ast.walk(function)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
    }
    return list(dict.fromkeys(function.name for function in functions if function.name not in called))


def _is_triton(function: ast.FunctionDef) -> bool:
    names = [ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list]
    return any(name in ("triton.jit", "triton.autotune", "triton.heuristics", "gluon.jit") for name in names)


def _description(value: Any) -> str:  # noqa: ANN401
    try:
        foreign.read(value)
    except UsageError as refusal:
        return str(refusal).partition(": ")[2].partition(";")[0].partition(", so that")[0]
    return DESCRIBED


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:90]
