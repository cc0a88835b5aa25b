"""Work of any kernel's calls: its own formula, or counts of the interpreter where the kernel has none.

A count takes about a second, so a few configs of a space are counted, on inputs of moderate size, and kept on disk.
For the others each figure of a program is taken as a product of powers of the parameters, fitted to those counts; the
number of programs is always that of the launcher's own grid.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from autotune import device as devices
from autotune import registry
from autotune.config import Config, P, Problem, Scalar, build, describe, key, resized
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel, Work
from autotune.state import Cache, state_root
from autotune.tuning import space
from autotune.tuning.arrays import Floats
from autotune.tuning.compilation.launch import launches, meta_inputs
from autotune.tuning.workers.process import Lost
from autotune.tuning.workers.worker import Job, Limits, Workers

COUNTED = 12
"""Configs of one problem that are counted."""
_LARGEST_INPUT = 2**26
"""Bytes of all inputs that a count draws: a larger problem is counted at fewer rows."""
_FITTED = ("flops_per_program", "bytes_per_program", "iterations", "reduction_bytes")
"""Figures of `Work` that follow from the parameters by powers."""


def work_of(kernel: Kernel[P], problem: P, config: Config, device: Device) -> Work:
    """Return the work of one call. Raises UsageError where the kernel has no formula and cannot be counted."""
    if kernel.formula is not None:
        return kernel.formula(problem, config, device)
    if os.environ.get("TRITON_INTERPRET") == "1":
        return _count(kernel, problem, config, device)
    return _counts(kernel, problem, device).work(config)


def flops_and_bytes(kernel: Kernel[P], problem: P, device: Device) -> tuple[float, float]:
    """Return the flops of a problem and the bytes that must cross DRAM: its own words, else those of the default."""
    flops, moved = getattr(problem, "flops", None), getattr(problem, "bytes_moved", None)
    if flops is None or moved is None:
        work = work_of(kernel, problem, kernel.default(problem, device), device)
        flops = work.programs * work.flops_per_program if flops is None else flops
        moved = work.unique_bytes if moved is None else moved
    return float(flops), float(moved)


@dataclass(frozen=True)
class _Counts:
    """Counts of one problem on one device."""

    kernel: Kernel[Any]
    problem: Problem
    device: Device
    works: Mapping[Config, Work]
    """By the parameters that device code sees; launch options change no count."""

    def work(self, config: Config) -> Work:
        seen = _seen(self.kernel, config)
        grid = launches(self.kernel, self.problem, config, self.device)[0].grid
        counted = self.works.get(seen)
        if counted is not None:
            return replace(counted, programs=math.prod(grid))
        first = next(iter(self.works.values()))
        return replace(first, programs=math.prod(grid), **self._fitted(seen))

    def _fitted(self, config: Config) -> dict[str, Any]:
        rows = np.array([_logs(counted, self.names) for counted in self.works])
        wanted = _logs(config, self.names)
        found = {name: self._figure(name, rows, wanted) for name in _FITTED}
        return {**found, "iterations": max(1, round(found["iterations"]))}

    def _figure(self, name: str, rows: Floats, wanted: Floats) -> float:
        known = np.array([float(getattr(work, name)) for work in self.works.values()])
        if not known.all():
            return float(known.min() if not known.any() else np.median(known))
        powers, *_ = np.linalg.lstsq(rows, np.log2(known), rcond=None)
        return float(2.0 ** np.clip(wanted @ powers, *np.log2([known.min() / 16, known.max() * 16])))

    @property
    def names(self) -> Sequence[str]:
        return sorted({name for config in self.works for name in config})


def _logs(config: Config, names: Sequence[str]) -> Floats:
    values = [config.get(name, 0) for name in names]
    return np.array([1.0, *(0.0 if isinstance(value, str) else math.log2(int(value) + 1) for value in values)])


def _seen(kernel: Kernel[Any], config: Config) -> Config:
    return Config({name: value for name, value in config.items() if name in kernel.constexprs})


@cache
def _counts(kernel: Kernel[Any], problem: Problem, device: Device) -> _Counts:
    """Counts of some configs of the kernel's space, the default first. Raises UsageError."""
    default = kernel.default(problem, device)
    feasible = space.feasible(space.load(kernel, device), kernel, problem, device)
    distinct = list({_seen(kernel, config): config for config in (*feasible, default)}.items())[::-1]
    chosen = dict(distinct[:1] + _spread(distinct[1:], COUNTED - 1))
    small = _smaller(problem, kernel, device)
    scale = _input_bytes(problem) / max(1, _input_bytes(small))
    asked = {seen: Job(kernel.name, key(small), config, device.name) for seen, config in chosen.items()}
    known = Cache(state_root() / "results")
    works: dict[Config, Work] = {}
    reasons: list[str] = []
    missing = {}
    for seen, job in asked.items():
        answer = known.get(*_key(kernel, small, seen, device))
        if answer is None:
            missing[seen] = _workers().submit(count_job, job)
        else:
            works[seen] = Work(**answer)
    for seen, future in missing.items():
        try:
            answer = future.result()
        except Lost as lost:
            answer = {"failed": str(lost)}
        if "failed" in answer:
            reasons.append(answer["failed"])
        else:
            known.put(answer["work"], *_key(kernel, small, seen, device))
            works[seen] = Work(**answer["work"])
    if not works:
        raise UsageError(
            f"{kernel.name} {describe(small)} cannot be counted ({reasons[0]}); mend the kernel, or give @tunable a "
            "formula of its `work`"
        )
    scaled = {
        seen: replace(works[seen], unique_bytes=works[seen].unique_bytes * scale) for seen in asked if seen in works
    }
    return _Counts(kernel, problem, device, scaled)


def _spread(items: list[tuple[Config, Config]], count: int) -> list[tuple[Config, Config]]:
    """Take `count` items, evenly from the first to the last."""
    if len(items) <= count:
        return items
    return [items[at] for at in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _smaller(problem: Problem, kernel: Kernel[Any], device: Device) -> Problem:
    """`problem`, or one with fewer of what varies whose inputs the interpreter can hold."""
    name = problem.VARYING[0]
    while _input_bytes(problem) > _LARGEST_INPUT and getattr(problem, name) > 1:
        less = resized(problem, name, getattr(problem, name) // 2)
        if less is None or kernel.reject(less, kernel.default(less, device), device) is not None:
            return problem
        problem = less
    return problem


def _input_bytes(problem: Problem) -> int:
    tensors = [value for value in meta_inputs(problem) if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _key(kernel: Kernel[Any], problem: Problem, seen: Mapping[str, Scalar], device: Device) -> tuple[str, ...]:
    return "count", kernel.name, kernel.identity.kernel, describe(problem), str(seen), device.name


@cache
def _workers() -> Workers:
    """Interpreting processes that live as long as this one."""
    workers = Workers(Limits(), state_root(), interpret=True)
    atexit.register(workers.__exit__, None, None, None)
    return workers


def count_job(job: Job) -> dict[str, Any]:
    """`{"work": fields of Work, counted}` or `{"failed": why}`, in the corrected interpreter."""
    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        return {"work": asdict(_count(kernel, problem, job.config, device))}
    except Exception as error:  # mostly out of memory while drawing inputs
        return {"failed": f"{type(error).__name__}: {error}"}


def _count(kernel: Kernel[P], problem: P, config: Config, device: Device) -> Work:
    """Count a call in this process, which interprets: the only one that may import the interpreter."""
    from autotune.tuning.interpreter.counting import count

    counts = count(kernel, problem, config, device)
    said = kernel.formula(problem, config, device).dtype if kernel.formula is not None else counts.dtype
    return counts.work(said)
