"""The reference of an adopted kernel as Python source: a function of the user's, or the kernel itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from autotune.adopt.choices import Choices
from autotune.adopt.plan import Plan
from autotune.adopt.spelling import joined
from autotune.errors import UsageError


def reference(plan: Plan, choices: Choices) -> str:
    """Return the function `_reference`. Raises UsageError where the user's has parameters that the kernel has not."""
    sizes = [f"problem.{part.name}" for part in plan.fields if part.kind == "int" and "stride" not in part.name]
    terms = f"max({', '.join(sizes)})" if len(sizes) > 1 else (sizes or ["1"])[0]
    limit = f"tolerance={choices.tolerance!r}" if choices.tolerance is not None else ""
    dots = "dots=True" if {"fp32", "float32"} & plan.touched.dots else ""
    floats = sorted({d.dtype for n, d in plan.drawn.items() if n not in plan.written and "float" in d.spec.dtype})
    near = []
    for name in plan.written:
        formats = dict.fromkeys([*floats, plan.drawn[name].dtype])
        formats.pop(plan.drawn[name].dtype)
        spelled = [_format(part) for part in (*formats, plan.drawn[name].dtype)]
        more = ", ".join(filter(None, [f"terms={terms}", dots, limit]))
        near.append(f'        near("{name}", {name}, {", ".join(spelled)}, {more}),')
    results = ", ".join(plan.written)
    if choices.reference is None:
        config = f"AUTHOR.default({'**_arguments(problem)' if plan.kernel.prune else ''})"
        return f"""def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    # Nobody named another reference: the kernel is proved against itself at its author's first config.
    {results} = {choices.name}.launch(*args, config={config}, device=None)
    return (
{joined(near)}    )"""
    call = f"their_reference({', '.join(_reference_arguments(plan, choices.reference))})"
    return f"""def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    {results} = {call}
    return (
{joined(near)}    )"""


def _format(dtype: str) -> str:
    return dtype.replace("'", '"') if dtype[0] == "'" else f"problem.{dtype}"


def _reference_arguments(plan: Plan, reference: Callable[..., Any]) -> Iterator[str]:
    """Yield what the user's function is called with: arguments of the kernel by name, or the tensors that it reads."""
    plain = {_plain_name(name): name for name in plan.parameters}
    parameters = inspect.signature(reference).parameters
    matched = {name: plain.get(_plain_name(name)) for name in parameters}
    needed = [name for name, part in parameters.items() if part.default is part.empty]
    if any(matched[name] is None for name in needed):
        read = [name for name in plan.parameters if name in plan.drawn and name in plan.touched.read]
        if len(read) != len(needed):
            missing = ", ".join(name for name in needed if matched[name] is None)
            raise UsageError(
                f"reference {reference.__name__}: {missing} is no argument of the kernel, which has "
                f"{', '.join(plain)}: name its parameters after them, or let it take the {len(read)} that are read"
            )
        matched = dict(zip(needed, read, strict=True))
    for parameter, name in matched.items():
        if name is None:
            continue
        value = f"args.{name}"
        if name in plan.drawn and "float" in plan.drawn[name].spec.dtype:
            value = f"args.{name}.double()" if plan.drawn[name].optional is None else f"foreign.double(args.{name})"
        yield value if parameter in needed else f"{parameter}={value}"


def _plain_name(name: str) -> str:
    """`x` of `x_ptr`, `X` and `x`."""
    lower = name.lower()
    for ending in ("_ptr", "_ptrs", "_pointer", "ptr"):
        lower = lower.removesuffix(ending) or lower
    return lower
