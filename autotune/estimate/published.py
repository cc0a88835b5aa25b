"""The decode step that a published throughput leaves time for, beside the step that is modeled."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.estimate.throughput import Load


@dataclass(frozen=True)
class Implied:
    """Decode step that a throughput leaves time for, where prefill takes what is modeled."""

    tokens_per_s_per_gpu: float
    cycle_ms: float
    """Time in which each request in flight is answered once."""
    decode_ms: float
    """Negative where prefill alone, as modeled, takes longer than the cycle."""
    of_bound: float | None
    """Bound of a decode step, collectives included, over `decode_ms`; None where no time is left."""
    of_tuned: float | None
    """Modeled tuned step over `decode_ms`."""
    more_launches: float | None
    """Launches beside those modeled that would fill the rest of the step; None where nothing is left."""


def implied(
    tokens_per_s_per_gpu: float, load: Load, *, tuned_us: float, bound_us: float, prefill_us: float, launch_us: float
) -> Implied:
    """Return the step that `tokens_per_s_per_gpu` implies at `load`; times are of whole steps with collectives."""
    cycle = load.tokens / (tokens_per_s_per_gpu * load.gpus) * 1e6
    decode = (cycle - load.prefill_steps * prefill_us) / load.output_tokens
    rest = decode - tuned_us
    return Implied(
        tokens_per_s_per_gpu,
        cycle / 1e3,
        decode / 1e3,
        bound_us / decode if decode > 0 else None,
        tuned_us / decode if decode > 0 else None,
        rest / launch_us if rest > 0 else None,
    )
