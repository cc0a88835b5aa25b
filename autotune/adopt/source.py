"""The two files of an adopted kernel, written from its plan: plain Python to read and edit, and its search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autotune.adopt.choices import Choices
from autotune.adopt.expressions import Expression, Spelling
from autotune.adopt.fields import Field
from autotune.adopt.plan import Plan
from autotune.adopt.reference_text import reference
from autotune.adopt.spelling import joined, quoted, tuple_of, wrapped
from autotune.adopt.tensors import Drawn
from autotune.config import Scalar


def python(plan: Plan, choices: Choices, calls: int, source: str) -> str:
    """Return the Python file. Raises UsageError where the reference's parameters are none of the kernel's."""
    parts = [_head(plan, choices, calls), _author(plan, source), _problem(plan)]
    if plan.kernel.prune is not None:
        parts.append(_arguments(plan))
    parts += [reference(plan, choices), _rules(plan, choices), _launcher(plan, choices)]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _head(plan: Plan, choices: Choices, calls: int) -> str:
    named = {"their_kernel": plan.kernel.name, "their_reference": choices.reference_name, "their_grid": choices.grid}
    theirs = [_import(path, name) for name, path in named.items() if path]
    literals = list(plan.constants.values())
    language = ["import triton.language as tl"] if any(text.startswith("tl.") for text in literals) else []
    torch = ["import torch"] if plan.made or any(text.startswith("torch.") for text in literals) else []
    caches = ["from functools import cache"] if plan.kernel.prune is not None else []
    errors = ["from autotune.errors import UsageError"] if any(_agreements(plan, str)) else []
    notes = "".join(f"\n{note[0].upper()}{note[1:]}." for note in plan.notes)
    return f'''"""`{plan.kernel.name}`, launched as its author wrote it.

`autotune adopt` wrote this file from {calls} captured call{"" if calls == 1 else "s"}; it is yours to edit.{notes}
"""

from __future__ import annotations

{joined(["from dataclasses import dataclass", *caches, "from typing import Any, ClassVar"])}
{joined([*torch, "import triton", *language])}
{joined(["from torch import Tensor", *theirs])}
from autotune.adopt import foreign
from autotune.adopt.drawing import Inputs, dtype_name
from autotune.adopt.nearness import near
from autotune.config import Config
from autotune.device import Device
{joined(errors)}from autotune.kernel import Arguments, Expected, tunable'''


def _import(path: str, name: str) -> str:
    """Return the statement that imports `module:function`, or `module:Class.function`, as `name`."""
    module, _, function = path.partition(":")
    outer, _, inner = function.partition(".")
    return (
        f"from {module} import {function} as {name}"
        if not inner
        else f"from {module} import {outer}\n{name} = {function}"
    )


def _author(plan: Plan, source: str) -> str:
    config = "" if plan.kernel.is_autotuned else f", config={_config(plan.kernel.configs[0])}"
    return f'''AUTHOR = foreign.read(their_kernel, source="{source}"{config})
"""The author's code; loading fails where it is no longer the code that was adopted."""'''


def _config(config: Mapping[str, Scalar]) -> str:
    return f"Config({', '.join(f'{name}={quoted(value)}' for name, value in config.items())})"


def _problem(plan: Plan) -> str:
    fields = joined(f"    {part.name}: {part.kind}" + _default(part) for part in plan.fields)
    of = wrapped("        return cls(", [_read_from(plan, part, "args.") for part in plan.fields], ")")
    varying = f'("{plan.varying}",)' if plan.varying else "()"
    draws = joined(f"        {_draw(plan, drawn)}" for name, drawn in plan.drawn.items() if name not in plan.made)
    given = [_given(plan, name) for name in plan.parameters]
    returned = wrapped("        return (", given, ",)" if len(given) == 1 else ")")
    return f'''@dataclass(frozen=True)
class Problem:
    """One call, by what its caller gives; a row of a table may serve others along VARYING."""

{fields}
    VARYING: ClassVar[tuple[str, ...]] = {varying}

    @classmethod
    def of(cls, args: Arguments) -> Problem:
{of}

    def inputs(self, seed: int, device: str) -> tuple[Any, ...]:
        draw = Inputs(seed, device)
{draws}{returned}'''


def _default(part: Field) -> str:
    return "" if part.default is None else f" = {quoted(part.default)}"


def _read_from(plan: Plan, part: Field, prefix: str) -> str:
    """Return how a field is read from the arguments of a call; of a tensor left out, as in the first captured call."""
    argument = f"{prefix}{part.argument}"
    read = f"dtype_name({argument}.dtype)" if part.read == ".dtype" else f"{argument}{part.read}"
    there = plan.drawn.get(part.argument)
    if there is None or there.optional in (None, part.name):
        return read
    return f"{read} if {argument} is not None else {quoted(part.values[0])}"


def _own(name: str) -> str:
    return f"self.{name}"


def _draw(plan: Plan, drawn: Drawn) -> str:
    """Return the statement that draws one tensor of `Problem.inputs`."""
    shape = tuple_of(part.spelled(_own) for part in drawn.shape)
    dtype = drawn.dtype if drawn.dtype[0] == "'" else f"self.{drawn.dtype}"
    more = f", stride={tuple_of(part.spelled(_own) for part in drawn.stride)}" if drawn.stride else ""
    spec = drawn.spec
    if drawn.name in plan.zeroed or (drawn.name in plan.written and drawn.name not in plan.touched.read):
        value = f"draw.zeros({shape}, {dtype}{more})"
    elif "float" in spec.dtype:
        positive = isinstance(drawn.low, float | int) and drawn.low >= 0
        ends = f", {drawn.low:.6g}, {drawn.high:.6g}" if positive else ""
        value = f"draw.{'within' if positive else 'floats'}({shape}, {dtype}{ends}{more})"
    else:
        flags = "".join(f", {flag}=True" for flag in ("ascending", "distinct") if getattr(spec, flag))
        value = f"draw.whole({shape}, {dtype}, {_bound(drawn.low)}, {_bound(drawn.high)}{flags}{more})"
    value = value.replace("'", '"')
    return f"{drawn.name} = {value}" + (f" if self.{drawn.optional} else None" if drawn.optional else "")


def _bound(value: Expression | float | None) -> str:
    return value.spelled(_own) if isinstance(value, Expression) else str(int(value or 0))


def _given(plan: Plan, name: str) -> str:
    if name in plan.drawn:
        return name
    value = plan.plain[name][1]
    return value.spelled(_own) if isinstance(value, Expression) else quoted(value)


def _arguments(plan: Plan) -> str:
    names = ", ".join(f'"{name}"' for name in plan.parameters)
    return f'''@cache
def _arguments(problem: Problem) -> dict[str, Any]:
    """Arguments of a call by name, without memory: what the author's `early_config_prune` looks at."""
    return dict(zip(({names},), problem.inputs(0, "meta"), strict=True))'''


def _rules(plan: Plan, choices: Choices) -> str:
    named = ", **_arguments(problem)" if plan.kernel.prune is not None else ""
    listed = (
        ""
        if choices.widen
        else """    if not AUTHOR.lists(config, device):
        return "not one of its author's configs"
"""
    )
    return f"""def _default(problem: Problem, device: Device) -> Config:
    return AUTHOR.default_on(device{named})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
{listed}    return AUTHOR.refuses(config, device{named})"""


def _agreements(plan: Plan, spelled: Spelling) -> Iterator[str]:
    """Yield checks that strides and sizes agree: by them the kernel writes into outputs that the launcher made."""
    own = {part.argument for part in plan.fields}
    for name, (_, value) in plan.plain.items():
        if plan.made and isinstance(value, Expression) and name not in own:
            words = f"{name} must be {value.spelled()} as in the captured calls, got {{{name}}}"
            yield f"    if {name} != {value.spelled(spelled)}:"
            yield f'        raise UsageError(f"{words}")'


def _launcher(plan: Plan, choices: Choices) -> str:
    kinds = {name: "Tensor | None" if drawn.optional else "Tensor" for name, drawn in plan.drawn.items()}
    kinds |= {name: kind for name, (kind, _) in plan.plain.items()}
    parameters = [f"{name}: {kinds[name]}" for name in plan.parameters]
    sources = {part.name: _read_from(plan, part, "") for part in plan.fields}

    def spelled(name: str) -> str:
        return f'config.size("{name}")' if name in plan.kernel.tuned else sources.get(name, name)

    home = next(name for name in plan.parameters if name in plan.drawn and plan.drawn[name].optional is None)
    makes = []
    for name in plan.made:
        drawn = plan.drawn[name]
        shape = tuple_of(part.spelled(spelled) for part in drawn.shape)
        literal = f"torch.{drawn.dtype[1:-1]}"
        held = next((f"{part.argument}.dtype" for part in plan.fields if part.name == drawn.dtype), literal)
        makes.append(f"    {name} = torch.empty({shape}, dtype={held}, device={home}.device)")
    every = [
        name for name in plan.kernel.arguments if name in plan.drawn or name in plan.plain or name in plan.constants
    ]
    passed = [f"{name}={plan.constants.get(name, name)}" for name in every]
    if choices.grid is None:
        grid = tuple_of(part.spelled(spelled) for part in plan.grid)
    else:
        grid = "lambda named: their_grid(**named)"
    results = "Tensor" if len(plan.written) == 1 else f"tuple[{', '.join(['Tensor'] * len(plan.written))}]"
    parts = ["Problem", "jit=AUTHOR.jit", *(f"{part}=_{part}" for part in ("reference", "default", "reject"))]
    parts += ["any_order=True"] if plan.touched.adds or plan.zeroed else []
    parts += ["proved_against_itself=True"] if choices.reference is None else []
    return f'''{wrapped("@tunable(", parts, ")")}
{wrapped(f"def {choices.name}(", [*parameters, "*", "config: Config", "device: Device"], f") -> {results}:")}
    """Launch {plan.kernel.name} with a tuned config."""
{joined([*_agreements(plan, spelled), *makes])}    grid = {grid}
{wrapped("    AUTHOR[grid](", [*passed, "**config"], ")")}
    return {", ".join(plan.written)}'''
