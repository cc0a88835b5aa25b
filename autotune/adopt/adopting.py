"""From captured calls of somebody's kernel to two files that `tune`, `validate` and the others take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import files, registry
from autotune.adopt import foreign, source
from autotune.adopt.author import OPTIONS
from autotune.adopt.calls import Call, TensorSpec, Unkept
from autotune.adopt.choices import Choices
from autotune.adopt.foreign import ForeignKernel
from autotune.adopt.plan import Plan, plan
from autotune.adopt.space_text import yaml_text
from autotune.adopt.trial import touched
from autotune.config import Config, Problem, Scalar, build, describe
from autotune.errors import AutotuneError, UsageError

if TYPE_CHECKING:
    from autotune.device import Device
    from autotune.kernel import Kernel

_SMALL = 128
"""Sizes of check problems are brought down to this, where they are larger."""
_CHECKED = 3
"""Check problems that are written."""


@dataclass(frozen=True)
class Adopted:
    """Files that were written, and what a proof of the author's first config said."""

    python: Path
    yaml: Path
    problems: tuple[str, ...]
    """Check problems, as the command line writes them."""
    configs: int
    notes: tuple[str, ...]
    failure: str | None
    """Reason why the first config is not proved; None where it is right on all check problems."""


def found(name: str) -> Any:  # noqa: ANN401
    """Return the object `package.module:name`, which is imported. Raises UsageError."""
    module, colon, path = name.partition(":")
    if not colon or not path:
        raise UsageError(f"{name}: write package.module:name")
    try:
        there: Any = import_module(module)
    except Exception as error:  # anybody's module may raise anything
        raise UsageError(f"{name}: {module} cannot be imported ({error}); install it, or set PYTHONPATH") from error
    for part in path.split("."):
        if not hasattr(there, part):
            raise UsageError(f"{name}: {getattr(there, '__name__', module)} has no {part!r}")
        there = getattr(there, part)
    return there


def calls_of(kernel: ForeignKernel, calls: Sequence[Call], path: Path) -> tuple[Call, ...]:
    """Return the captured calls of `kernel`, also those of a script that was run by itself. Raises UsageError."""
    defined = kernel.jit.fn
    names = {f"{module}:{defined.__qualname__}" for module in (defined.__module__, "__main__")}
    own = tuple(call for call in calls if call.kernel in names)
    if not own:
        others = ", ".join(sorted({call.kernel for call in calls})) or "none"
        raise UsageError(f"{path}: no call of {kernel.name}; it has calls of {others}")
    return own


def tuned_by_user(kernel: ForeignKernel, names: Sequence[str], call: Call) -> ForeignKernel:
    """Give a kernel that its author does not tune one config: the captured constexprs of `names`, and options.

    Raises UsageError for names that are no integer constexprs, and for a kernel that has configs of its own.
    """
    if kernel.configs:
        if names:
            raise UsageError(f"{kernel.name}: its author's configs say what is tuned ({', '.join(kernel.tuned)})")
        return kernel
    for name in names:
        if name not in kernel.constexprs or type(call.arguments.get(name)) is not int:
            able = [n for n in kernel.arguments if n in kernel.constexprs and type(call.arguments.get(n)) is int]
            raise UsageError(f"{kernel.name}: {name} is no constexpr of an integer; it has {', '.join(able) or 'none'}")
    given: dict[str, Any] = {name: value for name, value in call.options.items() if name in OPTIONS}
    tuned: dict[str, Any] = {name: call.arguments[name] for name in names}
    return replace(kernel, configs=(Config({"num_warps": 4, "num_stages": 3, **given, **tuned}),))


def adopt(kernel: ForeignKernel, calls: Sequence[Call], choices: Choices, folder: Path, device: Device) -> Adopted:
    """Write both files into `folder`, and prove the author's first config in the interpreter.

    Raises UsageError for what cannot be adopted, with the reason; OSError where the folder cannot be written.
    """
    smallest = min(calls, key=_elements)
    constants = {name: _object(value) for name, value in smallest.arguments.items() if isinstance(value, Unkept)}
    try:
        seen = touched(kernel, smallest, constants)
    except AutotuneError as error:
        raise UsageError(f"{kernel.name}: the captured call does not run in the interpreter ({error})") from error
    if not seen.written:
        raise UsageError(f"{kernel.name}: writes to none of its arguments in the captured call; capture another")
    planned = plan(kernel, calls, seen, grid_is_named=choices.grid is not None)
    text = source.python(planned, choices, sum(call.times for call in calls), foreign.source_of(kernel.jit))
    paths = folder / f"{choices.name}.py", folder / f"{choices.name}.yaml"
    files.write(paths[0], text)
    models = list(dict.fromkeys(tuple(fields.items()) for fields in _captured(planned)))
    (name,) = registry.named(str(paths[0]))
    loaded = registry.load(name)
    check, failure = _checks(loaded, [dict(fields) for fields in models], device)
    files.write(
        paths[1],
        yaml_text(choices.name, kernel.configs, check, [dict(fields) for fields in models], widen=choices.widen),
    )
    problems = tuple(describe(build(loaded.problem, fields, "check")) for fields in check)
    return Adopted(*paths, problems, len(kernel.configs), planned.notes, failure)


def _object(value: Unkept) -> Any:  # noqa: ANN401
    """Return the dtype that a file spells, such as `tl.bf16`; None for what it cannot hold."""
    import torch
    import triton.language as tl

    home, _, dtype = value.kind.partition(".")
    return tl.dtype(dtype) if home == "tl" else getattr(torch, dtype, None) if home == "torch" else None


def _elements(call: Call) -> int:
    return sum(value.nbytes for value in call.arguments.values() if isinstance(value, TensorSpec))


def _captured(planned: Plan) -> Iterator[dict[str, Scalar]]:
    """Yield the fields of each captured call's problem; those at their default are left out."""
    count = len(planned.fields[0].values) if planned.fields else 0
    for at in range(count):
        yield {part.name: part.values[at] for part in planned.fields if part.default is None}  # type: ignore[misc]


def _checks(
    kernel: Kernel[Any], models: Sequence[Mapping[str, Scalar]], device: Device
) -> tuple[list[dict[str, Scalar]], str | None]:
    """Return small problems that the author's first config gets right, and why a captured one fails, if it does.

    A kernel may take only some sizes: one brought down is a check problem only if the author's config is right there.
    """
    by_size = sorted(models, key=lambda fields: math.prod(value for value in fields.values() if type(value) is int))
    in_order = [dict(fields) for fields in by_size]
    right: list[dict[str, Scalar]] = []
    for fields in in_order:
        small = {name: _smaller(value) for name, value in fields.items()}
        if small not in right and _failure(kernel, small, device) is None:
            right.append(small)
        if len(right) == _CHECKED:
            return right, None
    if right:
        return right, None
    failure = _failure(kernel, in_order[0], device)
    return [in_order[0]], failure


def _smaller(value: Scalar) -> Scalar:
    """Return a size of `_SMALL` or less, halved while it is even; other values as they are."""
    if type(value) is not int or value <= _SMALL:
        return value
    while value > _SMALL and value % 2 == 0:
        value //= 2
    return value if value <= _SMALL else _SMALL // 2 + value % (_SMALL // 2)


def _failure(kernel: Kernel[Any], fields: Mapping[str, Scalar], device: Device) -> str | None:
    """Reason why the default config is wrong on a problem, or None."""
    from autotune.tuning.validation.cases import NORMAL
    from autotune.tuning.validation.validate import validate

    try:
        problem: Problem = build(kernel.problem, fields, "problem")
        config = kernel.default(problem, device)
        refusal = kernel.reject(problem, config, device)
        if refusal is None:
            validate(kernel, problem, config, device, (NORMAL,))
        return refusal
    except Exception as error:  # anybody's kernel and reference may raise anything
        return f"{type(error).__name__}: {error}"
