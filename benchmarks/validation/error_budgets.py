"""Error budgets beside the error of a plain torch implementation, kernel by kernel: how loose is a bound?

    TRITON_INTERPRET=1 python -m benchmarks.validation.error_budgets \
        [KERNEL ...] [--device mi355x] [--distribution NAME] [--json]

`plain` is the reference's maths in float32 by torch, its results rounded by torch to what the kernel stores: bf16, or
FP8 and FP4 times the scale of a group. For each output of the first check problem that leaves none empty: relative
Frobenius errors of plain torch and of the kernel's default config in the interpreter, the budget of the whole output,
and how many times the plain error it is. An output that must be equal (indices, copies) has no budget, and is left out.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from autotune import device, registry
from autotune.config import Problem
from autotune.device import Device
from autotune.inputs import DISTRIBUTIONS, FP8, distribution
from autotune.kernel import Expected, Kernel
from autotune.kernels._quant import E2M1
from autotune.tuning import space
from autotune.tuning.interpreter.sanitizer import tensors
from autotune.tuning.validation.cases import Case
from autotune.tuning.validation.error_budget import relative, relative_budget
from autotune.tuning.validation.validate import prove

ABSENT = -1e29
FP4 = torch.tensor(sorted({*E2M1, *(-value for value in E2M1)}))


class Narrow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Whatever asks for float64 gets float32, and float64 that comes from outside is narrowed."""

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        def narrow(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, Tensor) and value.dtype == torch.float64:
                return value.float()
            return torch.float32 if value is torch.float64 else value

        kwargs = {name: narrow(value) for name, value in (kwargs or {}).items()}
        return function(*map(narrow, args), **kwargs)


def plain(kernel: Kernel[Any], problem: Problem, case: Case, outputs: list[Tensor]) -> list[Tensor]:
    """The outputs' values in float64: computed in float32, and stored in the formats of `outputs`."""
    with distribution(case.distribution):
        inputs = problem.inputs(case.seed, "cpu")
    with Narrow():  # type: ignore[no-untyped-call]
        values = [want.value.float() for want in kernel.reference(problem, *inputs)]
    dtypes = [stored_as(output, problem) for output in outputs] + [torch.float32] * len(values)
    found = zip(values, [*values[1:], None], dtypes[: len(values)], strict=True)
    return [stored(value, after, dtype).double() for value, after, dtype in found]


def stored_as(output: Tensor, problem: Problem) -> torch.dtype:
    """Dtype of an output's numbers; the problem names that of packed bytes."""
    if output.dtype.is_floating_point:
        return output.dtype
    fp4 = getattr(problem, "fp4", False) or getattr(problem, "kind", "") == "e2m1"
    return torch.float4_e2m1fn_x2 if fp4 else FP8.get(getattr(problem, "dtype", ""), torch.float32)


def stored(value: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`value` rounded to `dtype`; to one narrower than bf16 in units of the `scale` that follows, by group or row."""
    if dtype.itemsize > 1:
        return value.to(dtype)
    if scale is None:
        return value
    if scale.ndim < value.ndim:
        scale = scale[..., None]
    wide = scale.repeat_interleave(value.shape[-1] // scale.shape[-1], -1)
    units = value / torch.where(wide != 0, wide, 1.0)
    return (units.to(dtype).float() if dtype in FP8.values() else nearest_fp4(units)) * wide


def nearest_fp4(value: Tensor) -> Tensor:
    middles = (FP4[1:] + FP4[:-1]) / 2
    return FP4[torch.bucketize(value, middles)]


def telling(kernel: Kernel[Any], gpu: Device, case: Case) -> tuple[Problem, tuple[Expected, ...]]:
    """The first check problem whose outputs all hold something, or the first."""
    found = []
    for problem in space.load(kernel, gpu).check:
        with distribution(case.distribution):
            expected = kernel.reference(problem, *problem.inputs(case.seed, "cpu"))
        found.append((problem, expected))
        if all(want.value.any() for want in expected) and not kernel.reject(problem, kernel.default(problem, gpu), gpu):
            break
    return found[-1] if all(want.value.any() for want in found[-1][1]) else found[0]


def rows(name: str, gpu: Device, case: Case) -> Iterator[dict[str, Any]]:
    kernel = registry.load(name)
    problem, expected = telling(kernel, gpu, case)
    _, outputs = prove(kernel, problem, kernel.default(problem, gpu), gpu, case)
    decoded, own = kernel.decode(problem, outputs), plain(kernel, problem, case, tensors(outputs))
    for want, mine, got in zip(expected, own, decoded, strict=True):
        # What may be left as it was has no bound, and what stands for -inf would drown the rest.
        there = want.bound.isfinite() & (want.value > ABSENT)
        kept = Expected(want.name, want.value[there], want.bound[there])
        if kept.bound.any():
            errors = [relative((tensor[there] - kept.value).abs(), kept.value) for tensor in (mine, got)]
            row = {"kernel": name, "output": want.name, "plain": errors[0], "own": errors[1]}
            budget = relative_budget(kept)
            yield row | {"budget": budget, "times": budget / errors[0] if errors[0] else None}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--device", default="mi355x")
    parser.add_argument("--distribution", default="normal", choices=DISTRIBUTIONS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    case = Case(arguments.distribution, 0)
    found = [
        row
        for name in arguments.kernels or registry.names()
        for row in rows(name, device.named(arguments.device), case)
    ]
    if arguments.json:
        print("\n".join(map(json.dumps, found)))
        return
    table = Table(
        "kernel", "output", "plain torch", "kernel", "budget", "budget / plain", title="relative Frobenius errors"
    )
    for row in found:
        errors = [f"{row[column]:.2e}" for column in ("plain", "own", "budget")]
        table.add_row(
            row["kernel"], row["output"], *errors, f"{row['times']:.1f}" if row["times"] else "plain is exact"
        )
    Console(width=120).print(table)


main()
