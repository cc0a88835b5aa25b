"""One forward step on one rank, by hot path: default config, tuned config, and roofline bound of every call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from autotune import registry, runtime
from autotune.config import Config, Problem, values
from autotune.device import Device
from autotune.estimate.call_times import CallTime, default_and_sample, fastest
from autotune.estimate.time_range import TimeRange, total
from autotune.tuning import space
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.workload.model import Model
from autotune.workload.rank import Call, Rank, problem_of
from autotune.workload.scenario import Parallelism, Step

if TYPE_CHECKING:
    from autotune.kernel import Kernel

SAMPLE = 256
"""Configs among which the model's best is looked for where no row serves: with a chance of 92 % one of them is among
the best 1 % of its space, as 1 - 0.99^256."""


@dataclass(frozen=True)
class CallEstimate:
    """Times of one launch of a kernel's launcher on one problem."""

    default: TimeRange
    tuned: TimeRange
    bound_us: float
    """The roofline: no launch, ideal caches, peak rates."""
    launches: int
    """Launches of the tuned config."""
    launching_us: float
    """Part of `tuned` that launches take."""
    tier: str
    """Tier of the row that serves the problem; `no row` where none does, and the model's best of a sample was taken."""
    choice: runtime.Choice
    """The row, or why there is none."""
    config: Config
    """The config of `tuned`."""
    terms: tuple[tuple[str, float], ...]
    """(name, us) of each resource under `config`, modeled as if it alone bound the call."""


@dataclass(frozen=True)
class StepCall:
    """Calls of one place in a step, and the estimate of one of them."""

    call: Call
    problem: Problem
    estimate: CallEstimate


@dataclass(frozen=True)
class PathEstimate:
    """All calls of one hot path in a step."""

    number: int
    default: TimeRange
    tuned: TimeRange
    bound_us: float
    launches: int
    launching_us: float
    tiers: tuple[tuple[str, int], ...]
    """(tier, calls of that tier), the most frequent first."""


@dataclass(frozen=True)
class StepEstimate:
    """One step of a phase on one rank, kernels only."""

    step: Step
    calls: tuple[StepCall, ...]

    @cached_property
    def paths(self) -> tuple[PathEstimate, ...]:
        return _by_path(self.calls)

    @property
    def default(self) -> TimeRange:
        return total(path.default for path in self.paths)

    @property
    def tuned(self) -> TimeRange:
        return total(path.tuned for path in self.paths)

    @property
    def bound_us(self) -> float:
        return sum(path.bound_us for path in self.paths)

    @property
    def launches(self) -> int:
        return sum(path.launches for path in self.paths)

    @property
    def launching_us(self) -> float:
        """Part of `tuned` that launches take."""
        return sum(path.launching_us for path in self.paths)


def step_times(
    model: Model, parallelism: Parallelism, device: Device, steps: Sequence[Step], sample: int = SAMPLE
) -> list[StepEstimate]:
    """Estimate `steps`, each distinct problem once. Raises TableError for a table that is not whole.

    `sample`: configs among which the model's best is looked for where no row serves; with 0 the default config counts.
    """
    calls = {
        step: [
            (call, problem_of(call, registry.load(call.kernel), device))
            for call in step_calls(model, parallelism, device, step)
        ]
        for step in steps
    }
    wanted: dict[str, dict[Problem, None]] = defaultdict(dict)
    for of_step in calls.values():
        for call, problem in of_step:
            wanted[call.kernel][problem] = None
    times = {
        (name, problem): estimate
        for name, problems in wanted.items()
        for problem, estimate in call_estimates(registry.load(name), list(problems), device, sample).items()
    }
    return [
        StepEstimate(step, tuple(StepCall(call, problem, times[call.kernel, problem]) for call, problem in of_step))
        for step, of_step in calls.items()
    ]


def step_calls(model: Model, parallelism: Parallelism, device: Device, step: Step) -> list[Call]:
    """Return the calls of layers and head on one rank.

    Draft layers (MTP) run only where an engine speculates, which is not assumed, and of the two samplers a request asks
    for one: greedy is taken.
    """
    return [
        call
        for call in model.calls(Rank(model, parallelism, device, step))
        if not call.op.startswith("mtp.") and call.kernel != "sampling/top_k_top_p"
    ]


def _by_path(calls: Iterable[StepCall]) -> tuple[PathEstimate, ...]:
    paths: dict[int, list[tuple[int, CallEstimate]]] = defaultdict(list)
    for each in calls:
        paths[each.call.path].append((each.call.per_step, each.estimate))
    return tuple(_path(number, paths[number]) for number in sorted(paths))


def _path(number: int, calls: Sequence[tuple[int, CallEstimate]]) -> PathEstimate:
    tiers: Counter[str] = Counter()
    for times, estimate in calls:
        tiers[estimate.tier] += times
    return PathEstimate(
        number,
        total(estimate.default * times for times, estimate in calls),
        total(estimate.tuned * times for times, estimate in calls),
        sum(estimate.bound_us * times for times, estimate in calls),
        sum(estimate.launches * times for times, estimate in calls),
        sum(estimate.launching_us * times for times, estimate in calls),
        tuple(tiers.most_common()),
    )


def call_estimates(
    kernel: Kernel[Any],
    problems: Sequence[Problem],
    device: Device,
    sample: int = SAMPLE,
    lookup: runtime.Lookup | None = None,
) -> dict[Problem, CallEstimate]:
    """Estimate each problem; `sample` as in `step_times`, `lookup` in place of the runtime's own.

    Raises TableError for a table that is not whole.
    """
    rows = lookup if lookup is not None else runtime.lookup(kernel, device)
    served = {problem: rows[values(problem)] for problem in problems}
    defaults = fastest(kernel, {problem: [kernel.default(problem, device)] for problem in problems}, device)
    candidates = {
        problem: [choice.config]
        if choice.row
        else [kernel.default(problem, device), *_sampled(kernel, problem, device, sample)]
        for problem, choice in served.items()
    }
    tuned = fastest(kernel, candidates, device)
    return {
        problem: CallEstimate(
            default=_range(defaults[problem]),
            tuned=_measured(choice) or _range(tuned[problem]),
            bound_us=roofline_us(kernel, problem, device),
            launches=tuned[problem].launches,
            launching_us=tuned[problem].launches * tuned[problem].launch_us,
            tier=choice.tier if choice.row else "no row",
            choice=choice,
            config=tuned[problem].config,
            terms=tuned[problem].terms,
        )
        for problem, choice in served.items()
    }


def _sampled(kernel: Kernel[Any], problem: Problem, device: Device, sample: int) -> list[Config]:
    return default_and_sample(kernel, problem, device, _space(kernel, device), sample)[1:] if sample else []


@cache
def _space(kernel: Kernel[Any], device: Device) -> space.Space:
    return space.load(kernel, device)


def _range(time: CallTime) -> TimeRange:
    return TimeRange.within(time.us, time.spread)


def _measured(choice: runtime.Choice) -> TimeRange | None:
    """Return the measured time of the very problem, launch included; None where it was modeled or is a neighbour's."""
    row = choice.row
    us = row.evidence.get("us") if row and row.tier == "measured" and choice.how == "exact" else None
    return TimeRange.exact(us) if isinstance(us, int | float) else None
