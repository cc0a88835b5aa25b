"""A time with the range that its model promises; sums add the ends, as errors of one model need not cancel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TimeRange:
    """Microseconds: the modeled time, and the least and most that the truth is expected to be."""

    least_us: float
    us: float
    most_us: float

    @classmethod
    def within(cls, us: float, spread: float) -> TimeRange:
        """Return [us / spread, us * spread] around `us`."""
        return cls(us / spread, us, us * spread)

    @classmethod
    def exact(cls, us: float) -> TimeRange:
        """Return a range of one point, such as a roofline bound, which is a definition and no prediction."""
        return cls(us, us, us)

    def __add__(self, other: TimeRange) -> TimeRange:
        return TimeRange(self.least_us + other.least_us, self.us + other.us, self.most_us + other.most_us)

    def __mul__(self, times: float) -> TimeRange:
        return TimeRange(self.least_us * times, self.us * times, self.most_us * times)

    @property
    def ends(self) -> tuple[float, float, float]:
        """(least, modeled, most), in microseconds."""
        return self.least_us, self.us, self.most_us


ZERO = TimeRange.exact(0.0)


def total(ranges: Iterable[TimeRange]) -> TimeRange:
    """Return the sum. Its ends are the sums of the ends: all predictions come from one model and may err alike."""
    return sum(ranges, ZERO)
