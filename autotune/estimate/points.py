"""Estimates of a model on a device, one for each concurrency: steps, collectives, throughput and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autotune.device import Device
from autotune.errors import UsageError
from autotune.estimate.collectives import CollectiveTime, collective_times
from autotune.estimate.memory import Memory, memory
from autotune.estimate.prices import usd_per_million_tokens
from autotune.estimate.step_times import SAMPLE, StepEstimate, step_calls, step_times
from autotune.estimate.throughput import Interval, Load, Throughput, throughput
from autotune.estimate.time_range import TimeRange, total
from autotune.workload.calls import check
from autotune.workload.model import Model
from autotune.workload.scenario import Parallelism, Scenario, Step, steps


@dataclass(frozen=True)
class WholeStep:
    """Kernels and collectives of one step on one rank."""

    kernels: StepEstimate
    collectives: tuple[CollectiveTime, ...]

    @property
    def communication(self) -> TimeRange:
        return total(each.time for each in self.collectives)

    @property
    def default(self) -> TimeRange:
        return self.kernels.default + self.communication

    @property
    def tuned(self) -> TimeRange:
        return self.kernels.tuned + self.communication

    @property
    def bound_us(self) -> float:
        return self.kernels.bound_us + sum(each.bound_us for each in self.collectives)


@dataclass(frozen=True)
class Point:
    """One concurrency of a scenario."""

    load: Load
    decode: WholeStep
    prefill: WholeStep
    memory: Memory

    @property
    def throughput(self) -> Throughput:
        """Figures with tuned configs."""
        return throughput(self.load, self.decode.tuned, self.prefill.tuned)

    def usd_per_million_tokens(self, usd_per_hour: float) -> Interval:
        """Return the cost of a million tokens of prompts and answers, the least where throughput is the most."""
        tokens = self.throughput.tokens_per_s_per_gpu
        least, value, most = (
            usd_per_million_tokens(usd_per_hour, each) for each in (tokens.most, tokens.value, tokens.least)
        )
        return Interval(least, value, most)


def points(
    model: Model,
    scenario: Scenario,
    parallelism: Parallelism,
    device: Device,
    concurrencies: Sequence[int],
    sample: int = SAMPLE,
) -> list[Point]:
    """Estimate each concurrency; `sample` as in `step_times`.

    Raises UsageError for a split that is not whole, or links that have no figure.
    """
    check(model, parallelism)
    if parallelism.expert not in (1, parallelism.tensor):
        raise UsageError(
            f"--ep {parallelism.expert} with --tp {parallelism.tensor}: whole experts are estimated on the ranks that "
            f"run attention; give --tp {parallelism.expert} --ep {parallelism.expert}"
        )
    asked = replace(scenario, concurrency=tuple(concurrencies), data_concurrency=tuple(concurrencies))
    every = steps(asked, parallelism)
    decoding, chunk = every[: len(concurrencies)], every[-1]
    distinct = list(dict.fromkeys([*decoding, chunk]))
    # First, as it takes no time and may refuse.
    collectives = {step: collective_times(model, parallelism, step, device) for step in distinct}
    kernels = {estimate.step: estimate for estimate in step_times(model, parallelism, device, distinct, sample)}

    def whole(step: Step) -> WholeStep:
        return WholeStep(kernels[step], collectives[step])

    def held(step: Step) -> Memory:
        calls = step_calls(model, parallelism, device, step)
        positions = scenario.input_tokens + scenario.output_tokens
        return memory(model, parallelism, device, calls, step.requests, positions)

    return [
        Point(Load.of(scenario, parallelism, concurrency), whole(step), whole(chunk), held(step))
        for concurrency, step in zip(concurrencies, decoding, strict=True)
    ]
