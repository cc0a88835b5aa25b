"""Throughput of one engine that prefills and decodes on the same GPUs, from the times of its two kinds of step.

Of C requests each gets an answer of O tokens in O decode steps, and C requests are prefilled meanwhile, one at a time,
or one on each rank where attention is data-parallel: a cycle of O decode steps and C / at_once prefill steps, in which
C (I + O) tokens of prompts and answers are served. Nothing else takes time: the engine is assumed perfect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autotune.estimate.time_range import TimeRange
from autotune.workload.scenario import Parallelism, Scenario


@dataclass(frozen=True)
class Load:
    """Requests in flight, and what shape of engine serves them."""

    concurrency: int
    input_tokens: int
    output_tokens: int
    gpus: int
    prefilled_at_once: int
    """Requests that one prefill step serves."""

    @classmethod
    def of(cls, scenario: Scenario, parallelism: Parallelism, concurrency: int) -> Load:
        ranks = max(parallelism.tensor, parallelism.expert)
        at_once = parallelism.tensor if parallelism.data_attention else 1
        return cls(concurrency, scenario.input_tokens, scenario.output_tokens, ranks, min(at_once, concurrency))

    @property
    def prefill_steps(self) -> float:
        """Prefill steps in a cycle."""
        return self.concurrency / self.prefilled_at_once

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers in a cycle."""
        return self.concurrency * (self.input_tokens + self.output_tokens)


@dataclass(frozen=True)
class Interval:
    """A figure with its range; the longest times give the least throughput."""

    least: float
    value: float
    most: float


@dataclass(frozen=True)
class Throughput:
    """Figures of a load under given step times."""

    tokens_per_s_per_gpu: Interval
    """Tokens of prompts and answers a second and GPU, as InferenceX counts them."""
    tokens_per_s_per_user: Interval
    """Tokens a second that one request sees once its answer began: 1 / TPOT, stalls by others' prefill included."""
    prefill_share: float
    """Share of a cycle that prefill steps take, at the modeled times."""


def throughput(load: Load, decode: TimeRange, prefill: TimeRange) -> Throughput:
    """Return the figures of `load` with decode and prefill steps that take these times, collectives included."""
    return Throughput(
        _interval(lambda d, p: load.tokens / (cycle_us(load, d, p) * 1e-6) / load.gpus, decode, prefill),
        _interval(lambda d, p: 1e6 / (d + stall_us(load, p)), decode, prefill),
        load.prefill_steps * prefill.us / cycle_us(load, decode.us, prefill.us),
    )


def cycle_us(load: Load, decode_us: float, prefill_us: float) -> float:
    """Return the microseconds in which each request in flight is answered once."""
    return load.output_tokens * decode_us + load.prefill_steps * prefill_us


def stall_us(load: Load, prefill_us: float) -> float:
    """Return the microseconds by which others' prefills delay each token of a request; its own came before."""
    return (load.prefill_steps - 1) * prefill_us / load.output_tokens


def _interval(figure: Callable[[float, float], float], decode: TimeRange, prefill: TimeRange) -> Interval:
    value, least, most = (
        figure(d, p)
        for d, p in (
            (decode.us, prefill.us),
            (decode.most_us, prefill.most_us),
            (decode.least_us, prefill.least_us),
        )
    )
    return Interval(least, value, most)
