"""How kernels are called here: with the allowed config that has the fewest programs, because the interpreter runs them
one after another. Any config that `reject` lets through must be right."""

from __future__ import annotations

from functools import cache
from typing import Any

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning import space


class Launcher:
    """`launch(kernel, *arguments)` on one device."""

    def __init__(self, gpu: Device) -> None:
        self.gpu = gpu
        self.fp8 = gpu.fp8

    def __call__(self, kernel: Kernel[Any], *args: Any) -> Any:
        config = _fewest_programs(kernel, kernel.problem_of(args, self.gpu), self.gpu)
        return kernel(*args, config=config, device=self.gpu)


@cache
def _fewest_programs(kernel: Kernel[Any], problem: Problem, gpu: Device) -> Config:
    """By changing one parameter at a time, twice around: more warps first allow wider tiles."""
    lists, best = space.load(kernel, gpu).lists, kernel.default(problem, gpu)
    for _ in range(2):
        for name, values in lists.items():
            for value in values:
                config = Config({**best, name: value})
                fewer = kernel.work(problem, config, gpu).programs <= kernel.work(problem, best, gpu).programs
                if fewer and kernel.reject(problem, config, gpu) is None:
                    best = config
    return best
