"""Rules that a kernel obeys beside being right, so that it can be served, replayed and called by mistake safely."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autotune.config import Problem, describe, parse
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.compilation.launch import dry_run, meta_inputs
from autotune.tuning.space import Space


@dataclass(frozen=True)
class Breach:
    """One rule that a kernel breaks on one problem, and how to mend it."""

    rule: str
    problem: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}; {self.remedy}"


def breaches(kernel: Kernel[Any], device: Device) -> Iterator[Breach]:
    """Yield the first breach of each rule, on the check problems in their order. Raises SpaceError."""
    loaded = space.load(kernel, device)
    yield from _documented(kernel)
    for rule in (_told_by_calls, _seeded, _default_in_space, _arguments_checked):
        # One routing or pattern may leave nothing to chance: that is no breach of a kernel whose first problem does.
        problems = loaded.check[:1] if rule is _seeded else loaded.check
        yield from _first(rule, kernel, problems, loaded, device)


Rule = Callable[[Kernel[Any], Problem, Space, Device], Iterator[tuple[str, str]]]


def _first(
    rule: Rule, kernel: Kernel[Any], problems: Sequence[Problem], loaded: Space, device: Device
) -> Iterator[Breach]:
    name = rule.__name__.strip("_").replace("_", " ")
    for problem in problems:
        for what, remedy in rule(kernel, problem, loaded, device):
            yield Breach(name, describe(problem), what, remedy)
            return


def _documented(kernel: Kernel[Any]) -> Iterator[Breach]:
    if not kernel.launch.__doc__:
        remedy = "say in its docstring which shapes and dtypes go in and come out"
        yield Breach("documented", "", f"{kernel.launch.__name__} has no docstring", remedy)


def _told_by_calls(kernel: Kernel[Any], problem: Problem, loaded: Space, device: Device) -> Iterator[tuple[str, str]]:
    """A call shows the problem that its arguments were drawn for: tables are looked up by it."""
    if parse(kernel.problem, describe(problem)) != problem:
        yield f"{describe(problem)!r} is read back as another problem", "let fields be int, bool or str without commas"
    seen = kernel.problem.of(kernel.arguments(*meta_inputs(problem)))
    drawn = {name: getattr(problem, name) for name in getattr(problem, "DRAWN", ())}
    if dataclasses.replace(seen, **drawn) != problem:
        remedy = "let Problem.of read what inputs() drew, and name fields that no call shows in DRAWN"
        yield f"a call with its inputs is read as {describe(seen)}", remedy


def _seeded(kernel: Kernel[Any], problem: Problem, loaded: Space, device: Device) -> Iterator[tuple[str, str]]:
    """Equal seeds draw equal bits, another seed draws others: a proof can be repeated."""
    once, again, other = (_bits(problem.inputs(seed, "cpu")) for seed in (1, 1, 2))
    remedy = "draw every tensor by one autotune.inputs.Draw(seed, device)"
    if not all(torch.equal(a, b) for a, b in zip(once, again, strict=True)):
        yield "inputs() draws other values for the same seed", remedy
    if all(torch.equal(a, b) for a, b in zip(once, other, strict=True)):
        yield "inputs() draws the same values for every seed", remedy


def _bits(inputs: tuple[Any, ...]) -> list[Tensor]:
    return [value.contiguous().flatten().view(torch.uint8) for value in inputs if isinstance(value, Tensor)]


def _default_in_space(
    kernel: Kernel[Any], problem: Problem, loaded: Space, device: Device
) -> Iterator[tuple[str, str]]:
    """A search finds the default again, and the kernel's own rules allow it."""
    config = kernel.default(problem, device)
    if refusal := kernel.reject(problem, config, device):
        yield f"reject refuses the default config {config}: {refusal}", "let default return a config that is allowed"
    for name in sorted(config.keys() ^ loaded.lists.keys()):
        where = "default sets it, params has no list" if name in config else "params has a list, default leaves it out"
        yield f"{name}: {where}", "set the same parameters in both"
    for name in sorted(config.keys() & loaded.lists.keys()):
        if config[name] not in loaded.lists[name]:
            yield f"the default has {name}={config[name]}, not in its list", f"add {config[name]} to {name} in params"


def _arguments_checked(
    kernel: Kernel[Any], problem: Problem, loaded: Space, device: Device
) -> Iterator[tuple[str, str]]:
    """A tensor of a wrong dtype, rank or stride is refused by name, before a kernel reads wrong memory."""
    inputs, config = meta_inputs(problem), kernel.default(problem, device)
    for at, value in enumerate(inputs):
        name = kernel.signature.parameters[at].name
        for kind, wrong in _wrong(value) if isinstance(value, Tensor) else ():
            changed = (*inputs[:at], wrong, *inputs[at + 1 :])
            try:
                dry_run(kernel, changed, config, device)
            except (UsageError, ValueError, TypeError) as error:
                if not re.search(rf"\b{name}\b", str(error)):
                    yield f"the error for a wrong {kind} of {name} does not name it: {error}", f"begin it with {name!r}"
            except Exception as error:  # a launcher that checks nothing fails anywhere
                yield f"a wrong {kind} of {name} ends in {type(error).__name__}: {error}", _check_first(name)
            else:
                yield f"a wrong {kind} of {name} is let through", _check_first(name)


def _check_first(name: str) -> str:
    return f"in the launcher, first of all, raise ValueError unless {name} has its dtype, rank and strides"


def _wrong(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(what is wrong, tensor) for all but the sizes."""
    yield "dtype", tensor.to(torch.float64 if tensor.dtype != torch.float64 else torch.float32)
    yield "rank", tensor.unsqueeze(0)
    if tensor.ndim and tensor.numel() > 1:
        wide = torch.empty((*tensor.shape[:-1], 2 * tensor.shape[-1]), dtype=tensor.dtype, device="meta")
        yield "stride", wide[..., ::2]
