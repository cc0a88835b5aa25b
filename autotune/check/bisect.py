"""The first release that makes one call worse, by halving the releases between a good and a bad one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autotune.check import releases
from autotune.check.builder import Builder
from autotune.check.call import CheckedCall
from autotune.check.compilers import named
from autotune.check.triage import Pair, Verdict, triage
from autotune.errors import UsageError
from autotune.toolchain import order

_PACKAGES = {"triton": "triton", "ptxas": "nvidia-cuda-nvcc"}


@dataclass(frozen=True)
class BisectStep:
    """One release that was built, and its worst verdict against the good one."""

    release: str
    verdict: Verdict


@dataclass(frozen=True)
class Bisection:
    """`first_bad` and the good release right before it, both built; None where the bad one is no worse."""

    first_bad: str | None
    last_good: str
    steps: tuple[BisectStep, ...]


def bisect(releases: Sequence[str], compare: Callable[[str, str], Verdict]) -> Bisection:
    """`releases` from the good to the bad one, oldest first; one is bad when it regresses against the good one."""
    steps: list[BisectStep] = []

    def is_bad(index: int) -> bool:
        steps.append(BisectStep(releases[index], compare(releases[0], releases[index])))
        return steps[-1].verdict.is_regression

    low, high = 0, len(releases) - 1
    if not is_bad(high):
        return Bisection(None, releases[high], tuple(steps))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_bad(middle) else (middle, high)
    return Bisection(releases[high], releases[low], tuple(steps))


def releases_between(good: str, bad: str) -> list[str]:
    """`triton==3.7.1`, ... of every release from `good` to `bad`, ends included. Raises UsageError."""
    (package, first), (other, last) = (spec.partition("==")[::2] for spec in (good, bad))
    if package != other or package not in _PACKAGES or not first or not last:
        raise UsageError(f"--good {good!r} and --bad {bad!r} must name two releases of one compiler, as triton==3.8.0")
    lowest, highest = order(first), (*order(last), *([9999] if last.count(".") < 2 else []))
    found = [v for v in releases.versions(_PACKAGES[package]) if lowest <= order(v) <= highest]
    if len(found) < 2:
        raise UsageError(f"--good {good} must be older than --bad {bad}, both released")
    return [f"{package}=={version}" for version in found]


def comparing(call: CheckedCall, builder: Builder) -> Callable[[str, str], Verdict]:
    """The worst verdict on `call` between two releases, each fetched where it is not there yet."""

    def compare(good: str, bad: str) -> Verdict:
        before, after = (
            builder.builds(named(release, builder.state), [call])[call.signature] for release in (good, bad)
        )
        (pair,) = builder.with_loops([Pair(before, after, call.device, call.programs)])
        return triage(pair)[0]

    return compare
