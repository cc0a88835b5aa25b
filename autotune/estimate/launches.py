"""Launches of one step of a model on a device, by kernel, at default configs."""

from __future__ import annotations

from collections import Counter

from autotune import registry
from autotune.device import Device
from autotune.estimate.call_times import OWN_ALIGNMENT
from autotune.tuning.counted_work import work_of
from autotune.workload.calls import calls
from autotune.workload.model import Model
from autotune.workload.rank import problem_of
from autotune.workload.scenario import Parallelism, Scenario


def launches_of_step(
    model: Model, scenario: Scenario, parallelism: Parallelism, device: Device, phase: str
) -> Counter[str]:
    """Return the launches of all steps of `phase` in `scenario`, by kernel. Both samplers of the head are counted."""
    launches: Counter[str] = Counter()
    for call in calls(model, scenario, parallelism, device):
        if call.phase == phase:
            kernel = registry.load(call.kernel)
            problem = problem_of(call, kernel, device)
            work = work_of(kernel, problem, kernel.default(problem, device), device)
            launches[call.kernel] += call.per_step * (work.launches - OWN_ALIGNMENT.get(call.kernel, 0))
    return launches
