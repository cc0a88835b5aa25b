"""Finalists against the incumbent, interleaved there and back (ABBA) until a confidence bound decides.

Entry 0 is the incumbent. Passes alternate in direction, so that two of them cancel a drift of the device; one block is
two passes. What is judged are the logarithms of time ratios within a block.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

LOOKS = (8, 16, 32, 64)
"""Blocks after which the race is judged; the last one ends it."""
ERROR = 0.05
"""Chance that a race of equals promotes anything, over all looks and challengers together (Bonferroni)."""
LEAST_GAIN = 0.005
"""Smaller gains are not worth a row's change, however certain."""
_TRIM = 0.2

Ask = Callable[[Sequence[int], int], Sequence[Sequence[float]]]
"""(entries, passes) -> microseconds of each entry, pass by pass, taken interleaved."""


@dataclass(frozen=True)
class GainInterval:
    """A gain as a fraction of the incumbent's time, with its confidence bounds."""

    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class RaceResult:
    """`gains[i]` is entry i's against the incumbent, [0] of the incumbent against itself: the noise floor."""

    winner: int
    gains: tuple[GainInterval, ...]
    samples_us: tuple[tuple[float, ...], ...]
    decided: bool
    """A bound decided; else the blocks ran out."""

    @property
    def floor(self) -> float:
        return self.gains[0].high

    @property
    def reason(self) -> str:
        best = max(self.gains[1:], key=lambda interval: interval.gain, default=None)
        if self.winner:
            won = self.gains[self.winner]
            return f"promoted: {won.gain:.1%} faster than the incumbent ({won.low:.1%} to {won.high:.1%})"
        if best is None:
            return "kept: nothing raced against it"
        return f"kept: best challenger {best.gain:+.1%} ({best.low:+.1%} to {best.high:+.1%}), floor {self.floor:.1%}"


def race(ask: Ask, entries: int, looks: Sequence[int] = LOOKS) -> RaceResult:
    """Runs and judges; entries that cannot win any more are asked no further."""
    samples: list[list[float]] = [[] for _ in range(entries)]
    live = list(range(1, entries))
    gains: list[GainInterval] = [GainInterval(0.0, -math.inf, math.inf)] * entries
    confidence = 1 - ERROR / (len(looks) * max(1, entries - 1))
    for blocks in looks:
        asked = [0, *live]
        passes = 2 * blocks - len(samples[0])
        for entry, times in zip(asked, ask(asked, passes), strict=True):
            samples[entry] += times
        gains[0] = noise_floor(samples[0], confidence)
        for entry in live:
            gains[entry] = gain_over(samples[0], samples[entry], confidence)
        live = [entry for entry in live if gains[entry].high > LEAST_GAIN]
        winners = [entry for entry in live if promotable(gains[entry], gains[0].high)]
        if len(winners) == len(live):
            break
    winner = max(winners, key=lambda entry: gains[entry].gain, default=0)
    return RaceResult(winner, tuple(gains), tuple(map(tuple, samples)), len(winners) == len(live))


def promotable(gain: GainInterval, floor: float) -> bool:
    return gain.low > 0 and gain.gain > max(floor, LEAST_GAIN)


def gain_over(base: Sequence[float], other: Sequence[float], confidence: float) -> GainInterval:
    """Return the gain of `other` over `base` with one-sided bounds at `confidence`; both sampled in the same passes."""
    logs = [math.log(mine / theirs) for mine, theirs in zip(base, other, strict=False)]
    middle, half = trimmed(_blocks(logs), confidence)
    return GainInterval(1 - math.exp(-middle), 1 - math.exp(half - middle), 1 - math.exp(-middle - half))


def noise_floor(times: Sequence[float], confidence: float) -> GainInterval:
    """Return the gain of an entry over itself by the same test: 0, within its own scatter."""
    # Signs alternate block by block, so that a drift cancels; a difference of two samples scatters by sqrt 2 more.
    logs = [math.log(us) for us in times]
    pairs = [(-1) ** (i // 2) * (logs[i] - logs[i + 1]) / math.sqrt(2) for i in range(0, len(logs) - 1, 2)]
    _, half = trimmed(pairs, confidence)
    return GainInterval(0.0, 1 - math.exp(half), 1 - math.exp(-half))


def trimmed(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """20 % trimmed mean and the half width of its interval (Tukey and McLaughlin 1963): spikes do not move it."""
    ordered = sorted(values)
    cut = int(_TRIM * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    if len(kept) < 3:
        return statistics.fmean(kept or ordered), math.inf
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = statistics.stdev(winsorized) / ((1 - 2 * _TRIM) * math.sqrt(len(ordered)))
    return statistics.fmean(kept), student(confidence, len(kept) - 1) * error


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun 26.7.5); 4 or more."""
    z = NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _blocks(logs: Sequence[float]) -> list[float]:
    return [(logs[i] + logs[i + 1]) / 2 for i in range(0, len(logs) - 1, 2)]
