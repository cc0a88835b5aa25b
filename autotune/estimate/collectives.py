"""Collectives of one step and their times, modeled from link figures: nothing of them is measured.

A collective takes a latency, and the bytes that each GPU sends over its link. Bytes by NCCL's own accounting
(nccl-tests, PERFORMANCE.md): an all-reduce of S bytes on n ranks sends 2 (n - 1) / n S from each, an all-gather or a
reduce-scatter (n - 1) / n S, an all-to-all (n - 1) / n of what a rank holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autotune.device import Device
from autotune.estimate.links import Link, link
from autotune.estimate.time_range import TimeRange
from autotune.workload.model import Model
from autotune.workload.scenario import Parallelism, Step

LATENCY_US = 7.2
"""A collective of no bytes: base latency of NCCL's ring with the LL protocol, 6.6 us, and one hop over NVLink, 0.6 us
(`ncclTunerConstantsDefaults` in NCCL's src/tuning/cost_model.cc). One hop, as engines reduce small messages in one
shot; a ring of eight would take 14. Taken for Infinity Fabric too, for want of a figure."""
EFFICIENCY = 0.8
"""Share of a link's peak that a large collective reaches: an estimate without a source."""
SPREAD = 2.0
"""The truth is expected within this factor: no collective was measured here."""
_BF16 = 2
_FP8 = 1 + 4 / 128
"""Bytes of an element with its share of the scale of 128."""


@dataclass(frozen=True)
class Collective:
    """`per_step` collectives of one kind over `ranks`, each of `sent_bytes` from every GPU."""

    kind: str
    place: str
    ranks: int
    sent_bytes: float
    per_step: int


@dataclass(frozen=True)
class CollectiveTime:
    """All collectives of one place in a step."""

    collective: Collective
    time: TimeRange
    bound_us: float
    """The bytes at the link's peak, and no latency."""


def collective_times(model: Model, parallelism: Parallelism, step: Step, device: Device) -> tuple[CollectiveTime, ...]:
    """Return the collectives of one step with their times. Raises UsageError where no link figure is known."""
    ranks = max(parallelism.tensor, parallelism.expert)
    if ranks == 1:
        return ()
    joined = link(device, ranks)
    return tuple(_timed(each, joined) for each in collectives(model, parallelism, step))


def collectives(model: Model, parallelism: Parallelism, step: Step) -> Iterator[Collective]:
    """Yield the collectives of one step, as SGLang places them.

    Split attention: an all-reduce after each half of a layer (also where ranks own whole experts, as all ranks hold all
    tokens), one of the embedding, and logits are gathered.
    Data-parallel attention: tokens are gathered before the experts and their sums scattered after, or, where ranks own
    whole experts, each choice of a token travels to its expert's rank in FP8 and back in bf16.
    """
    layers, hidden = model.num_hidden_layers, model.hidden_size
    ways = parallelism.tensor
    if not parallelism.data_attention:
        row = step.tokens * hidden * _BF16
        yield Collective("all-reduce", "attention and experts", ways, _reduced(ways) * row, 2 * layers)
        yield Collective("all-reduce", "embedding", ways, _reduced(ways) * row, 1)
        logits = step.requests * model.vocab_size * _BF16
        yield Collective("all-gather", "logits", ways, _kept(ways) * logits, 1)
        return
    experts = model.moe_layers
    if parallelism.expert > 1:
        ranks = parallelism.expert
        choices = step.tokens * model.num_experts_per_tok * hidden
        yield Collective("all-to-all", "dispatch", ranks, _kept(ranks) * choices * _FP8, experts)
        yield Collective("all-to-all", "combine", ranks, _kept(ranks) * choices * _BF16, experts)
        return
    gathered = step.tokens * ways * hidden * _BF16
    yield Collective("all-gather", "tokens to experts", ways, _kept(ways) * gathered, experts)
    yield Collective("reduce-scatter", "experts' sums", ways, _kept(ways) * gathered, experts)


def _reduced(ranks: int) -> float:
    return 2 * (ranks - 1) / ranks


def _kept(ranks: int) -> float:
    return (ranks - 1) / ranks


def _timed(collective: Collective, joined: Link) -> CollectiveTime:
    at_peak_us = collective.sent_bytes / (joined.gb_s * 1e3)
    time = TimeRange.within(LATENCY_US + at_peak_us / EFFICIENCY, SPREAD)
    return CollectiveTime(collective, time * collective.per_step, at_peak_us * collective.per_step)
