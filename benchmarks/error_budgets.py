"""Error budgets beside the error that plain torch makes in float32, kernel by kernel: how loose is a bound?

    TRITON_INTERPRET=1 python benchmarks/error_budgets.py [KERNEL ...] [--device mi355x] [--distribution normal]

For each output of the first check problem: the relative Frobenius error of the reference's own maths in float32 and
rounded to nothing, that of the kernel's default config in the interpreter, and the budget of the whole output.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from autotune import device, registry
from autotune.config import Problem
from autotune.device import Device
from autotune.draw import DISTRIBUTIONS, distribution
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.validation.cases import Case
from autotune.tuning.validation.error_budget import relative, relative_budget
from autotune.tuning.validation.validate import prove


class Narrow(TorchDispatchMode):
    """Whatever asks for float64 gets float32."""

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        def narrow(value: Any) -> Any:  # noqa: ANN401
            return torch.float32 if value is torch.float64 else value

        kwargs = {name: narrow(value) for name, value in (kwargs or {}).items()}
        return function(*map(narrow, args), **kwargs)


def plain(kernel: Kernel[Any], problem: Problem, case: Case) -> list[torch.Tensor]:
    """The outputs' values, computed in float32."""
    with distribution(case.distribution):
        inputs = problem.inputs(case.seed, "cpu")
    with Narrow():
        return [want.value.float() for want in kernel.reference(problem, *inputs)]


def rows(name: str, gpu: Device, case: Case) -> Iterator[tuple[str, ...]]:
    kernel = registry.load(name)
    problem = space.load(kernel, gpu).check[0]
    with distribution(case.distribution):
        expected = kernel.reference(problem, *problem.inputs(case.seed, "cpu"))
    _, outputs = prove(kernel, problem, kernel.default(problem, gpu), gpu, case)
    decoded = kernel.decode(problem, outputs)
    for want, narrow, got in zip(expected, plain(kernel, problem, case), decoded, strict=True):
        errors = [(narrow.double() - want.value).abs(), (got - want.value).abs()]
        yield name, want.name, *(f"{relative(e, want.value):.2e}" for e in errors), f"{relative_budget(want):.2e}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--device", default="mi355x")
    parser.add_argument("--distribution", default="normal", choices=DISTRIBUTIONS)
    arguments = parser.parse_args()
    table = Table("kernel", "output", "float32 torch", "kernel", "budget", title="relative Frobenius errors")
    for name in arguments.kernels or registry.names():
        for row in rows(name, device.named(arguments.device), Case(arguments.distribution, 0)):
            table.add_row(*row)
    Console(width=120).print(table)


main()
