"""Tasks that steps give to worker processes, as sessions do: compile, check, time; failures come back as values."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autotune import registry
from autotune.config import Problem, describe, key
from autotune.errors import AutotuneError
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.workers.process import Lost
from autotune.tuning.workers.worker import Job, Limits, Workers
from benchmarks.gpu_run.context import Context, OutOfTime

_CALL_S = 45.0
"""One check or measurement: drawing and the float64 reference take seconds, what takes longer hangs."""
_MEASURE_GB = 48.0
"""CUDA and ROCm map memory that they never touch, and references are computed in float64."""


@dataclass(frozen=True)
class Default:
    """A kernel's default config on one of the problems of its search space."""

    kernel: Kernel[Any]
    problem: Problem
    device: str
    part: str
    """`check`: small problems that configs are proved on; `compile`: those of the models."""

    @cached_property
    def job(self) -> Job:
        from autotune import device as devices

        config = self.kernel.default(self.problem, devices.named(self.device))
        return Job(self.kernel.name, key(self.problem), config, self.device)

    @property
    def unit(self) -> str:
        return f"{self.kernel.name} {describe(self.problem)}"

    def told(self) -> dict[str, Any]:
        """Fields of the call in every line of results."""
        return {"kernel": self.job.kernel, "problem": dict(self.job.problem), "config": dict(self.job.config)}


def defaults(context: Context, part: str) -> Iterator[tuple[str, Default]]:
    """(unit, default) of the first problem of every kernel, then of the second ones: little time sees every kernel."""
    kernels = [registry.load(name) for name in context.kernels]
    problems = [getattr(space.load(kernel, context.device), part) for kernel in kernels]
    for row in itertools.zip_longest(*problems):
        for kernel, problem in zip(kernels, row, strict=True):
            if problem is None:
                continue
            default = Default(kernel, problem, context.device.name, part)
            if kernel.reject(problem, default.job.config, context.device) is None:
                yield default.unit, default


def model_sizes(context: Context) -> str:
    """Which problems stand for the models' sizes: the stand-in's CPU is too slow for the real ones."""
    return "check" if context.is_rehearsal else "compile"


def lane(context: Context) -> Workers:
    """The one process that the GPU is measured from."""
    limits = Limits(processes=1, timeout_s=_CALL_S, memory_gb=_MEASURE_GB)
    return Workers(limits, context.state, interpret=context.is_rehearsal)


def compilers(context: Context) -> Workers:
    """Processes that compile while others measure: two cores stay free."""
    return Workers(Limits(processes=max(1, len(os.sched_getaffinity(0)) - 2)), context.state)


def ask(context: Context, workers: Workers, task: Callable[[Any], Any], argument: Any) -> dict[str, Any]:  # noqa: ANN401
    """The answer of `task`, or a failure in its form. Raises OutOfTime where the step has to end before it comes."""
    try:
        answer: dict[str, Any] = workers.submit(task, argument).result(timeout=max(0.1, context.left()))
    except TimeoutError:
        raise OutOfTime from None
    except Lost as lost:
        return {"failed": "measure", "kind": lost.kind, "reason": str(lost)}
    except AutotuneError as error:  # a machine that cannot measure this, not the config
        return {"failed": "measure", "kind": "error", "reason": f"{type(error).__name__}: {error}"}
    return answer
