"""Joint tuning along one size: fewest configs that serve all of it, crossovers found by measuring, regret stated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autotune.config import Config

TOLERANCE = 0.01
"""A config may serve a size where another is this much faster: half of what one race of noise 2 % can tell apart."""
Ask = Callable[[int, Sequence[Config]], Mapping[Config, float]]
"""(size, configs) -> microseconds of those that are allowed and right there, measured interleaved."""

Probes = Callable[[Config, int, int], Iterable[int]]


def no_probes(config: Config, low: int, high: int) -> Iterable[int]:
    return ()


@dataclass(frozen=True)
class Span:
    """Sizes low to high, ends included, served by one config."""

    config: Config
    low: int
    high: int
    regret: float
    """Slowest measured size against the best config measured there, as a fraction; infinite: one is not served."""
    measured: tuple[int, ...]
    """Sizes at which that was measured: both ends among them."""


@dataclass
class Times:
    """Microseconds by size and config; what is asked twice is measured once."""

    ask: Ask
    known: dict[int, dict[Config, float]] = field(default_factory=dict)
    asked: set[tuple[int, Config]] = field(default_factory=set)

    def at(self, size: int, configs: Sequence[Config]) -> Mapping[Config, float]:
        if any((size, config) not in self.asked for config in configs):
            # All of them again: only times of one interleaved measurement may be compared.
            together = list(dict.fromkeys([*self.known.get(size, {}), *configs]))
            self.known[size] = dict(self.ask(size, together))
            self.asked |= {(size, config) for config in together}
        return self.known.get(size, {})

    def regret(self, config: Config, size: int) -> float:
        """Infinite where the config cannot serve the size."""
        here = self.known.get(size, {})
        return here[config] / min(here.values()) - 1 if config in here else math.inf


def spans(sizes: Sequence[int], configs: Sequence[Config], times: Times, probes: Probes = no_probes) -> list[Span]:
    """Covers the smallest to the largest of `sizes`, as far as the configs can serve them; `sizes` are sorted.

    `probes` names sizes inside a span that are measured too before its regret is stated: tails of its tiles.
    """
    for size in sizes:
        times.at(size, configs)
    runs = cover(sizes, configs, times)
    found: list[Span] = []
    for i, (config, first, last) in enumerate(runs):
        follows = i > 0 and runs[i - 1][2] + 1 == first
        low = found[-1].high + 1 if follows else sizes[first]
        high = sizes[last]
        if i + 1 < len(runs) and runs[i + 1][1] == last + 1:
            high = crossover(high, sizes[last + 1], (config, runs[i + 1][0]), times)
        for size in (low, *probes(config, low, high), high):
            times.at(size, configs)
        inside = tuple(size for size in sorted(times.known) if low <= size <= high)
        found.append(Span(config, low, high, max(times.regret(config, size) for size in inside), inside))
    return found


def cover(
    sizes: Sequence[int], configs: Sequence[Config], times: Times, tolerance: float = TOLERANCE
) -> list[tuple[Config, int, int]]:
    """(config, first, last index of sizes): always the config that reaches farthest, which gives the fewest runs.

    Where none is within the tolerance, the best one serves its size alone; sizes that nothing serves are left out.
    """
    found: list[tuple[Config, int, int]] = []
    first = 0
    while first < len(sizes):
        reach = {config: _reach(config, sizes, first, times, tolerance) for config in configs}
        best = max(configs, key=lambda config: (reach[config], -times.regret(config, sizes[first])))
        if times.regret(best, sizes[first]) < math.inf:
            found.append((best, first, max(first, reach[best])))
        first = max(first, reach[best]) + 1
    return found


def crossover(low: int, high: int, pair: tuple[Config, Config], times: Times) -> int:
    """The last size that the left config serves; it is chosen at `low`, the right one at `high`.

    Halving ends where either could serve the other's end within the tolerance: a smooth crossing takes few steps, a
    jump (one more wave, a size that one of them cannot run) is located to the size.
    """
    left, right = pair
    while high - low > 1:
        if _loses(right, left, times.known[low]) <= TOLERANCE:
            return low
        if _loses(left, right, times.known[high]) <= TOLERANCE:
            return high - 1
        middle = min(max(round(math.sqrt(low * high)), low + 1), high - 1)
        if _loses(left, right, times.at(middle, pair)) <= 0:
            low = middle
        else:
            high = middle
    return low


def _loses(config: Config, other: Config, here: Mapping[Config, float]) -> float:
    """How much slower `config` is than `other`; infinite where it cannot run, 0 where neither can."""
    if config not in here:
        return math.inf if other in here else 0.0
    return here[config] / here.get(other, math.inf) - 1


def _reach(config: Config, sizes: Sequence[int], first: int, times: Times, tolerance: float) -> int:
    last = first - 1
    while last + 1 < len(sizes) and times.regret(config, sizes[last + 1]) <= tolerance:
        last += 1
    return last
